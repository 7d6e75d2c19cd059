"""Nodes for the self test, and how its results are compared: in world space, never by voxel index."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import qt
import vtk
from vtk.util.numpy_support import vtk_to_numpy

import slicer
from MAESegmentLib import mrml
from MAESegmentLib.mrml.matrices import to_array, to_vtk

from .body_model import LABELS, body_at, body_on

#: What was put into the scene, to be taken out again.
_made: list[Any] = []


def remove_all() -> None:
    """Take everything made here out of the scene."""
    while _made:
        node = _made.pop()
        if node.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(node)


def plain(name: str) -> Any:
    """A small RAS volume of the body."""
    return _volume(name, _grid((42, 44, 40), (1.2, 1.2, 1.2)), (42, 44, 40))


def left_handed(name: str) -> Any:
    """First axis to the left, as many NIfTI files have it."""
    return _volume(name, _grid((44, 42, 38), (1.1, 1.2, 1.3), directions=np.diag([-1.0, 1.0, 1.0])), (44, 42, 38))


def oblique(name: str) -> Any:
    """Turned about all axes, thick slices, below two nested transforms."""
    parent = _transform(f"{name} parent", _rigid((0.0, 0.0, 20.0), (3.0, -2.0, 4.0)), None)
    child = _transform(f"{name} child", _rigid((15.0, -10.0, 0.0), (-2.0, 1.0, 0.0)), parent)
    to_world = _matrix_to_world(child)
    # Placed where the transforms bring it to the body.
    inverse = np.linalg.inv(to_world)
    matrix = _grid((46, 44, 26), (1.1, 1.2, 1.9), directions=_rigid((12.0, -17.0, 25.0))[:3, :3])
    matrix[:3, 3] += inverse[:3, 3]
    return _volume(name, matrix, (46, 44, 26), child)


def many_windows(name: str) -> Any:
    """Large enough that a segmentation takes some seconds."""
    return _filled(name, 96)


def large(name: str) -> Any:
    """256^3, as a large MR or CT."""
    return _filled(name, 256)


def single_slice(name: str) -> Any:
    return _node(name, np.zeros((1, 20, 20), np.int16), np.eye(4))


def sheared(name: str) -> Any:
    matrix = np.eye(4)
    matrix[0, 2] = 0.4
    return _node(name, np.zeros((20, 20, 20), np.int16), matrix)


def warped(name: str) -> Any:
    """Below a transform that is not linear."""
    spline = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for number, corner in enumerate(np.ndindex(2, 2, 2)):
        point = np.array(corner, float) * 20.0
        source.InsertNextPoint(*point)
        target.InsertNextPoint(*(point + (3.0 if number == 5 else 0.0)))
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    transform = _add("vtkMRMLTransformNode", f"{name} transform")
    transform.SetAndObserveTransformToParent(spline)
    node = _node(name, np.zeros((20, 20, 20), np.int16), np.eye(4))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


VOLUMES = {
    "Right-handed (RAS)": plain,
    "Left-handed (LAS)": left_handed,
    "Oblique, under a rotated transform": oblique,
}
REFUSED = {"Single slice": single_slice, "Sheared": sheared, "Warped": warped}


def compare_with_truth(volume: Any, segmentation: Any) -> dict[str, float]:
    """Dice of each segment with the body it stands for; raises if the segmentation is not as it should be at all."""
    content = segmentation.GetSegmentation()
    names = [content.GetNthSegment(number).GetName() for number in range(content.GetNumberOfSegments())]
    if names != [label.name for label in LABELS]:
        raise AssertionError(f"the segments are {names}")
    if segmentation.GetParentTransformNode() is not volume.GetParentTransformNode():
        raise AssertionError("the segmentation is not below the volume's transform")
    shape = volume.GetImageData().GetDimensions()[::-1]
    truth = body_on(shape, mrml.image_of([volume]).ijk_to_world)[1]
    scores: dict[str, float] = {}
    for number, label in enumerate(LABELS):
        points = segment_points(segmentation, content.GetNthSegmentID(number))
        expected = int(np.count_nonzero(truth == label.value))
        if not expected:
            if len(points):
                raise AssertionError(f"{label.name} has {len(points)} voxels but is not in the volume")
            continue
        hits = int(np.count_nonzero(body_at(points)[1] == label.value))
        scores[label.name] = 2 * hits / (len(points) + expected)
    return scores


def segment_points(segmentation: Any, segment_id: str) -> np.ndarray:
    """World RAS positions (N, 3) of a segment's voxels, from its own labelmap's geometry."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    labelmap = segment.GetRepresentation("Binary labelmap")
    if labelmap is None or labelmap.IsEmpty():
        return np.empty((0, 3))
    extent = labelmap.GetExtent()
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(shape)
    k, j, i = np.nonzero(voxels == segment.GetLabelValue())
    to_segmentation = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(to_segmentation)
    matrix = _matrix_to_world(segmentation.GetParentTransformNode()) @ to_array(to_segmentation)
    indices = np.stack([i + extent[0], j + extent[2], k + extent[4]], axis=-1).astype(float)
    return indices @ matrix[:3, :3].T + matrix[:3, 3]


