"""Volume nodes as images: voxels by reference, places in the world; what cannot be used is refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from MAESegmentLib import mrml
from MAESegmentLib.errors import GeometryError, NodeError
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.mrml.matrices import to_vtk
from Testing.mrml.nodes import GRIDS, TRANSFORMS, grid, rotation, volume, warp


def world_of(node, ijk) -> np.ndarray:
    """Where Slicer itself puts a voxel."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    point = list(matrix.MultiplyPoint([*ijk, 1.0])[:3])
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(point, world)
    return np.array(world)


@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_voxels_are_where_slicer_puts_them(matrix, transforms) -> None:
    node = volume(matrix, transforms)
    image = mrml.image_of([node])
    assert np.shares_memory(image.channels[0], slicer.util.arrayFromVolume(node))
    for ijk in ((0, 0, 0), (12, 0, 0), (3, 10, 8), (12, 10, 8)):
        np.testing.assert_allclose(image.ijk_to_world @ [*ijk, 1.0], [*world_of(node, ijk), 1.0], atol=1e-6)
    assert image.grid.shape == (13, 11, 9)


def no_voxels():
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")


def colour():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    slicer.util.updateVolumeFromArray(node, np.zeros((4, 5, 6, 3), np.uint8))
    return node


def label_map():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(node, np.zeros((4, 5, 6), np.uint8))
    return node


def single_slice():
    return volume(GRIDS["RAS"], shape=(1, 20, 20))


def sheared():
    matrix = np.eye(4)
    matrix[0, 1] = 0.3
    return volume(GRIDS["RAS"], (matrix,))


def singular():
    return volume(GRIDS["RAS"], (np.diag([1.0, 1.0, 0.0, 1.0]),))


def warped():
    return warp(volume(GRIDS["RAS"]))


def sequence():
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: None, NodeError, "No volume is chosen"),
        (no_voxels, NodeError, "has no voxels"),
        (colour, NodeError, "3 values a voxel"),
        (label_map, NodeError, "label map"),
        (sequence, NodeError, "several frames"),
        (warped, NodeError, "not linear"),
        (single_slice, GeometryError, "single slice"),
        (sheared, GeometryError, "sheared"),
        (singular, GeometryError, "singular"),
    ],
)
def test_what_cannot_be_segmented_is_refused_with_advice(make, kind, words) -> None:
    node = make()
    with pytest.raises(kind, match=words) as caught:
        mrml.image_of([node])
    assert caught.value.hint
    if node is not None:
        assert node.GetName() in caught.value.message
        assert mrml.problem_of(node).message == caught.value.message


def test_channels_need_one_grid() -> None:
    first, same = volume(GRIDS["LAS"], name="T1"), volume(GRIDS["LAS"], name="T2")
    assert len(mrml.image_of([first, same]).channels) == 2
    other = volume(GRIDS["RAS"], name="FLAIR")
    with pytest.raises(NodeError, match="FLAIR does not lie on the grid of T1"):
        mrml.image_of([first, other])


def test_a_hardened_copy_leaves_the_original_alone() -> None:
    node = warped()
    before = slicer.util.arrayFromVolume(node).copy()
    copy = mrml.hardened_copy(node)
    assert mrml.problem_of(copy) is None
    assert copy.GetName() != node.GetName()
    assert node.GetTransformNodeID() is not None
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), before)


def test_a_linear_transform_is_hardened_without_resampling() -> None:
    node = volume(GRIDS["oblique"], TRANSFORMS["turned"])
    copy = mrml.hardened_copy(node)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(copy), slicer.util.arrayFromVolume(node))
    np.testing.assert_allclose(mrml.image_of([copy]).ijk_to_world, mrml.image_of([node]).ijk_to_world, atol=1e-6)


def test_what_dicom_says_is_read_where_slicer_notes_it_and_goes_with_a_hardened_copy() -> None:
    node = volume(GRIDS["oblique"])
    assert mrml.facts_of([node]).modality == ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    hierarchy.SetItemAttribute(item, name, "CT")
    for one in (node, mrml.hardened_copy(node)):
        facts = mrml.facts_of([one])
        assert facts.modality == "CT"
        np.testing.assert_array_equal(facts.channels[0], slicer.util.arrayFromVolume(one))


def roi(centre, size, matrix=None, parent=None):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetCenter(centre)
    node.SetSize(size)
    if matrix is not None:
        node.SetAndObserveObjectToNodeMatrix(to_vtk(matrix))
    if parent is not None:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(to_vtk(parent))
        node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def test_an_roi_is_a_box_in_the_world() -> None:
    assert mrml.roi_of(roi((10, 20, 30), (4, 6, 8))) == pytest.approx((8, 12, 17, 23, 26, 34))


def test_a_turned_roi_is_enclosed() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(0, 0, 90)
    matrix[:3, 3] = (1, 2, 3)
    assert mrml.roi_of(roi((1, 2, 3), (4, 10, 6), matrix)) == pytest.approx((-4, 6, 0, 4, 0, 6))


def test_an_roi_that_slicer_saved_is_the_same_box(tmp_path) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(20, -35, 50)
    matrix[:3, 3] = (5, -7, 11)
    node, storage = roi((0, 0, 0), (20, 40, 60), matrix), slicer.vtkMRMLMarkupsROIJsonStorageNode()
    slicer.mrmlScene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "box.mrk.json"))
    assert storage.WriteData(node)
    assert Roi.of(tmp_path / "box.mrk.json").bounds == pytest.approx(mrml.roi_of(node))


def test_an_roi_moves_with_its_transform() -> None:
    node = roi((0, 0, 0), (2, 2, 2), parent=grid(np.eye(3), (1.0, 1.0, 1.0), (100, 0, -5)))
    assert mrml.roi_of(node) == pytest.approx((99, 101, -1, 1, -6, -4))


def test_an_roi_that_was_not_placed_is_refused() -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    with pytest.raises(NodeError, match="box is empty"):
        mrml.roi_of(node)
    with pytest.raises(NodeError, match="not a region of interest"):
        mrml.roi_of(volume(GRIDS["RAS"]))


def test_a_name_is_free_again_once_its_node_is_removed():
    """Slicer's own names count on, so that a scan that is opened again would be called otherwise."""
    for _time in range(2):
        nodes = []
        for name in ("head", "head_1", "head_2"):
            assert mrml.unique_name("head") == name
            nodes.append(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name))
        for node in nodes:
            mrml.remove_node(node)
