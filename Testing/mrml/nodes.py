"""Nodes for tests: volumes of any grid under any transform, labels to fill segmentations with, and hands that edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from MAESegmentLib import mrml
from MAESegmentLib.images.labels import ANATOMICAL_STRUCTURE, Code, Label, Terminology
from MAESegmentLib.mrml.content import remember_segments
from MAESegmentLib.mrml.layers import oriented_image, outcome, segments_of
from MAESegmentLib.mrml.matrices import ijk_to_ras, to_vtk

LABELS = (
    Label(1, "front", (230, 159, 0), Terminology(ANATOMICAL_STRUCTURE, Code("SCT", "5366008", "Hippocampus"))),
    Label(
        3,
        "back, left",
        (86, 180, 233),
        Terminology(ANATOMICAL_STRUCTURE, Code("SCT", "5366008", "Hippocampus"), Code("SCT", "255551008", "Posterior")),
    ),
    Label(4, "never there", (10, 20, 30)),
)


def rotation(*degrees: float) -> np.ndarray:
    """(3, 3): turned about R, then A, then S."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def grid(
    directions: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...] = (11.0, -7.0, 23.5)
) -> np.ndarray:
    """(4, 4) IJK to RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


GRIDS = {
    "RAS": grid(np.eye(3), (1.0, 1.0, 1.0)),
    "LAS": grid(np.diag([-1.0, 1.0, 1.0]), (0.9, 1.1, 1.3)),
    "LPS": grid(np.diag([-1.0, -1.0, 1.0]), (1.0, 1.0, 2.5)),
    "PSR": grid(np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]]), (0.8, 0.8, 3.0)),
    "oblique": grid(rotation(12, -25, 40), (1.0, 1.2, 1.7)),
    "oblique, left-handed": grid(rotation(-31, 8, 15) @ np.diag([1.0, 1.0, -1.0]), (0.7, 1.4, 2.1)),
    "anisotropic": grid(np.eye(3), (0.4, 0.5, 8.0)),
}

TRANSFORMS = {
    "none": (),
    "shifted": (grid(np.eye(3), (1.0, 1.0, 1.0), (40.0, -3.0, 9.0)),),
    "turned": (grid(rotation(20, 5, -33), (1.0, 1.0, 1.0)),),
    "mirrored and scaled": (grid(np.diag([-1.0, 1.0, 1.0]), (1.1, 1.1, 1.1)),),
    "nested": (grid(rotation(0, 0, 50), (1.0, 1.0, 1.0)), grid(rotation(10, 0, 0), (1.0, 1.0, 1.0), (1.0, 2.0, 3.0))),
}


def volume(
    ijk_to_ras: np.ndarray,
    transforms: tuple[np.ndarray, ...] = (),
    *,
    shape: tuple[int, ...] = (9, 11, 13),
    name="scan",
) -> Any:
    """A volume node of (K, J, I) random voxels; `transforms` are from the outermost to the one right above it."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.random.default_rng(0).integers(-1000, 2000, shape).astype(np.int16))
    node.SetIJKToRASMatrix(to_vtk(ijk_to_ras))
    parent = None
    for matrix in transforms:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "transform")
        transform.SetMatrixTransformToParent(to_vtk(matrix))
        if parent is not None:
            transform.SetAndObserveTransformNodeID(parent.GetID())
        parent = transform
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def warp(node: Any) -> Any:
    """Put it under a transform that is not linear."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    spline = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for point in ((0, 0, 0), (20, 0, 0), (0, 20, 0), (0, 0, 20), (20, 20, 20)):
        source.InsertNextPoint(point)
        target.InsertNextPoint([c + 0.1 * c * c / 20 for c in point])
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    transform.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def labels_for(shape: tuple[int, ...]) -> np.ndarray:
    """(K, J, I) uint8 with two bodies of irregular outline that do not reach the border."""
    array = np.zeros(shape, np.uint8)
    k, j, i = shape
    array[2 : k - 2, 2 : j // 2, 3 : i - 3] = 1
    array[3 : k - 3, j // 2 : j - 2, 2 : i - 4] = 3
    array[2, 2, 3] = 0
    return array


def cropped(array: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The smallest block that holds labels, and its first voxel (i, j, k)."""
    found = np.nonzero(array)
    if not len(found[0]):
        return array[:0, :0, :0], (0, 0, 0)
    low, high = [int(axis.min()) for axis in found], [int(axis.max()) + 1 for axis in found]
    block = array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return block, (low[2], low[1], low[0])


def segmented(node: Any, array: np.ndarray, *, into: Any = None, labels: Any = LABELS) -> Any:
    """The segmentation node that we make of a whole (K, J, I) label map."""
    block, origin = cropped(array)
    return mrml.add_segmentation(node, labels, block, origin, name="result", into=into)


def imported_by_slicer(node: Any, array: np.ndarray) -> Any:
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


def remember_content(segmentation: Any) -> None:
    """From now on the present content counts as not edited."""
    outcome(remember_segments(segments_of(segmentation.GetSegmentation())))


def paint(segmentation: Any, segment_id: str, node: Any) -> None:
    """Set or unset one voxel of a segment."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node)
    array[4, 5, 6] = 1 - array[4, 5, 6]
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segment_id, node)


#: The ways in which Segment Editor's effects write into a segment.
MODES = {
    name: getattr(slicer.vtkSlicerSegmentationsModuleLogic, f"MODE_{name}")
    for name in ("REPLACE", "MERGE_MAX", "MERGE_MIN", "MERGE_MASK")
}


def brush(segmentation: Any, segment_id: str, node: Any, mode: str) -> None:
    """Write a box into a segment as Segment Editor's effects do, over whatever lies there."""
    box = np.ones((3, 4, 5), np.uint8)
    box[1, 1, 1] = 0
    image = outcome(oriented_image(box, (4, 3, 3), ijk_to_ras(node)))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, segmentation, segment_id, MODES[mode], image.GetExtent())


def points_in_slicer(segmentation: Any, segment_id: str) -> np.ndarray:
    """World positions (N, 3) of a segment's voxels, from its own label map, as Slicer draws them, in order."""
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    segmentation.GetBinaryLabelmapRepresentation(segment_id, image)
    if image.IsEmpty():
        return np.empty((0, 3))
    image.GetImageToWorldMatrix(matrix)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    voxels = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    mask = voxels.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1) > 0
    found = []
    for ijk in np.argwhere(mask)[:, ::-1] + (i0, j0, k0):
        world = [0.0, 0.0, 0.0]
        segmentation.TransformPointToWorld(matrix.MultiplyPoint([*map(float, ijk), 1.0])[:3], world)
        found.append(world)
    return in_order(np.array(found).reshape(-1, 3))


def points(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Where `matrix` (4, 4) puts the voxels of a mask (I, J, K): (N, 3), in order."""
    return in_order(np.argwhere(mask) @ matrix[:3, :3].T + matrix[:3, 3])


def in_order(found: np.ndarray) -> np.ndarray:
    """Sorted by a combination of coordinates that rounding does not tie."""
    return found[np.argsort(found @ np.array([1.0, 0.7310585, 0.4142136]), kind="stable")]


def read_segmentation(path: Path) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def voxels_of(segmentation: Any, node: Any) -> dict[str, np.ndarray]:
    """The voxels (K, J, I) of each segment on the grid of `node`, by ID, as Slicer exports them."""
    ids = [mrml.segment_id_of(label) for label in LABELS]
    return {one: slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, node).copy() for one in ids}


def assert_same_voxels(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for segment_id, array in expected.items():
        np.testing.assert_array_equal(found[segment_id], array, err_msg=segment_id)
