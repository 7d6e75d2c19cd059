"""Segmentation nodes: every voxel where it belongs, under the right names, and back again."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib import mrml
from MAESegmentLib.errors import NodeError
from MAESegmentLib.images.labels import Label
from MAESegmentLib.mrml.layers import outcome
from MAESegmentLib.mrml.matrices import to_vtk
from Testing import slicer_core
from Testing.mrml.nodes import (
    GRIDS,
    LABELS,
    TRANSFORMS,
    cropped,
    grid,
    imported_by_slicer,
    labels_for,
    points,
    points_in_slicer,
    rotation,
    segmented,
    volume,
)


def expected_points(node, array, value) -> np.ndarray:
    return points(value == array.T, mrml.image_of([node]).ijk_to_world)


@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_segments_are_where_the_labels_are_and_come_back_voxel_exact(matrix, transforms) -> None:
    node = volume(matrix, transforms)
    array = labels_for((9, 11, 13))
    segmentation = segmented(node, array)
    for label in LABELS:
        found = points_in_slicer(segmentation, mrml.segment_id_of(label))
        expected = expected_points(node, array, label.value)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-3)
    back = mrml.label_map_of(segmentation, node, LABELS)
    np.testing.assert_array_equal(back.array.transpose(2, 1, 0), array)
    np.testing.assert_allclose(back.ijk_to_ras, mrml.image_of([node]).ijk_to_world)


angles = st.floats(-180, 180)
spacings = st.floats(0.3, 9.0)


@given(
    turn=st.tuples(angles, angles, angles),
    spacing=st.tuples(spacings, spacings, spacings),
    mirror=st.booleans(),
    parent=st.tuples(angles, angles, angles),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_grid_comes_back_voxel_exact(turn, spacing, mirror, parent) -> None:
    slicer_core.fresh_scene()
    directions = rotation(*turn) @ np.diag([1.0, 1.0, -1.0 if mirror else 1.0])
    node = volume(grid(directions, spacing), (grid(rotation(*parent), (1.0, 1.0, 1.0)),), shape=(7, 8, 9))
    array = labels_for((7, 8, 9))
    np.testing.assert_array_equal(
        mrml.label_map_of(segmented(node, array), node, LABELS).array.transpose(2, 1, 0), array
    )


@pytest.mark.parametrize("name", ["LAS", "oblique, left-handed"])
def test_the_node_equals_one_that_slicer_imported(name) -> None:
    node = volume(GRIDS[name], TRANSFORMS["turned"])
    array = labels_for((9, 11, 13))
    ours, theirs = segmented(node, array), imported_by_slicer(node, array)
    for label in LABELS:
        segment_id = mrml.segment_id_of(label)
        np.testing.assert_array_equal(
            slicer.util.arrayFromSegmentBinaryLabelmap(ours, segment_id, node),
            slicer.util.arrayFromSegmentBinaryLabelmap(theirs, segment_id, node),
        )
        one, other = (x.GetSegmentation().GetSegment(segment_id) for x in (ours, theirs))
        assert one.GetName() == other.GetName()
        assert one.GetColor() == pytest.approx(other.GetColor())
    geometry = [x.GetSegmentation().GetConversionParameter("Reference image geometry") for x in (ours, theirs)]
    assert geometry[0] == geometry[1]


def test_names_colours_terminology_and_order() -> None:
    segmentation = segmented(volume(GRIDS["RAS"]), labels_for((9, 11, 13)), labels=LABELS[::-1])
    content = segmentation.GetSegmentation()
    assert [content.GetNthSegment(n).GetName() for n in range(3)] == ["front", "back, left", "never there"]
    assert [content.GetNthSegmentID(n) for n in range(3)] == ["Segment_1", "Segment_3", "Segment_4"]
    back = content.GetSegment("Segment_3")
    assert back.GetColor() == pytest.approx((86 / 255, 180 / 255, 233 / 255))
    entry = slicer.vtkSlicerTerminologyEntry()
    text = back.GetTerminology()
    assert slicer.modules.terminologies.logic().DeserializeTerminologyEntry(text, entry)
    assert entry.GetTypeObject().GetCodeValue() == "5366008"
    assert entry.GetTypeModifierObject().GetCodeMeaning() == "Posterior"


def test_a_result_without_any_voxel_has_all_segments() -> None:
    node = volume(GRIDS["LAS"])
    segmentation = segmented(node, np.zeros((9, 11, 13), np.uint8))
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 3
    assert not mrml.is_edited(segmentation)
    assert not mrml.label_map_of(segmentation, node, LABELS).array.any()


def test_more_than_255_labels() -> None:
    labels = tuple(Label(value, f"part {value}") for value in (1, 300, 1000))
    node = volume(GRIDS["oblique"])
    array = np.zeros((9, 11, 13), np.uint16)
    array[2:5, 3:6, 1:9], array[6, 6, 6] = 300, 1000
    segmentation = segmented(node, array, labels=labels)
    back = mrml.label_map_of(segmentation, node, labels)
    np.testing.assert_array_equal(back.array.transpose(2, 1, 0), array)


def test_the_block_is_copied() -> None:
    node = volume(GRIDS["RAS"])
    block, origin = cropped(labels_for((9, 11, 13)))
    block = block.copy()
    segmentation = mrml.add_segmentation(node, LABELS, block, origin, name="result")
    block[:] = 0
    assert not mrml.is_edited(segmentation)


def test_filling_again_replaces_the_content_and_keeps_the_node() -> None:
    node, other = volume(GRIDS["RAS"]), volume(GRIDS["oblique"], TRANSFORMS["turned"])
    first = segmented(node, labels_for((9, 11, 13)))
    display = first.GetDisplayNode()
    array = np.roll(labels_for((9, 11, 13)), 1, axis=2)
    again = segmented(other, array, into=first)
    assert again is first
    assert first.GetDisplayNode() is display
    assert first.GetTransformNodeID() == other.GetTransformNodeID()
    np.testing.assert_array_equal(mrml.label_map_of(first, other, LABELS).array.transpose(2, 1, 0), array)
    assert not mrml.is_edited(first)


def export(segmentation, node) -> np.ndarray:
    """All segments in one label map by Slicer's own export."""
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    ids = vtk.vtkStringArray()
    segmentation.GetSegmentation().GetSegmentIDs(ids)
    extent = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    logic = slicer.modules.segmentations.logic()
    assert logic.ExportSegmentsToLabelmapNode(segmentation, ids, labels, node, extent)
    return slicer.util.arrayFromVolume(labels).copy()


