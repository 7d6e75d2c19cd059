"""Segmentation nodes: filled from the network's labels, and read back as label maps."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import slicer

from ..errors import NodeError
from ..images.terminology_entry import terminology_entry
from ..images.volume import LabelMap
from ..labels import Label
from .content import remember_segments
from .layers import LABELMAP, Layer, image_matrix, layers_of, oriented_image, outcome, segments_of
from .matrices import ijk_to_ras, to_vtk
from .volumes import image_of

#: Voxels that lie this close (in voxels) to those of another grid are the same ones.
_SAME_VOXEL = 0.01


def segment_id_of(label: Label) -> str:
    """The same for every segmentation by every version of a model, so that scripts may rely on it."""
    return f"Segment_{label.value}"


def add_segmentation(
    volume: Any,
    labels: Sequence[Label],
    block: np.ndarray,
    origin_ijk: Sequence[int],
    *,
    name: str,
    into: Any = None,
) -> Any:
    """A segmentation node of `volume` with one segment a label, in the order of their values; empty ones stay.

    `block` (K, J, I) holds the label values, its first voxel is `origin_ijk` of the volume; it is copied. It becomes
    one label map that all segments share, as Slicer makes it when it imports one, without resampling: milliseconds.
    `into` is a segmentation node whose content is replaced.
    """
    return put_segments(volume, outcome(prepare_segments(volume, labels, block, origin_ijk)), name=name, into=into)


def prepare_segments(
    volume: Any, labels: Sequence[Label], block: np.ndarray, origin_ijk: Sequence[int]
) -> Generator[float, None, Mapping[str, Any]]:
    """The slow part of `add_segmentation`: a generator that yields every few hundredths of a second.

    Returns what `put_segments` takes; the scene is not touched, so a caller can check once more before that.
    """
    if block.dtype not in (np.uint8, np.uint16):
        # No other types are sure to be label maps to Slicer.
        block = block.astype(np.uint8 if max(label.value for label in labels) < 256 else np.uint16)
    image = yield from oriented_image(block, tuple(origin_ijk), ijk_to_ras(volume))
    ordered = sorted(labels, key=lambda label: label.value)
    segments = {segment_id_of(label): _segment(label, image) for label in ordered}
    yield from remember_segments(segments)
    return segments


def put_segments(volume: Any, segments: Mapping[str, Any], *, name: str, into: Any = None) -> Any:
    """The quick part of `add_segmentation`; `segments` cannot be put into a second node."""
    _follow(volume, segments)
    node = into if into is not None else slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    with slicer.util.NodeModify(node):
        segmentation = node.GetSegmentation()
        _clear(segmentation)
        # Before the geometry and the voxels: set later, it would be applied to them.
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        segmentation.SetSourceRepresentationName(LABELMAP)
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        for segment_id, segment in segments.items():
            segmentation.AddSegment(segment, segment_id)
    _put_beside(node, volume)
    return node


def label_map_of(node: Any, volume: Any, labels: Sequence[Label]) -> LabelMap:
    """The segments as label values on the grid of `volume`, in world RAS; where they overlap the last label wins.

    Segments are found by `segment_id_of`, else by name; `NodeError` names those that are missing.
    """
    image = image_of([volume])
    array = np.zeros(image.channels[0].shape, np.uint8 if max(x.value for x in labels) < 256 else np.uint16)
    ordered = sorted(labels, key=lambda label: label.value)
    ids = [_find(node.GetSegmentation(), label) for label in ordered]
    missing = [label.name for label, segment_id in zip(ordered, ids, strict=True) if not segment_id]
    if missing:
        raise NodeError(
            f"{node.GetName()} has no segment for {', '.join(missing)}.", "Rename its segments as the model names them."
        )
    layers = layers_of(node.GetSegmentation().GetSegment(segment_id) for segment_id in ids)
    if len(layers) == 1 and _is_label_map(layers[0], node, ordered):
        offset = _offset(layers[0], node, volume)
        if offset is not None:
            target, source = _overlap(array.shape, layers[0].voxels.shape, offset)
            array[target] = layers[0].voxels[source]
            return LabelMap(array.transpose(2, 1, 0), image.ijk_to_world)
    places = {number: (layer, value) for layer in layers for number, value in layer.segments}
    for number, (layer, value) in sorted(places.items()):
        found = layer.voxels == value
        offset = _offset(layer, node, volume)
        if offset is not None:
            target, source = _overlap(array.shape, found.shape, offset)
            np.copyto(array[target], ordered[number].value, where=found[source])
        elif found.any():
            whole = slicer.util.arrayFromSegmentBinaryLabelmap(node, ids[number], volume)
            np.copyto(array, ordered[number].value, where=whole != 0)
    return LabelMap(array.transpose(2, 1, 0), image.ijk_to_world)


def _follow(volume: Any, segments: Mapping[str, Any]) -> None:
    """Move the segments to where the volume is, if that was changed since they were prepared."""
    image = next(iter(segments.values())).GetRepresentation(LABELMAP)
    if not np.allclose(image_matrix(image), ijk_to_ras(volume), rtol=0, atol=1e-9):
        image.SetImageToWorldMatrix(to_vtk(ijk_to_ras(volume)))
        outcome(remember_segments(segments))


def _clear(segmentation: Any) -> None:
    """Remove all segments; without their voxels, which Slicer would first separate, a copy a segment."""
    for number in range(segmentation.GetNumberOfSegments()):
        segmentation.GetNthSegment(number).RemoveAllRepresentations()
    segmentation.RemoveAllSegments()


def _segment(label: Label, image: Any) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(label.name)
    segment.SetColor(*(component / 255 for component in label.colour))
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminology_entry(label.terminology))
    segment.SetLabelValue(label.value)
    segment.AddRepresentation(LABELMAP, image)
    return segment


def _put_beside(node: Any, volume: Any) -> None:
    """Into the volume's study (or folder) of the subject hierarchy, where there is one."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    item = hierarchy.GetItemByDataNode(volume)
    if item:
        hierarchy.CreateItem(hierarchy.GetItemParent(item), node)


