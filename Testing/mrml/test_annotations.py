"""What a user drew arrives on the scan's grid: any names, overlaps, other grids, other transforms."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from MAESegmentLib import mrml
from MAESegmentLib.errors import NodeError
from MAESegmentLib.images.labels import UNCODED
from MAESegmentLib.mrml.layers import outcome
from MAESegmentLib.mrml.matrices import to_vtk
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, LABELS, TRANSFORMS, brush, grid, labels_for, paint, segmented, volume, warp

SHAPE = (9, 11, 13)


def drawing(segmentation, scan, values):
    return outcome(mrml.drawing_steps(segmentation, scan, values))


def hand_drawn(scan, **arrays):
    """A segmentation as a user makes it in Segment Editor: segments with IDs that nobody chose."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    node.SetAndObserveTransformNodeID(scan.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    ids = {}
    for name, array in arrays.items():
        ids[name] = node.GetSegmentation().AddEmptySegment("", name)
        if array is not None:
            slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, ids[name], scan)
    return node, ids


def box(*bounds) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[tuple(slice(low, high) for low, high in zip(bounds[::2], bounds[1::2], strict=True))] = 1
    return array


def test_segments_are_described_as_a_person_sees_them() -> None:
    scan = volume(GRIDS["oblique"])
    segmentation = segmented(scan, labels_for(SHAPE))
    front, back, absent = mrml.drawn_segments(segmentation)
    assert (front.name, front.colour, front.terminology) == ("front", (230, 159, 0), LABELS[0].terminology)
    assert back.terminology.modifier.meaning == "Posterior"
    assert [segment.is_empty for segment in (front, back, absent)] == [False, False, True]
    assert absent.terminology == UNCODED


def test_a_segment_without_a_label_map_is_empty() -> None:
    node, _ = hand_drawn(volume(GRIDS["RAS"]), tumour=None)
    (segment,) = mrml.drawn_segments(node)
    assert segment.is_empty
    assert segment.name == "tumour"


@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_any_names_become_the_values_that_are_asked_for(matrix, transforms) -> None:
    scan = volume(matrix, transforms)
    tumour, kidney = box(2, 5, 3, 8, 1, 6), box(5, 8, 3, 8, 4, 12)
    node, ids = hand_drawn(scan, tumour=tumour, kidney=kidney)
    found = drawing(node, scan, {ids["tumour"]: 7, ids["kidney"]: 2})
    np.testing.assert_array_equal(found.array, tumour * 7 + kidney * 2)
    np.testing.assert_allclose(found.ijk_to_world, mrml.image_of([scan]).ijk_to_world)
    assert (found.overlaps, found.outside) == ((), ())


def test_two_segments_may_mean_the_same() -> None:
    scan = volume(GRIDS["LAS"])
    node, ids = hand_drawn(scan, one=box(2, 5, 3, 8, 1, 6), other=box(4, 8, 3, 8, 1, 6))
    found = drawing(node, scan, dict.fromkeys(ids.values(), 3))
    np.testing.assert_array_equal(found.array, box(2, 8, 3, 8, 1, 6) * 3)
    assert found.overlaps == (), "that is no contradiction"


def overlapping():
    scan = volume(GRIDS["oblique"], TRANSFORMS["nested"])
    segmentation = segmented(scan, labels_for(SHAPE))
    brush(segmentation, "Segment_4", scan, "MERGE_MAX")
    assert segmentation.GetSegmentation().GetNumberOfLayers() > 1
    masks = {
        one: slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, scan) != 0
        for one in ("Segment_1", "Segment_3", "Segment_4")
    }
    return scan, segmentation, masks


@pytest.mark.parametrize("order", [("Segment_1", "Segment_3", "Segment_4"), ("Segment_4", "Segment_1", "Segment_3")])
def test_where_segments_overlap_the_last_wins_and_it_is_said(order) -> None:
    scan, segmentation, masks = overlapping()
    found = drawing(segmentation, scan, {one: number + 1 for number, one in enumerate(order)})
    expected = np.zeros(SHAPE, np.uint8)
    for number, one in enumerate(order):
        expected[masks[one]] = number + 1
    np.testing.assert_array_equal(found.array, expected)
    assert found.overlaps
    for loser, winner, count in found.overlaps:
        assert order.index(loser) < order.index(winner)
        assert count == np.count_nonzero(masks[loser] & masks[winner])


