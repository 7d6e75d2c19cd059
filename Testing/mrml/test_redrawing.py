"""What is put into segments that a user draws in: only where nothing is to stay, on any grid, and it can be undone."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.mrml.layers import outcome
from MAESegmentLib.mrml.matrices import ijk_to_ras
from MAESegmentLib.mrml.redrawing import UndoPoint, made_mark, mark_made, put_redrawn, redrawing_steps
from Testing import slicer_core
from Testing.mrml.nodes import (
    GRIDS,
    TRANSFORMS,
    brush,
    grid,
    labels_for,
    paint,
    read_segmentation,
    rotation,
    segmented,
    volume,
    voxels_of,
)

SHAPE = (9, 11, 13)
VALUES = {"Segment_1": 1, "Segment_3": 3, "Segment_4": 4}


@pytest.fixture(autouse=True)
def scene():
    slicer_core.fresh_scene()
    with slicer_core.no_vtk_errors():
        yield


def redraw(node, scan, labels, values, kept):
    put_redrawn(node, outcome(redrawing_steps(node, scan, labels, values, kept)))


def shifted() -> np.ndarray:
    """Other labels than those of `labels_for`, in more slices; one for the segment that is empty."""
    labels = np.roll(labels_for(SHAPE), 1, axis=2)
    labels[1] = labels[2]
    labels[4, 1:3, 1:3] = 4
    return labels


def in_slices(*numbers: int) -> np.ndarray:
    """A mask of whole slices, to be broadcast."""
    kept = np.zeros((SHAPE[0], 1, 1), bool)
    kept[[*numbers]] = True
    return kept


@pytest.mark.parametrize("transform", ["none", "nested"])
@pytest.mark.parametrize("place", GRIDS)
def test_all_slices_but_those_that_are_kept_get_the_new_voxels(place, transform) -> None:
    scan = volume(GRIDS[place], TRANSFORMS[transform])
    node = segmented(scan, labels_for(SHAPE))
    before = voxels_of(node, scan)
    redraw(node, scan, shifted(), VALUES, in_slices(3, 6))
    for segment_id, array in voxels_of(node, scan).items():
        expected = np.where(in_slices(3, 6), before[segment_id], shifted() == VALUES[segment_id])
        np.testing.assert_array_equal(array, expected, err_msg=segment_id)
    assert mrml.is_edited(node), "it is not what the model gave"


def test_segments_that_are_not_named_stay_as_they_are() -> None:
    scan = volume(GRIDS["oblique, left-handed"])
    node = segmented(scan, labels_for(SHAPE))
    before = voxels_of(node, scan)
    everywhere = np.ones(SHAPE, np.uint8)
    redraw(node, scan, everywhere, {"Segment_1": 1, "gone": 7}, np.zeros((1, 1, 1), bool))
    after = voxels_of(node, scan)
    assert after["Segment_1"].all()
    np.testing.assert_array_equal(after["Segment_3"], before["Segment_3"])


def test_segments_that_do_not_overlap_share_a_label_map_again() -> None:
    scan = volume(GRIDS["LPS"])
    node = segmented(scan, labels_for(SHAPE))
    redraw(node, scan, shifted(), VALUES, in_slices(3))
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    brush(node, "Segment_4", scan, "MERGE_MAX")
    overlapping = voxels_of(node, scan)
    redraw(node, scan, shifted(), {"Segment_1": 1}, in_slices())
    np.testing.assert_array_equal(voxels_of(node, scan)["Segment_4"], overlapping["Segment_4"])


@pytest.mark.parametrize("fine", [(0.5, 0.6, 0.85), (1.0, 1.2, 0.8), (2.0, 2.4, 1.7)])
def test_on_a_grid_of_its_own_what_was_drawn_stays_to_the_voxel(fine) -> None:
    """The user chose a finer, or coarser, geometry in Segment Editor, turned against the scan's."""
    scan = volume(GRIDS["oblique"])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    own = volume(grid(rotation(14, -25, 40), fine, (9.0, -9.0, 20.0)), shape=(24, 24, 26), name="own grid")
    node.SetReferenceImageGeometryParameterFromVolumeNode(own)
    drawn, empty = (node.GetSegmentation().AddEmptySegment("", name) for name in ("drawn", "empty"))
    hand = np.zeros((24, 24, 26), np.uint8)
    hand[5:9, 6:18, 7:20] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(hand, node, drawn, own)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:7, 2:9, 3:10] = 1
    labels[4:6, 9:10, 3:10] = 2
    kept = np.zeros(SHAPE, bool)
    kept[:4] = True
    redraw(node, scan, labels, {drawn: 1, empty: 2}, kept)
    k, j, i = np.indices(hand.shape)
    points = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ (np.linalg.inv(GRIDS["oblique"]) @ ijk_to_ras(own)).T
    at = np.floor(points[..., :3] + 0.5).astype(int)
    inside = ((at >= 0) & (at < SHAPE[::-1])).all(axis=-1)
    at = np.where(inside[..., None], at, 0)
    there, keep = labels[at[..., 2], at[..., 1], at[..., 0]], kept[at[..., 2], at[..., 1], at[..., 0]]
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, drawn, own)
    np.testing.assert_array_equal(found, np.where(inside & ~keep, there == 1, hand))
    assert (inside & ~keep & (there == 1)).any()
    np.testing.assert_array_equal(
        slicer.util.arrayFromSegmentBinaryLabelmap(node, empty, own), inside & ~keep & (there == 2)
    )


def test_the_mark_of_what_voxels_were_made_from_is_saved_with_them(tmp_path) -> None:
    scan = volume(GRIDS["oblique"])
    node = segmented(scan, labels_for(SHAPE))
    assert made_mark(node) == ""
    mark_made(node, "first")
    point = UndoPoint(node)
    redraw(node, scan, shifted(), VALUES, in_slices(3))
    mark_made(node, "second")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "drawn.seg.nrrd"))
    assert storage.WriteData(node)
    assert made_mark(read_segmentation(tmp_path / "drawn.seg.nrrd")) == "second"
    point.restore()
    assert made_mark(node) == "first"


def test_undoing_returns_voxels_names_colours_and_which_segments_there_are() -> None:
    scan = volume(GRIDS["oblique"], TRANSFORMS["turned"])
    node = segmented(scan, labels_for(SHAPE))
    mrml.show_in_3d(node, True)
    segmentation = node.GetSegmentation()
    before = voxels_of(node, scan)
    point = UndoPoint(node)
    redraw(node, scan, shifted(), VALUES, in_slices(3))
    paint(node, "Segment_1", scan)
    segmentation.GetSegment("Segment_1").SetName("renamed")
    segmentation.RemoveSegment("Segment_4")
    segmentation.AddEmptySegment("more", "more")
    point.restore()
    assert [segment.name for segment in mrml.drawn_segments(node)] == ["front", "back, left", "never there"]
    for segment_id, array in voxels_of(node, scan).items():
        np.testing.assert_array_equal(array, before[segment_id])
    assert not mrml.is_edited(node)
    assert mrml.is_shown_in_3d(node)
