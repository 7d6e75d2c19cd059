"""Surfaces made one segment at a time are those that Slicer makes at once."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from MAESegmentLib import mrml
from Testing.mrml.nodes import GRIDS, LABELS, TRANSFORMS, imported_by_slicer, labels_for, paint, segmented, volume

SURFACE = "Closed surface"


def points_of(segmentation, label) -> np.ndarray:
    surface = segmentation.GetSegmentation().GetSegment(mrml.segment_id_of(label)).GetRepresentation(SURFACE)
    return vtk_to_numpy(surface.GetPoints().GetData()) if surface.GetNumberOfPoints() else np.empty((0, 3))


def assert_same_surfaces(ours, theirs) -> None:
    for label in LABELS:
        np.testing.assert_allclose(points_of(ours, label), points_of(theirs, label), atol=1e-4)
    assert all(len(points_of(ours, label)) for label in LABELS[:2])


@pytest.fixture
def pair():
    """The same segments, filled by us and imported by Slicer."""
    node = volume(GRIDS["oblique, left-handed"], TRANSFORMS["nested"])
    return segmented(node, labels_for((9, 11, 13))), imported_by_slicer(node, labels_for((9, 11, 13)))


def test_steps_make_slicers_surfaces(pair) -> None:
    ours, theirs = pair
    assert list(mrml.surface_steps(ours)) == pytest.approx([1 / 3, 2 / 3, 1])
    theirs.CreateClosedSurfaceRepresentation()
    assert_same_surfaces(ours, theirs)
    assert list(mrml.surface_steps(ours)) == [], "they are there"


@pytest.mark.parametrize("setting", ["Smoothing factor=0.0", "Joint smoothing=1", "Decimation factor=0.5"])
def test_the_persons_settings_count(pair, setting) -> None:
    for segmentation in pair:
        segmentation.GetSegmentation().SetConversionParameter(*setting.split("="))
    mrml.show_in_3d(pair[0], True)
    pair[1].CreateClosedSurfaceRepresentation()
    assert_same_surfaces(*pair)


def test_they_are_shown_and_hidden(pair) -> None:
    ours, _ = pair
    mrml.show_in_3d(ours, True)
    assert ours.GetDisplayNode().GetVisibility3D()
    assert ours.GetDisplayNode().GetDisplayRepresentationName3D() == SURFACE
    mrml.show_in_3d(ours, False)
    assert not ours.GetDisplayNode().GetVisibility3D()


def test_an_edit_between_the_steps_does_not_bring_back_the_old_shape(pair) -> None:
    ours, theirs = pair
    steps = mrml.surface_steps(ours)
    next(steps)
    node = slicer.util.getNode("scan")
    for segmentation in pair:
        paint(segmentation, "Segment_1", node)
    assert not list(steps)
    mrml.show_in_3d(ours, True)
    theirs.CreateClosedSurfaceRepresentation()
    assert_same_surfaces(ours, theirs)


def test_surfaces_follow_a_refill(pair) -> None:
    ours, _ = pair
    node = slicer.util.getNode("scan")
    array = np.roll(labels_for((9, 11, 13)), 1, axis=2)
    mrml.show_in_3d(ours, True)
    segmented(node, array, into=ours)
    mrml.show_in_3d(ours, True)
    theirs = imported_by_slicer(node, array)
    theirs.CreateClosedSurfaceRepresentation()
    assert_same_surfaces(ours, theirs)


def test_a_node_that_goes_between_the_steps_harms_nothing(pair, scene) -> None:
    ours, _ = pair
    steps = mrml.surface_steps(ours)
    next(steps)
    scene.Clear(0)
    list(steps)
