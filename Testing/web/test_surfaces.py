"""Surfaces of large segmentations: made in a process of their own, where the small ones would be, not too fine."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from MAESegmentLib import mrml
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, labels_for, segmented, volume
from Testing.skips import REPOSITORY


@pytest.fixture(autouse=True)
def scene():
    scene = slicer_core.fresh_scene()
    with slicer_core.no_vtk_errors():
        yield scene
    slicer_core.fresh_scene()


def made_aside(folder, bodies, parameters):
    """As the session does it: files in, files out."""
    (folder / "parameters").write_text(parameters)
    for number, body in enumerate(bodies):
        if body is not None:
            np.savez(folder / f"{number}.npz", voxels=body.voxels, first=body.first, matrix=body.matrix)
    command = [sys.executable, "-m", "MAESegmentLib.web.surface_maker", str(folder)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    reader = vtk.vtkXMLPolyDataReader()
    surfaces = []
    for number, body in enumerate(bodies):
        if body is not None:
            reader.SetFileName(str(folder / f"{number}.vtp"))
            reader.Update()
            surfaces.append(vtk_to_numpy(reader.GetOutput().GetPoints().GetData()).copy())
    return surfaces


def test_another_process_makes_the_same_surfaces(tmp_path):
    scan = volume(GRIDS["oblique, left-handed"])
    node = segmented(scan, labels_for((9, 11, 13)))
    bodies = mrml.bodies_of(node)
    assert [body is not None for body in bodies] == [True, True, False]
    found = made_aside(tmp_path, bodies, node.GetSegmentation().SerializeAllConversionParameters())
    mrml.show_in_3d(node, True)
    for number, points in enumerate(found):
        own = node.GetSegmentation().GetNthSegment(number).GetRepresentation("Closed surface")
        np.testing.assert_allclose(points, vtk_to_numpy(own.GetPoints().GetData()), atol=1e-3)


def test_a_large_surface_has_no_more_triangles_than_can_be_turned(tmp_path):
    k, j, i = np.indices((150, 150, 150)) - 75
    bumpy = np.sqrt(k**2 + j**2 + i**2) + np.sin(k / 4) * np.sin(j / 4) * np.sin(i / 4) < 70
    body = mrml.Body(bumpy.astype(np.uint8), (0, 0, 0), np.eye(4))
    assert mrml.closed_surface(body, "").GetNumberOfPolys() > 150_000
    made_aside(tmp_path, [body], "")
    reader = vtk.vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "0.vtp"))
    reader.Update()
    assert 10_000 < reader.GetOutput().GetNumberOfPolys() <= 150_000
    np.testing.assert_allclose(reader.GetOutput().GetBounds(), (5, 145) * 3, atol=3)
    # It faces outwards everywhere: inside out it would be drawn black.
    points = vtk_to_numpy(reader.GetOutput().GetPoints().GetData()) - 75
    normals = vtk_to_numpy(reader.GetOutput().GetPointData().GetNormals())
    assert ((points * normals).sum(axis=1) > 0).mean() > 0.98