def _find(segmentation: Any, label: Label) -> str:
    """The ID of the segment of `label`, or ""."""
    segment_id = segment_id_of(label)
    if segmentation.GetSegment(segment_id) is not None:
        return segment_id
    return str(segmentation.GetSegmentIdBySegmentName(label.name))


def _is_label_map(layer: Layer, node: Any, ordered: Sequence[Label]) -> bool:
    """Whether the voxels of a layer are the labels' values as they are, and nothing else."""
    sharing = [x for x in segments_of(node.GetSegmentation()).values() if x.GetRepresentation(LABELMAP) is layer.image]
    return len(sharing) == len(layer.segments) and all(ordered[n].value == value for n, value in layer.segments)


def _offset(layer: Layer, node: Any, volume: Any) -> tuple[int, ...] | None:
    """(k, j, i) of the layer's first voxel on the grid of `volume`; None if its voxels are not that grid's."""
    if node.GetTransformNodeID() != volume.GetTransformNodeID():
        return None
    mapping = np.linalg.inv(ijk_to_ras(volume)) @ layer.matrix
    sizes = np.array(layer.voxels.shape[::-1])
    shift = np.rint(mapping[:3, 3])
    drift = np.abs(mapping[:3, :3] - np.eye(3)) @ sizes + np.abs(mapping[:3, 3] - shift)
    return None if drift.max() > _SAME_VOXEL else tuple(int(number) for number in shift[::-1])


def _overlap(
    whole: tuple[int, ...], part: tuple[int, ...], offset: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a part at `offset` lies in the whole, and what of the part that is."""
    target, source = [], []
    for size, length, first in zip(whole, part, offset, strict=True):
        low, high = max(first, 0), max(min(first + length, size), max(first, 0))
        target.append(slice(low, high))
        source.append(slice(low - first, high - first))
    return tuple(target), tuple(source)
