"""A user's edits are noticed, whatever Slicer does to the way in which it stores what was not edited."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MAESegmentLib import mrml
from MAESegmentLib.mrml.matrices import to_vtk
from Testing import slicer_core
from Testing.mrml.nodes import (
    GRIDS,
    MODES,
    TRANSFORMS,
    assert_same_voxels,
    brush,
    grid,
    imported_by_slicer,
    labels_for,
    paint,
    read_segmentation,
    remember_content,
    rotation,
    segmented,
    volume,
    voxels_of,
)


@pytest.fixture
def filled():
    node = volume(GRIDS["oblique"], TRANSFORMS["nested"])
    return segmented(node, labels_for((9, 11, 13))), node


def test_an_untouched_result_is_not_edited(filled) -> None:
    segmentation, _ = filled
    assert not mrml.is_edited(segmentation)
    mrml.show_in_3d(segmentation, True)
    segmentation.GetSegmentation().GetNthSegment(0).SetColor(0.1, 0.2, 0.3)
    segmentation.GetDisplayNode().SetVisibility(False)
    assert not mrml.is_edited(segmentation), "looks are not content"


@pytest.mark.parametrize("segment_id", ["Segment_1", "Segment_3", "Segment_4"])
def test_a_painted_voxel_is_an_edit_and_touches_no_other_segment(filled, segment_id) -> None:
    segmentation, node = filled
    before = voxels_of(segmentation, node)
    paint(segmentation, segment_id, node)
    assert mrml.is_edited(segmentation)
    for other, array in voxels_of(segmentation, node).items():
        assert np.count_nonzero(array != before[other]) == (other == segment_id)


@pytest.mark.parametrize("mode", MODES)
def test_segment_editor_does_to_it_what_it_does_to_an_imported_one(mode) -> None:
    node = volume(GRIDS["oblique, left-handed"], TRANSFORMS["turned"])
    ours, theirs = segmented(node, labels_for((9, 11, 13))), imported_by_slicer(node, labels_for((9, 11, 13)))
    for segment_id in ("Segment_1", "Segment_4", "Segment_3"):
        for segmentation in (ours, theirs):
            brush(segmentation, segment_id, node, mode)
        assert_same_voxels(voxels_of(ours, node), voxels_of(theirs, node))
        assert ours.GetSegmentation().GetNumberOfLayers() == theirs.GetSegmentation().GetNumberOfLayers()


def test_overlapping_segments_can_be_remembered_too(filled) -> None:
    segmentation, node = filled
    brush(segmentation, "Segment_4", node, "MERGE_MAX")
    assert segmentation.GetSegmentation().GetNumberOfLayers() > 1
    assert mrml.is_edited(segmentation)
    remember_content(segmentation)
    assert not mrml.is_edited(segmentation)
    paint(segmentation, "Segment_4", node)
    assert mrml.is_edited(segmentation)


def test_moving_a_segment_by_a_voxel_is_an_edit(filled) -> None:
    segmentation, node = filled
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "Segment_1", node)
    for segment_id in ("Segment_3", "Segment_4"):
        segmentation.GetSegmentation().RemoveSegment(segment_id)
    remember_content(segmentation)
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.roll(array, 1, axis=0), segmentation, "Segment_1", node)
    assert mrml.is_edited(segmentation)


def test_moving_it_with_its_scan_is_no_edit_but_hardening_is(filled) -> None:
    segmentation, _ = filled
    segmentation.GetParentTransformNode().SetMatrixTransformToParent(to_vtk(GRIDS["LAS"]))
    assert not mrml.is_edited(segmentation)
    segmentation.HardenTransform()
    assert mrml.is_edited(segmentation)


def test_segments_in_another_order_are_an_edit(filled) -> None:
    segmentation, _ = filled
    segmentation.GetSegmentation().SetSegmentIndex("Segment_1", 2)
    assert mrml.is_edited(segmentation)


def test_painting_and_undoing_it_is_no_edit(filled) -> None:
    segmentation, node = filled
    paint(segmentation, "Segment_4", node)
    paint(segmentation, "Segment_4", node)
    assert not mrml.is_edited(segmentation)


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.GetNthSegment(1).SetName("renamed"),
        lambda content: content.RemoveSegment("Segment_1"),
        lambda content: content.AddEmptySegment("mine", "lesion"),
    ],
)
def test_names_and_segments_count_as_edits(filled, edit) -> None:
    segmentation, _ = filled
    edit(segmentation.GetSegmentation())
    assert mrml.is_edited(segmentation)


def test_a_segmentation_of_someone_else_counts_as_edited() -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by hand")
    assert not mrml.is_edited(node), "an empty one may be filled"
    node.GetSegmentation().AddEmptySegment("a", "a")
    assert mrml.is_edited(node)


# Fractions that end in 5: rounding them to a few digits turns on the last bit, which files do not keep.
AWKWARD = grid(rotation(12, -25, 40), (0.625, 1.375, 0.125), (0.005, -123.125, 33.335))


def write_segmentation(node, path) -> None:
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(path))
    assert node.GetStorageNode().WriteData(node)


@pytest.mark.parametrize("matrix", [*GRIDS.values(), AWKWARD], ids=[*GRIDS, "awkward"])
def test_a_file_of_the_segmentation_alone_still_knows(matrix, tmp_path) -> None:
    node = volume(matrix, TRANSFORMS["turned"])
    segmentation = segmented(node, labels_for((9, 11, 13)))
    write_segmentation(segmentation, tmp_path / "result.seg.nrrd")
    assert not mrml.is_edited(segmentation), "saving is no edit"
    loaded = read_segmentation(tmp_path / "result.seg.nrrd")
    assert not mrml.is_edited(loaded)
    loaded.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    assert_same_voxels(voxels_of(loaded, node), voxels_of(segmentation, node))
    paint(loaded, "Segment_3", node)
    assert mrml.is_edited(loaded)


def test_a_file_that_was_edited_counts_as_edited(filled, tmp_path) -> None:
    segmentation, node = filled
    paint(segmentation, "Segment_3", node)
    write_segmentation(segmentation, tmp_path / "result.seg.nrrd")
    assert mrml.is_edited(read_segmentation(tmp_path / "result.seg.nrrd"))


@pytest.mark.parametrize("change", [None, "paint", "overlap"])
def test_a_saved_scene_still_knows(filled, tmp_path, change) -> None:
    segmentation, node = filled
    if change == "paint":
        paint(segmentation, "Segment_1", node)
    if change == "overlap":
        brush(segmentation, "Segment_4", node, "MERGE_MAX")
    remember_content(segmentation)
    before = voxels_of(segmentation, node)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer_core.fresh_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    (loaded,), scan = slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), slicer.util.getNode("scan")
    assert not mrml.is_edited(loaded)
    assert_same_voxels(voxels_of(loaded, scan), before)
    paint(loaded, "Segment_3", scan)
    assert mrml.is_edited(loaded)


def test_the_volume_may_go_before_the_segmentation(filled) -> None:
    segmentation, node = filled
    slicer.mrmlScene.RemoveNode(node)
    assert not mrml.is_edited(segmentation)
    same = volume(GRIDS["oblique"], TRANSFORMS["nested"])
    segmented(same, labels_for((9, 11, 13)), into=segmentation)
    assert not mrml.is_edited(segmentation)


def test_a_scene_that_is_closed_leaves_nothing_to_stumble_over(filled) -> None:
    segmentation, _ = filled
    slicer_core.fresh_scene()
    assert not mrml.is_edited(segmentation)
    assert not mrml.is_edited(None)
