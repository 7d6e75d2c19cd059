"""Whether a user edited a segmentation: a short text about its content, kept with it and compared later."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import vtk

from .layers import LABELMAP, Layer, block_of, layers_of, moved, outcome, parts_of, places_of, segments_of

#: Tag of the first segment. A tag rather than the node's attribute: .seg.nrrd files and sequences keep tags.
CONTENT_TAG = "MAESegment.Content"
_FORMAT = "1"
#: Of `content_of`, which does not depend on which segments share a label map either: Slicer joins them when it saves.
_FORMAT_BY_SEGMENT = "2"
#: How far saved directions (mm a voxel) and positions (mm) may be from what was written.
_DIRECTION_TOLERANCE, _POSITION_TOLERANCE = 1e-3, 2e-2


def is_edited(node: Any) -> bool:
    """Whether voxels, names or segments differ from what was filled in; also for content that never was.

    Colours, visibility, surfaces and the transforms above may change freely.
    """
    segments = segments_of(node.GetSegmentation()) if node is not None else {}
    if not segments:
        return False
    remembered = _remembered(next(iter(segments.values())))
    return not _is_same(remembered, outcome(_description(segments)))


def forget_content(node: Any) -> None:
    """From now on the content counts as edited by a user, whatever it is."""
    for segment in segments_of(node.GetSegmentation()).values():
        segment.RemoveTag(CONTENT_TAG)


def content_stamp(node: Any) -> tuple[Any, ...]:
    """Changes whenever voxels, names or the list of segments do; cheap, unlike comparing voxels."""
    stamp: list[Any] = []
    for segment_id, segment in segments_of(node.GetSegmentation()).items():
        image = segment.GetRepresentation(LABELMAP)
        stamp.append((segment_id, segment.GetName(), image.GetMTime() if image is not None else 0))
    return tuple(stamp)


def content_of(node: Any) -> str:
    """The present content in a short text, to be compared later with `has_content`, also after saving and loading."""
    return str(outcome(content_steps(node)))


def content_steps(node: Any) -> Generator[float, None, str]:
    """`content_of` in steps of a few hundredths of a second."""
    segments = segments_of(node.GetSegmentation())
    digest = hashlib.blake2b(digest_size=16)
    first: np.ndarray | None = None
    places = places_of(segments)
    layers = {id(layer): layer for layer, _value in places.values()}
    blocks = {key: block_of(layer.voxels) for key, layer in layers.items()}
    yield 0.0
    for number, (segment_id, segment) in enumerate(segments.items()):
        digest.update(f"{segment_id}\0{segment.GetName()}\0".encode())
        layer, value = places.get(segment_id, (None, 0))
        block = blocks.get(id(layer))
        if layer is None or block is None:
            continue
        mask = layer.voxels[block] == value
        inner = block_of(mask.view(np.uint8))
        if inner is None:
            continue
        start = tuple(outer.start + part.start for outer, part in zip(block, inner, strict=True))
        matrix = moved(layer.matrix, start)
        first = matrix if first is None else first
        _add_place(digest, first, matrix, mask[inner].shape)
        flat = np.ascontiguousarray(mask[inner]).ravel()
        # The block begins with a voxel of the segment or without one; then where that changes.
        digest.update(flat[:1].tobytes())
        digest.update((np.flatnonzero(flat[1:] != flat[:-1]) + 1).astype("<i8").tobytes())
        yield (number + 1) / len(segments)
    return _joined(_FORMAT_BY_SEGMENT, digest, first)


def has_content(node: Any, content: str) -> bool:
    """Whether voxels, names and segments are those of which `content_of` made `content`."""
    return _is_same(content, content_of(node))


def remember_segments(segments: Mapping[str, Any]) -> Generator[float, None, None]:
    """From now on the content of these segments (by ID) counts as not edited; yields the share done."""
    description = yield from _description(segments)
    for number, segment in enumerate(segments.values()):
        segment.RemoveTag(CONTENT_TAG)
        if number == 0:
            segment.SetTag(CONTENT_TAG, description)


def _remembered(segment: Any) -> str:
    text = vtk.reference("")
    return str(text) if segment.HasTag(CONTENT_TAG) and segment.GetTag(CONTENT_TAG, text) else ""


def _description(segments: Mapping[str, Any]) -> Generator[float, None, str]:
    """format_digest_place; only characters that may stand in a tag of a .seg.nrrd file.

    It does not depend on how Slicer stores the voxels: that crops label maps, renumbers their values and changes their
    type when it saves or edits. The place is in plain numbers because files round them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for segment_id, segment in segments.items():
        digest.update(f"{segment_id}\0{segment.GetName()}\0".encode())
    first: np.ndarray | None = None
    for layer in layers_of(segments.values()):
        block = block_of(layer.voxels)
        yield 0.5
        if block is None:
            continue
        matrix = moved(layer.matrix, tuple(part.start for part in block))
        first = matrix if first is None else first
        _add_place(digest, first, matrix, layer.voxels[block].shape)
        yield from _add_runs(digest, layer, layer.voxels[block])
    return _joined(_FORMAT, digest, first)


def _add_place(digest: Any, first: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> None:
    """Where a block lies, seen from the first one: identity and whole voxels, far from where rounding turns."""
    digest.update(np.rint(np.linalg.inv(first) @ matrix * 16).astype("<i8").tobytes())
    digest.update(np.array(shape, "<i8").tobytes())


def _joined(kind: str, digest: Any, first: np.ndarray | None) -> str:
    place = () if first is None else tuple(first[:3].ravel())
    return "_".join([kind, digest.hexdigest(), ",".join(f"{number:.6f}" for number in place)])


def _add_runs(digest: Any, layer: Layer, voxels: np.ndarray) -> Generator[float, None, None]:
    """Add where, along the voxels, a segment begins and which: a few numbers instead of every voxel."""
    for part in parts_of(voxels):
        flat = np.ascontiguousarray(voxels[part]).ravel()
        starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
        values, numbers = flat[starts], np.zeros(starts.size, "<u2")
        for number, value in layer.segments:
            numbers[values == value] = number + 1
        begins = np.append(True, numbers[1:] != numbers[:-1])
        digest.update(starts[begins].astype("<i8").tobytes())
        digest.update(numbers[begins].tobytes())
        yield part.stop / len(voxels)


def _is_same(one: str, other: str) -> bool:
    if one.split("_")[:2] != other.split("_")[:2]:
        return False
    places = [text.rpartition("_")[2] for text in (one, other)]
    if not all(places):
        return places[0] == places[1]
    try:
        first, second = (np.array([float(number) for number in place.split(",")]).reshape(3, 4) for place in places)
    except ValueError:
        return False
    difference = np.abs(first - second)
    return bool(difference[:, :3].max() <= _DIRECTION_TOLERANCE and difference[:, 3].max() <= _POSITION_TOLERANCE)
