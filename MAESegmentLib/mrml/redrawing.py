"""Voxels that are put into segments which a user draws in: all but what is kept, and a way back."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import slicer
import vtk

from .layers import block_of, image_matrix, oriented_image, places_of, segments_of
from .matrices import parent_to_world
from .volumes import image_of

#: Tag of the segments, which knows what their voxels were made from. A tag rather than the node's attribute: Segment
#: Editor's own Undo returns tags with the voxels.
MADE_TAG = "MAESegment.Made"


def mark_made(node: Any, mark: str) -> None:
    """For `made_mark`, until the voxels are made anew."""
    for segment in segments_of(node.GetSegmentation()).values():
        segment.SetTag(MADE_TAG, mark)


def made_mark(node: Any) -> str:
    """What `mark_made` was told last; "" if nothing, or a state is back from before that."""
    text = vtk.reference("")
    for segment in segments_of(node.GetSegmentation()).values():
        if segment.GetTag(MADE_TAG, text):
            return str(text)
    return ""


class UndoPoint:
    """What a segmentation node is now, to return to exactly: its segments, their voxels, names, colours and tags."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self._history = slicer.vtkSegmentationHistory()
        # The present is saved, too, when the one before returns; with room for one only, that crashes.
        self._history.SetMaximumNumberOfStates(2)
        self._history.SetSegmentation(node.GetSegmentation())
        self._history.SaveState()

    def restore(self) -> None:
        self._history.RestorePreviousState()
        self.node.Modified()


def redrawing_steps(
    node: Any, volume: Any, labels: np.ndarray, values: Mapping[str, int], kept: np.ndarray
) -> Generator[float, None, dict[str, Any]]:
    """What `put_redrawn` takes: the segments named in `values`, each where `labels` (K, J, I) has its value.

    `labels` and `kept` are on the grid of `volume`, which may be another than the segmentation's: each voxel gets the
    nearest value. Where `kept` (broadcast to `labels`), and beyond the volume, voxels stay as they are. A generator
    that yields the share done every few hundredths of a second; the scene is not touched.
    """
    segments = segments_of(node.GetSegmentation())
    places = places_of({one: segments[one] for one in values if one in segments})
    world_to_ijk = np.linalg.inv(image_of([volume]).ijk_to_world)
    kept = np.broadcast_to(kept, labels.shape)
    whole = block_of(labels)
    images: dict[str, Any] = {}
    for number, (segment_id, value) in enumerate(values.items()):
        if segment_id not in segments:
            continue
        layer, old_value = places.get(segment_id, (None, 0))
        matrix = image_matrix(layer.image) if layer is not None else _own_grid(node, world_to_ijk)
        to_ijk = world_to_ijk @ parent_to_world(node) @ matrix
        found = block_of((labels[whole] == value).view(np.uint8)) if whole is not None else None
        old_extent = layer.image.GetExtent() if layer is not None else None
        extent = _joined(_bounds(whole, found, np.linalg.inv(to_ijk)), old_extent)
        if extent is None:
            continue
        i0, i1, j0, j1, k0, k1 = extent
        array = np.zeros((k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1), np.uint8)
        if layer is not None:
            a0, a1, b0, b1, c0, c1 = layer.image.GetExtent()
            array[c0 - k0 : c1 - k0 + 1, b0 - j0 : b1 - j0 + 1, a0 - i0 : a1 - i0 + 1] = layer.voxels == old_value
        for plane in range(len(array)):
            _redraw(array[plane], (i0, j0, k0 + plane), to_ijk, labels, kept, value)
            yield (number + (plane + 1) / len(array)) / len(values)
        images[segment_id] = yield from oriented_image(array, (i0, j0, k0), matrix)
    return images


def put_redrawn(node: Any, images: Mapping[str, Any]) -> None:
    """The quick part. Other segments stay as they are, also where they overlap these."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    with slicer.util.NodeModify(node):
        for segment_id, image in images.items():
            logic.SetBinaryLabelmapToSegment(image, node, segment_id, logic.MODE_REPLACE, image.GetExtent())
        # Segments that do not overlap share a label map again, as before.
        node.GetSegmentation().CollapseBinaryLabelmaps(False)


def _redraw(
    plane: np.ndarray,
    first: tuple[int, int, int],
    to_ijk: np.ndarray,
    labels: np.ndarray,
    kept: np.ndarray,
    value: int,
) -> None:
    """Set the voxels of a plane (J, I) of a segment's own grid to those of the nearest ones of the volume."""
    i0, j0, k = first
    j, i = np.meshgrid(j0 + np.arange(plane.shape[0]), i0 + np.arange(plane.shape[1]), indexing="ij")
    at = [np.floor(row[0] * i + row[1] * j + (row[2] * k + row[3] + 0.5)).astype(np.intp) for row in to_ijk[:3]]
    inside = np.logical_and.reduce([(axis >= 0) & (axis < n) for axis, n in zip(at, labels.shape[::-1], strict=True)])
    where = tuple(axis[inside] for axis in at[::-1])
    plane[inside] = np.where(kept[where], plane[inside], labels[where] == value)


def _own_grid(node: Any, world_to_ijk: np.ndarray) -> np.ndarray:
    """(4, 4), to the node's own RAS: in which an empty segment is drawn; the volume's if the node has none."""
    kind = slicer.vtkSegmentationConverter
    geometry = node.GetSegmentation().GetConversionParameter(kind.GetReferenceImageGeometryParameterName())
    image = slicer.vtkOrientedImageData()
    if geometry and kind.DeserializeImageGeometry(geometry, image, False):
        return image_matrix(image)
    return np.linalg.inv(world_to_ijk @ parent_to_world(node))


def _bounds(
    whole: tuple[slice, ...] | None, block: tuple[slice, ...] | None, to_own: np.ndarray
) -> tuple[int, ...] | None:
    """The extent (i0, i1, j0, ...) in a segment's own grid that holds a block of a block of the volume."""
    if whole is None or block is None:
        return None
    parts = [(part.start + outer.start, part.stop + outer.start) for part, outer in zip(block, whole, strict=True)]
    ends = [(start - 0.5, stop - 0.5) for start, stop in parts[::-1]]
    corners = np.array([(i, j, k, 1.0) for i in ends[0] for j in ends[1] for k in ends[2]]) @ to_own.T
    low, high = np.ceil(corners[:, :3].min(axis=0) - 1e-6), np.floor(corners[:, :3].max(axis=0) + 1e-6)
    return tuple(int(end) for pair in zip(low, np.maximum(low, high), strict=True) for end in pair)


def _joined(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if one is None or other is None:
        return one or other
    pairs = zip(one, other, strict=True)
    return tuple(max(pair) if number % 2 else min(pair) for number, pair in enumerate(pairs))