@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_slicer_exports_the_same_label_map_as_of_an_imported_one(matrix) -> None:
    node, array = volume(matrix, TRANSFORMS["nested"]), labels_for((9, 11, 13))
    ours, theirs = (export(make(node, array), node) for make in (segmented, imported_by_slicer))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours != 0, array != 0)


def test_any_integer_type_will_do() -> None:
    node, array = volume(GRIDS["LAS"]), labels_for((9, 11, 13)).astype(np.int64)
    segmentation = segmented(node, array)
    np.testing.assert_array_equal(mrml.label_map_of(segmentation, node, LABELS).array.transpose(2, 1, 0), array)
    image = segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    assert image.GetScalarTypeAsString() == "unsigned char"


def test_preparing_leaves_the_scene_alone_and_follows_the_volume(scene) -> None:
    node, array = volume(GRIDS["LAS"]), labels_for((9, 11, 13))
    count = scene.GetNumberOfNodes()
    segments = outcome(mrml.prepare_segments(node, LABELS, *cropped(array)))
    assert scene.GetNumberOfNodes() == count
    node.SetIJKToRASMatrix(to_vtk(grid(rotation(3, 4, 5), (2.0, 3.0, 4.0))))
    segmentation = mrml.put_segments(node, segments, name="result")
    np.testing.assert_allclose(points_in_slicer(segmentation, "Segment_1"), expected_points(node, array, 1), atol=2e-3)
    assert not mrml.is_edited(segmentation)


def test_segments_that_were_not_asked_for_are_left_out() -> None:
    node, array = volume(GRIDS["oblique"]), labels_for((9, 11, 13))
    found = mrml.label_map_of(segmented(node, array), node, LABELS[1:]).array.transpose(2, 1, 0)
    np.testing.assert_array_equal(found, np.where(array == 3, 3, 0))


def test_segments_are_found_by_name_whatever_their_ids() -> None:
    node = volume(GRIDS["LAS"])
    drawn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    drawn.SetReferenceImageGeometryParameterFromVolumeNode(node)
    for segment_id, name in (("Segment_3", "front"), ("Segment_1", "back, left")):
        drawn.GetSegmentation().AddEmptySegment(segment_id, name)
    with pytest.raises(NodeError, match="not one segment for each of never there"):
        mrml.label_map_of(drawn, node, LABELS)
    segment_id = drawn.GetSegmentation().GetSegmentIdBySegmentName("back, left")
    array = np.zeros((9, 11, 13), np.uint8)
    array[2:4, 2:5, 3:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, drawn, segment_id, node)
    found = mrml.label_map_of(drawn, node, LABELS[:2]).array.transpose(2, 1, 0)
    np.testing.assert_array_equal(found, array * 3)
    drawn.GetSegmentation().AddEmptySegment("", "front")
    with pytest.raises(NodeError, match="not one segment for each of front"):
        mrml.label_map_of(drawn, node, LABELS[:2])


def test_the_result_goes_to_the_volumes_study(scene) -> None:
    node = volume(GRIDS["RAS"])
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None:
        hierarchy = scene.AddNewNodeByClass("vtkMRMLSubjectHierarchyNode")
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.CreateItem(study, node)
    segmentation = segmented(node, labels_for((9, 11, 13)))
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(segmentation)) == study


def test_the_views_have_a_middle_to_go_to_only_where_something_is_drawn() -> None:
    scan = volume(GRIDS["oblique"])
    assert mrml.middle_of(segmented(scan, np.zeros((9, 11, 13), np.uint8))) is None
    drawn = segmented(scan, labels_for((9, 11, 13)))
    middle = mrml.middle_of(drawn)
    assert middle is not None
    drawn.CreateClosedSurfaceRepresentation()
    drawn.GetSegmentation().SetSourceRepresentationName("Closed surface")
    drawn.GetSegmentation().RemoveRepresentation("Binary labelmap")
    np.testing.assert_allclose(mrml.middle_of(drawn), middle, atol=1)