def test_statistics_of_overlapping_segments_are_those_of_each_alone() -> None:
    scan, segmentation, masks = overlapping()
    segmentation.GetSegmentation().AddEmptySegment("", "background")
    rows = outcome(mrml.statistics_steps(segmentation, [scan]))
    names = segmentation.GetSegmentation()
    assert [name for name, _one in rows] == [one.name for one in mrml.drawn_segments(segmentation)[:-1]]
    grey, found = slicer.util.arrayFromVolume(scan), dict(rows)
    for segment_id, mask in masks.items():
        one = found[names.GetSegment(segment_id).GetName()]
        assert one.voxels == np.count_nonzero(mask)
        assert one.border_voxels == one.voxels - np.count_nonzero(mask[1:-1, 1:-1, 1:-1])
        if one.voxels:
            assert one.means == pytest.approx((grey[mask].mean(),))
            assert one.deviations == pytest.approx((grey[mask].std(ddof=1),))


def test_voxels_of_a_finer_grid_go_to_the_nearest(scene) -> None:  # noqa: ARG001
    coarse = volume(grid(np.eye(3), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0)), shape=SHAPE)
    fine = volume(grid(np.diag([-1.0, 1.0, 1.0]), (0.5, 1.0, 1.0), (24.0, 0.0, 0.0)), shape=(25, 21, 49))
    array = np.zeros((25, 21, 49), np.uint8)
    array[5:14, 3:16, 9:30] = 1
    node, ids = hand_drawn(fine, organ=None)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, ids["organ"], fine)
    found = drawing(node, coarse, {ids["organ"]: 5}).array
    by_slicer = slicer.util.arrayFromSegmentBinaryLabelmap(node, ids["organ"], coarse)
    np.testing.assert_array_equal(found, by_slicer * 5)
    assert found.any()


