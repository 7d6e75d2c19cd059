"""Segmentation nodes: filled from the network's labels, and read back as label maps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np
import slicer

from ..errors import NodeError
from ..images.labels import Label, same_names, terminology_entry
from ..images.volume import LabelMap
from .annotations import drawing_steps, drawn_segments
from .content import remember_segments
from .frames import shown_beside
from .layers import LABELMAP, image_matrix, oriented_image, outcome, segments_of
from .matrices import ijk_to_ras, to_vtk

#: Attribute of a map of where two versions differ: shown, but nobody's segmentation.
_DIFFERENCE = "MAESegment.Difference"
#: Attributes of what was made here begin so.
_OURS = "MAESegment."


def volume_of(segmentation: Any) -> Any:
    """The scan that a segmentation was made on; None if that is not known. One that is a frame of a sequence was made
    on the frame that the same browser shows."""
    scan = segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
    return scan if scan is not None else shown_beside(segmentation)


def note_volume(segmentation: Any, volume: Any) -> None:
    """That it was made on this scan, unless another one is known."""
    if volume_of(segmentation) is None:
        segmentation.SetNodeReferenceID(segmentation.GetReferenceImageGeometryReferenceRole(), volume.GetID())


def may_be_of(segmentation: Any, volume: Any) -> bool:
    """Whether it was made on a scan, or nobody knows on which. What was made here and has no scan lost it: that was
    removed, so it is of no other one."""
    scan = volume_of(segmentation)
    is_ours = any(name.startswith(_OURS) for name in segmentation.GetAttributeNames())
    return scan is volume or (scan is None and not is_ours)


def segmentations_of(volume: Any) -> list[Any]:
    """Those that were made on a scan, the newest last; without maps of differences."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if volume_of(node) is volume and not is_difference(node)]


def mark_difference(segmentation: Any) -> None:
    """Note that it shows where two versions differ: it is not to be corrected, stored or exported."""
    segmentation.SetAttribute(_DIFFERENCE, "1")


def is_difference(segmentation: Any) -> bool:
    return segmentation is not None and segmentation.GetAttribute(_DIFFERENCE) is not None


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


def add_segment(node: Any, name: str, is_same: Callable[[str], bool]) -> None:
    """An empty, grey one, unless there is one whose name is the same."""
    content = node.GetSegmentation()
    if not any(is_same(segment.GetName() or "") for segment in segments_of(content).values()):
        content.AddEmptySegment("", name, (0.5, 0.5, 0.5))


def remove_empty_segments(node: Any, is_meant: Callable[[str], bool]) -> None:
    """Those of a name that is meant."""
    for segment in drawn_segments(node):
        if segment.is_empty and is_meant(segment.name):
            node.GetSegmentation().RemoveSegment(segment.id)


def label_map_of(node: Any, volume: Any, labels: Sequence[Label]) -> LabelMap:
    """The segments as label values on the grid of `volume`, in world RAS; where they overlap the last label wins.

    Segments are found by name; `NodeError` names those that are missing, or there twice.
    """
    ordered = sorted(labels, key=lambda label: label.value)
    ids = [_find(node.GetSegmentation(), label) for label in ordered]
    missing = [label.name for label, segment_id in zip(ordered, ids, strict=True) if not segment_id]
    if missing:
        raise NodeError(
            f"{node.GetName()} has not one segment for each of {', '.join(missing)}.",
            "Rename its segments as the model names them.",
        )
    values = {segment_id: label.value for segment_id, label in zip(ids, ordered, strict=True)}
    drawing = outcome(drawing_steps(node, volume, values))
    return LabelMap(drawing.array.transpose(2, 1, 0), drawing.ijk_to_world)


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
    """The ID of the only segment of the label's name, or "". IDs tell nothing: Slicer, too, calls its segments
    Segment_1, Segment_2, ..."""
    names = {segment_id: segment.GetName() for segment_id, segment in segments_of(segmentation).items()}
    alike = same_names(label.name, names.values())
    found = [segment_id for segment_id, name in names.items() if name in alike]
    return found[0] if len(found) == 1 else ""