def save_in_world(volume: Any, path: Path) -> None:
    """Save as a user would who hardens the transforms first; `volume` stays as it is."""
    copy = mrml.hardened_copy(volume)
    try:
        copy.AddDefaultStorageNode(str(path))
        storage = copy.GetStorageNode()
        storage.SetFileName(str(path))
        if not storage.WriteData(copy):
            raise AssertionError(f"{path.name} was not written")
        slicer.mrmlScene.RemoveNode(storage)
    finally:
        slicer.mrmlScene.RemoveNode(copy)


def agreement_with_file(segmentation: Any, path: Path) -> float:
    """Share of voxels that have the same label in the segmentation and in a label map file, by world position."""
    stored = np.load(path)
    expected, to_world = stored["labels"], stored["ijk_to_ras"]
    found = np.zeros_like(expected)
    to_file = np.linalg.inv(to_world)
    content = segmentation.GetSegmentation()
    for number, label in enumerate(LABELS):
        points = segment_points(segmentation, content.GetNthSegmentID(number))
        indices = np.rint(points @ to_file[:3, :3].T + to_file[:3, 3]).astype(int)
        found[tuple(indices.T)] = label.value
    return float(np.mean(found == expected))


class Heartbeat:
    """The longest time in which the event loop did nothing else."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._last = 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(5)
        if not self._timer.connect("timeout()", self._beat):
            raise AssertionError("the timer has no signal timeout()")

    def begin(self) -> None:
        self._last = time.monotonic()
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()

    def _beat(self) -> None:
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - self._last)
        self._last = now


def _volume(name: str, ijk_to_ras: np.ndarray, shape_ijk: tuple[int, int, int], parent: Any = None) -> Any:
    to_world = _matrix_to_world(parent) @ ijk_to_ras
    node = _node(name, body_on(shape_ijk[::-1], to_world)[0], ijk_to_ras)
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def _filled(name: str, size: int) -> Any:
    ramp = np.arange(size, dtype=np.int16)
    voxels = np.empty((size, size, size), np.int16)
    voxels[:] = ramp[:, None, None] + ramp[None, None, :]
    return _node(name, voxels, _grid((size, size, size), (1.0, 1.0, 1.0)))


def _add(kind: str, name: str) -> Any:
    _made.append(slicer.mrmlScene.AddNewNodeByClass(kind, name))
    return _made[-1]


def _node(name: str, voxels: np.ndarray, ijk_to_ras: np.ndarray) -> Any:
    node = _add("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetIJKToRASMatrix(to_vtk(ijk_to_ras))
    return node


def _transform(name: str, matrix: np.ndarray, parent: Any) -> Any:
    node = _add("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(to_vtk(matrix))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def _grid(shape_ijk: Any, spacing: Any, directions: np.ndarray | None = None) -> np.ndarray:
    """IJK to RAS of a grid whose middle is the origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if directions is None else directions) @ np.diag(spacing)
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape_ijk) - 1) / 2)
    return matrix


def _rigid(degrees: tuple[float, float, float], shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    transform = vtk.vtkTransform()
    transform.Translate(*shift)
    for turn, angle in zip((transform.RotateX, transform.RotateY, transform.RotateZ), degrees, strict=True):
        turn(angle)
    return to_array(transform.GetMatrix())


def _matrix_to_world(parent: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    if parent is not None:
        slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(parent, None, matrix)
    return to_array(matrix)