@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_voxels_between_those_of_the_scan_go_to_the_nearest(shift) -> None:
    node, ids = hand_drawn(volume(GRIDS["RAS"]), organ=box(3, 6, 4, 8, 5, 9))
    moved = GRIDS["RAS"] + np.outer([shift, shift, shift, 0.0], [0.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(drawing(node, volume(moved), {ids["organ"]: 1}).array, box(3, 6, 4, 8, 5, 9))


def test_a_turned_grid_is_followed_in_the_world() -> None:
    scan = volume(GRIDS["RAS"], TRANSFORMS["turned"], shape=(20, 24, 22))
    node, ids = hand_drawn(scan, organ=None)
    array = np.zeros((20, 24, 22), np.uint8)
    array[4:16, 5:19, 6:17] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, ids["organ"], scan)
    node.HardenTransform()
    found = drawing(node, scan, {ids["organ"]: 1}).array
    assert np.count_nonzero(found != array) == 0, "the transform that was hardened is the scan's own"


def test_a_segmentation_under_another_transform_than_its_scan() -> None:
    scan = volume(GRIDS["RAS"])
    organ = box(2, 5, 3, 8, 4, 9)
    node, ids = hand_drawn(scan, organ=organ)
    shift = np.eye(4)
    shift[:3, 3] = (2.0, 1.0, -1.0)  # whole voxels of GRIDS["RAS"]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    transform.SetMatrixTransformToParent(to_vtk(shift))
    node.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_array_equal(drawing(node, scan, {ids["organ"]: 1}).array, np.roll(organ, (-1, 1, 2), (0, 1, 2)))


def test_what_reaches_beyond_the_scan_is_named() -> None:
    whole = volume(GRIDS["oblique"])
    node, ids = hand_drawn(whole, inside=box(3, 6, 4, 8, 5, 9), beyond=box(0, 6, 4, 8, 9, 11))
    matrix = GRIDS["oblique"].copy()
    matrix[:3, 3] = (GRIDS["oblique"] @ [4, 3, 2, 1])[:3]
    part = volume(matrix, shape=(6, 8, 9), name="part")
    found = drawing(node, part, {ids["inside"]: 1, ids["beyond"]: 2})
    assert found.outside == (ids["beyond"],)
    np.testing.assert_array_equal(found.array, (box(3, 6, 4, 8, 5, 9) + 2 * box(0, 6, 4, 8, 9, 11))[2:8, 3:11, 4:13])


def test_a_scan_elsewhere_holds_nothing_of_it() -> None:
    node, ids = hand_drawn(volume(GRIDS["RAS"]), organ=box(3, 6, 4, 8, 5, 9))
    for matrix in (grid(np.eye(3), (1.0, 1.0, 1.0), (500.0, 0, 0)), grid(np.eye(3), (0.7, 0.7, 0.7), (500.0, 0, 0))):
        found = drawing(node, volume(matrix, shape=SHAPE), {ids["organ"]: 1})
        assert not found.array.any()
        assert found.outside == (ids["organ"],)


def test_what_cannot_be_read_is_refused_with_advice() -> None:
    scan = volume(GRIDS["RAS"])
    node, ids = hand_drawn(scan, organ=box(3, 6, 4, 8, 5, 9))
    with pytest.raises(NodeError, match="scan is not a segmentation"):
        mrml.drawn_segments(scan)
    with pytest.raises(NodeError, match="Nothing is not a segmentation"):
        mrml.drawn_segments(None)
    warp(node)
    with pytest.raises(NodeError, match="drawn lies under a transform that is not linear") as caught:
        drawing(node, scan, {ids["organ"]: 1})
    assert "Harden" in caught.value.hint
    surfaces = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "from STL")
    surfaces.GetSegmentation().SetSourceRepresentationName("Closed surface")
    sphere = vtk.vtkSphereSource()
    sphere.Update()
    segment = slicer.vtkSegment()
    segment.AddRepresentation("Closed surface", sphere.GetOutput())
    surfaces.GetSegmentation().AddSegment(segment, "sphere")
    with pytest.raises(NodeError, match="surfaces, not voxels"):
        mrml.drawn_segments(surfaces)


def test_content_is_recognised_after_the_scene_was_saved(tmp_path) -> None:
    scan, segmentation, _ = overlapping()
    content = mrml.content_of(segmentation)
    segmentation.SetAttribute("remembered", content)
    assert mrml.has_content(segmentation, content)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer_core.fresh_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    (loaded,), scan = slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), slicer.util.getNode("scan")
    assert mrml.has_content(loaded, loaded.GetAttribute("remembered"))
    paint(loaded, "Segment_3", scan)
    assert not mrml.has_content(loaded, loaded.GetAttribute("remembered"))
    paint(loaded, "Segment_3", scan)
    assert mrml.has_content(loaded, content), "undone"


@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_content_does_not_depend_on_which_segments_share_a_label_map(matrix) -> None:
    node, ids = hand_drawn(volume(matrix), one=box(2, 5, 3, 8, 1, 6), none=None, other=box(6, 8, 3, 8, 4, 9))
    before, content = node.GetSegmentation().GetNumberOfLayers(), mrml.content_of(node)
    node.GetSegmentation().SeparateSegmentLabelmap(ids["other"])
    assert node.GetSegmentation().GetNumberOfLayers() != before or before > 1
    assert mrml.has_content(node, content)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert mrml.has_content(node, content)
    node.GetSegmentation().GetSegment(ids["none"]).SetName("something")
    assert not mrml.has_content(node, content)


def test_content_of_nothing_is_that_of_nothing() -> None:
    node, ids = hand_drawn(volume(GRIDS["RAS"]))
    nothing = mrml.content_of(node)
    assert ids == {}
    assert mrml.has_content(node, nothing)
    node.GetSegmentation().AddEmptySegment("", "first")
    assert not mrml.has_content(node, nothing)
    assert not mrml.has_content(node, "")
