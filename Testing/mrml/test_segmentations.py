"""Segmentation nodes: every voxel where it belongs, the right names, and a person's edits noticed."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib import mrml
from MAESegmentLib.errors import NodeError
from MAESegmentLib.labels import Label
from Testing import slicer_core
from Testing.mrml.nodes import GRIDS, LABELS, TRANSFORMS, cropped, grid, labels_for, rotation, volume


def segmented(node, array, *, into=None, labels=LABELS):
    block, origin = cropped(array)
    return mrml.add_segmentation(node, labels, block, origin, name="result", into=into)


def world_points(segmentation, segment_id) -> np.ndarray:
    """Sorted world positions (N, 3) of a segment's voxels, from its own label map, as Slicer draws them."""
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(segment_id, image)
    if image.IsEmpty():
        return np.empty((0, 3))
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    voxels = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    k, j, i = np.nonzero(voxels.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1))
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    points = []
    for ijk in zip(i + i0, j + j0, k + k0, strict=True):
        world = [0.0, 0.0, 0.0]
        segmentation.TransformPointToWorld(matrix.MultiplyPoint([*map(float, ijk), 1.0])[:3], world)
        points.append(world)
    return in_order(np.array(points).reshape(-1, 3))


def expected_points(node, array, value) -> np.ndarray:
    matrix = mrml.image_of([node]).ijk_to_world
    k, j, i = np.nonzero(array == value)
    points = np.stack([i, j, k, np.ones_like(i)]).T @ matrix.T
    return in_order(points[:, :3])


def in_order(points) -> np.ndarray:
    """Sorted by a combination of coordinates that rounding does not tie."""
    return points[np.argsort(points @ np.array([1.0, 0.7310585, 0.4142136]), kind="stable")]


@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_segments_are_where_the_labels_are_and_come_back_voxel_exact(matrix, transforms) -> None:
    node = volume(matrix, transforms)
    array = labels_for((9, 11, 13))
    segmentation = segmented(node, array)
    for label in LABELS:
        found = world_points(segmentation, mrml.segment_id_of(label))
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


def imported_by_slicer(node, array):
    """The documented way, through a label map node."""
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "imported")
    segmentation.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(node)
    segmentation.CreateDefaultDisplayNodes()
    ids = vtk.vtkStringArray()
    for label in LABELS:
        colour = [component / 255 for component in label.colour]
        ids.InsertNextValue(
            segmentation.GetSegmentation().AddEmptySegment(mrml.segment_id_of(label), label.name, colour)
        )
    labels = slicer.modules.volumes.logic().CreateAndAddLabelVolume(node, "labels")
    ordered = np.zeros_like(array)
    for number, label in enumerate(LABELS, start=1):
        ordered[array == label.value] = number
    slicer.util.updateVolumeFromArray(labels, ordered)
    assert slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation, ids)
    return segmentation


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


# Edits ----------------------------------------------------------------------------------------------------------------


def paint(segmentation, segment_id, node) -> None:
    """Set some voxels of a segment, as Segment Editor's effects do."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node)
    array[4, 5, 6] = 1 - array[4, 5, 6]
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segment_id, node)


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
    before = {
        label.value: slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, mrml.segment_id_of(label), node).copy()
        for label in LABELS
    }
    paint(segmentation, segment_id, node)
    assert mrml.is_edited(segmentation)
    for label in LABELS:
        after = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, mrml.segment_id_of(label), node)
        assert np.count_nonzero(after != before[label.value]) == (mrml.segment_id_of(label) == segment_id)


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


def test_a_saved_scene_still_knows(filled, tmp_path) -> None:
    segmentation, node = filled
    paint(segmentation, "Segment_1", node)
    mrml.remember_content(segmentation)
    name = segmentation.GetName()
    for index in range(slicer.mrmlScene.GetNumberOfNodes()):
        storable = slicer.mrmlScene.GetNthNode(index)
        if storable.IsA("vtkMRMLStorableNode") and storable.GetSaveWithScene() and storable.GetName() in (name, "scan"):
            storable.AddDefaultStorageNode()
            storage = storable.GetStorageNode()
            storage.SetFileName(str(tmp_path / f"{storable.GetName()}.{storage.GetDefaultWriteFileExtension()}"))
            assert storage.WriteData(storable)
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Commit()
    slicer_core.fresh_scene()
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Connect()
    loaded, scan = slicer.util.getNode(name), slicer.util.getNode("scan")
    assert not mrml.is_edited(loaded)
    paint(loaded, "Segment_3", scan)
    assert mrml.is_edited(loaded)


def test_the_volume_may_go_before_the_segmentation(filled) -> None:
    segmentation, node = filled
    slicer.mrmlScene.RemoveNode(node)
    assert not mrml.is_edited(segmentation)


# Surfaces, label maps, study ------------------------------------------------------------------------------------------


def test_surfaces_made_step_by_step_equal_slicers(filled) -> None:
    segmentation, node = filled
    other = segmented(node, labels_for((9, 11, 13)))
    assert list(mrml.surface_steps(segmentation)) == pytest.approx([1 / 3, 2 / 3, 1])
    mrml.show_in_3d(segmentation, True)
    mrml.show_in_3d(other, True)
    assert segmentation.GetDisplayNode().GetVisibility3D()
    for label in LABELS[:2]:
        counts = [
            x.GetSegmentation().GetSegment(mrml.segment_id_of(label)).GetRepresentation("Closed surface")
            for x in (segmentation, other)
        ]
        assert counts[0].GetNumberOfPoints() == counts[1].GetNumberOfPoints() > 0
        assert counts[0].GetBounds() == pytest.approx(counts[1].GetBounds())
    assert list(mrml.surface_steps(segmentation)) == []
    mrml.show_in_3d(segmentation, False)
    assert not segmentation.GetDisplayNode().GetVisibility3D()


def test_segments_are_found_by_name_too() -> None:
    node = volume(GRIDS["LAS"])
    drawn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    drawn.SetReferenceImageGeometryParameterFromVolumeNode(node)
    for name in ("front", "back, left"):
        drawn.GetSegmentation().AddEmptySegment("", name)
    with pytest.raises(NodeError, match="no segment for never there"):
        mrml.label_map_of(drawn, node, LABELS)
    segment_id = drawn.GetSegmentation().GetSegmentIdBySegmentName("back, left")
    array = np.zeros((9, 11, 13), np.uint8)
    array[2:4, 2:5, 3:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, drawn, segment_id, node)
    found = mrml.label_map_of(drawn, node, LABELS[:2]).array.transpose(2, 1, 0)
    np.testing.assert_array_equal(found, array * 3)


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
