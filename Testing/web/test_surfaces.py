"""Surfaces of large segmentations: made in a process of their own, where the small ones would be, not too fine."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from vtk.util.numpy_support import vtk_to_numpy

from MAESegmentLib import mrml
from MAESegmentLib.web.surfaces import made_aside
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, labels_for, segmented, volume


@pytest.fixture(autouse=True)
def scene():
    scene = slicer_core.fresh_scene()
    with slicer_core.no_vtk_errors():
        yield scene
    slicer_core.fresh_scene()


def test_another_process_makes_the_same_surfaces(tmp_path):
    node = segmented(volume(GRIDS["oblique, left-handed"]), labels_for((9, 11, 13)))
    bodies = mrml.bodies_of(node)
    assert [body is not None for body in bodies] == [True, True, False]
    parameters = node.GetSegmentation().SerializeAllConversionParameters()
    first, second, nothing = asyncio.run(made_aside(tmp_path / "aside", bodies, parameters))
    assert nothing.GetNumberOfPoints() == 0
    mrml.show_in_3d(node, True)
    for number, surface in enumerate((first, second)):
        own = node.GetSegmentation().GetNthSegment(number).GetRepresentation("Closed surface")
        points, expected = (vtk_to_numpy(one.GetPoints().GetData()) for one in (surface, own))
        np.testing.assert_allclose(points, expected, atol=1e-3)


def test_a_large_surface_has_no_more_triangles_than_can_be_turned(tmp_path):
    k, j, i = np.indices((150, 150, 150)) - 75
    bumpy = np.sqrt(k**2 + j**2 + i**2) + np.sin(k / 4) * np.sin(j / 4) * np.sin(i / 4) < 70
    body = mrml.Body(bumpy.astype(np.uint8), (0, 0, 0), np.eye(4))
    assert mrml.closed_surface(body, "").GetNumberOfPolys() > 150_000
    (surface,) = asyncio.run(made_aside(tmp_path / "aside", [body], ""))
    assert 10_000 < surface.GetNumberOfPolys() <= 150_000
    np.testing.assert_allclose(surface.GetBounds(), (5, 145) * 3, atol=3)
    # It faces outwards everywhere: inside out it would be drawn black.
    points = vtk_to_numpy(surface.GetPoints().GetData()) - 75
    normals = vtk_to_numpy(surface.GetPointData().GetNormals())
    assert ((points * normals).sum(axis=1) > 0).mean() > 0.98
