"""What a user drew: the segments of a node, whatever they are called, as label values on the grid of a scan."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import NodeError
from ..images.labels import Terminology, is_background, parse_terminology_entry
from ..images.segment_statistics import SegmentStatistics, measure
from .layers import LABELMAP, Layer, block_of, parts_of, places_of, segments_of
from .matrices import parent_to_world
from .volumes import image_of

#: Voxels that lie this close (in voxels) to those of another grid are the same ones.
_SAME_VOXEL = 0.01


@dataclass(frozen=True)
class Segment:
    """A segment as a user sees it; `colour` is sRGB 0..255."""

    id: str
    name: str
    colour: tuple[int, int, int]
    terminology: Terminology
    is_empty: bool


@dataclass(frozen=True, eq=False)
class Drawing:
    """`array` (K, J, I) holds the values that were asked for, 0 elsewhere; `ijk_to_world` (4, 4) is the scan's.

    `overlaps` are (segment, segment that won there, voxels); `outside` are segments that reach beyond the scan.
    All by segment ID.
    """

    array: np.ndarray
    ijk_to_world: np.ndarray
    overlaps: tuple[tuple[str, str, int], ...] = ()
    outside: tuple[str, ...] = ()


def drawn_segments(node: Any) -> tuple[Segment, ...]:
    """In the order of the node. `NodeError` if its segments are surfaces only, or lie under a bent transform."""
    _check(node)
    segments = segments_of(node.GetSegmentation())
    places = places_of(segments)
    return tuple(
        Segment(
            segment_id,
            segment.GetName() or segment_id,
            _colour(segment),
            _terminology(segment),
            segment_id not in places or not _has_voxels(*places[segment_id]),
        )
        for segment_id, segment in segments.items()
    )


def looks_of(node: Any) -> tuple[tuple[tuple[int, int, int], Terminology], ...]:
    """(colour, terminology) of the segments in the order of the node; no voxel is read."""
    return tuple((_colour(segment), _terminology(segment)) for segment in segments_of(node.GetSegmentation()).values())


def drawing_steps(node: Any, volume: Any, values: Mapping[str, int]) -> Generator[float, None, Drawing]:
    """Put `values` (> 0, by segment ID) on the grid of `volume`, compared in the world, transforms included.

    Where segments overlap the last of `values` wins. From another grid each voxel gets the nearest value. A generator
    that yields the share done every few hundredths of a second and returns the drawing.
    """
    _check(node)
    image = image_of([volume])
    array = np.zeros(image.channels[0].shape, np.uint8 if max(values.values(), default=0) < 256 else np.uint16)
    canvas = _Canvas(array, image.ijk_to_world)
    segments = segments_of(node.GetSegmentation())
    chosen = {segment_id: segments[segment_id] for segment_id in values if segment_id in segments}
    places = places_of(chosen)
    layers = {id(layer.image): layer for layer, _value in places.values()}
    to_world = parent_to_world(node)
    if len(layers) == 1:
        # They cannot overlap: one look at the voxels does for all.
        (layer,) = layers.values()
        table = {value: (segment_id, values[segment_id]) for segment_id, (_layer, value) in places.items()}
        yield from canvas.add(layer, to_world, table)
    else:
        for number, (segment_id, (layer, value)) in enumerate(places.items()):
            for part in canvas.add(layer, to_world, {value: (segment_id, values[segment_id])}):
                yield (number + part) / len(places)
    return canvas.finished()


def array_steps(
    voxels: np.ndarray, ijk_to_world: np.ndarray, volume: Any, names: Mapping[int, str]
) -> Generator[float, None, Drawing]:
    """As `drawing_steps`, of the values `names` (value -> what `outside` calls it) of a label map (K, J, I)."""
    image = image_of([volume])
    canvas = _Canvas(np.zeros(image.channels[0].shape, voxels.dtype), image.ijk_to_world)
    table = {value: (name, value) for value, name in names.items()}
    yield from canvas.add(Layer(None, voxels, ijk_to_world, ()), np.eye(4), table)
    return canvas.finished()


def statistics_steps(node: Any, volumes: Sequence[Any]) -> Generator[float, None, list[tuple[str, SegmentStatistics]]]:
    """(name, statistics) of the segments as they are now, on the grid of `volumes`, one a channel; those that overlap
    each for itself. A background is no structure."""
    image = image_of(volumes)
    channels = [channel.T for channel in image.channels]
    segments = [segment for segment in drawn_segments(node) if not is_background(segment.name)]
    numbers = {segment.id: number for number, segment in enumerate(segments, 1)}
    layers: dict[int, dict[str, int]] = {}
    for segment_id, (layer, _value) in places_of(segments_of(node.GetSegmentation())).items():
        if segment_id in numbers:
            layers.setdefault(id(layer.image), {})[segment_id] = numbers[segment_id]
    found: dict[int, SegmentStatistics] = {}
    for done, values in enumerate(layers.values()):
        drawing = yield from drawing_steps(node, volumes[0], values)
        yield done / len(layers)
        block = block_of(drawing.array)
        if block is not None:
            first = [part.start for part in block][::-1]
            found |= measure(drawing.array[block].T, [*values.values()], channels, image.ijk_to_world, first)
    return [(segment.name, found.get(numbers[segment.id], SegmentStatistics())) for segment in segments]


class _Canvas:
    """The label map that is being painted."""

    def __init__(self, array: np.ndarray, ijk_to_world: np.ndarray) -> None:
        self._array = array
        self._matrix = ijk_to_world
        self._owners: dict[int, str] = {}
        self._overlaps: dict[tuple[str, str], int] = {}
        self._outside: dict[str, None] = {}

    def finished(self) -> Drawing:
        overlaps = tuple((one, other, count) for (one, other), count in self._overlaps.items())
        return Drawing(self._array, self._matrix, overlaps, tuple(self._outside))

    def add(
        self, layer: Layer, node_to_world: np.ndarray, table: Mapping[int, tuple[str, int]]
    ) -> Generator[float, None, None]:
        """Paint the voxels of a layer that `table` names: value there -> (segment, value here)."""
        mapping = np.linalg.inv(self._matrix) @ node_to_world @ layer.matrix
        offset = _whole_offset(mapping, layer.voxels.shape)
        if offset is not None:
            yield from self._add_aligned(layer.voxels, offset, table)
        else:
            yield from self._add_resampled(layer.voxels, np.linalg.inv(mapping), table)

    def _add_aligned(
        self, voxels: np.ndarray, offset: tuple[int, ...], table: Mapping[int, tuple[str, int]]
    ) -> Generator[float, None, None]:
        target, source = _overlap(self._array.shape, voxels.shape, offset)
        if any(part.stop - part.start < size for part, size in zip(source, voxels.shape, strict=True)):
            yield from self._note_outside(voxels, source, table)
        inner, place = voxels[source], self._array[target]
        for part in parts_of(inner) if inner.size else ():
            self._paint(place[part], inner[part], table)
            yield part.stop / len(inner)

    def _add_resampled(
        self, voxels: np.ndarray, to_voxels: np.ndarray, table: Mapping[int, tuple[str, int]]
    ) -> Generator[float, None, None]:
        """Plane by plane, the nearest voxel for each of ours."""
        sizes = voxels.shape[::-1]
        depth, height, width = self._array.shape
        j, i = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        found = 0
        for k in range(depth):
            ijk = [
                np.floor(row[0] * i + row[1] * j + (row[2] * k + row[3] + 0.5)).astype(np.intp) for row in to_voxels[:3]
            ]
            inside = np.logical_and.reduce([(axis >= 0) & (axis < n) for axis, n in zip(ijk, sizes, strict=True)])
            if inside.any():
                plane = np.zeros((height, width), voxels.dtype)
                plane[inside] = voxels[ijk[2][inside], ijk[1][inside], ijk[0][inside]]
                self._paint(self._array[k], plane, table)
                found += 1
            yield (k + 1) / depth
        if not found:
            yield from self._note_outside(voxels, (slice(0, 0),) * 3, table)

    def _paint(self, place: np.ndarray, voxels: np.ndarray, table: Mapping[int, tuple[str, int]]) -> None:
        if len(table) > 1 and voxels.dtype in (np.uint8, np.uint16):
            # All in one look; these do not overlap each other, and nothing else is painted with them.
            wanted_for = np.zeros(np.iinfo(voxels.dtype).max + 1, place.dtype)
            for value, (_segment, wanted) in table.items():
                wanted_for[value] = wanted
            place[:] = wanted_for[voxels]
            return
        for value, (segment_id, wanted) in table.items():
            mask = voxels == value
            if mask.any():
                self._count_overlaps(place[mask], segment_id, wanted)
                place[mask] = wanted
            self._owners.setdefault(wanted, segment_id)

    def _count_overlaps(self, before: np.ndarray, segment_id: str, wanted: int) -> None:
        counts = np.bincount(before, minlength=1)
        for value in np.flatnonzero(counts):
            if value not in (0, wanted):
                pair = (self._owners[int(value)], segment_id)
                self._overlaps[pair] = self._overlaps.get(pair, 0) + int(counts[value])

    def _note_outside(
        self, voxels: np.ndarray, inside: tuple[slice, ...], table: Mapping[int, tuple[str, int]]
    ) -> Generator[float, None, None]:
        for value, (segment_id, _wanted) in table.items():
            mask = voxels == value
            if np.count_nonzero(mask[inside]) < np.count_nonzero(mask):
                self._outside[segment_id] = None
            yield 0.0


def _check(node: Any) -> None:
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        name = node.GetName() if node is not None else "Nothing"
        raise NodeError(f"{name} is not a segmentation.", "Choose the segmentation that was corrected.")
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise NodeError(
            f"{node.GetName()} lies under a transform that is not linear.",
            "Harden the transform, or move the segmentation out of it (Data module).",
        )
    content = node.GetSegmentation()
    if content.GetNumberOfSegments() and not content.ContainsRepresentation(LABELMAP):
        raise NodeError(
            f"The segments of {node.GetName()} are surfaces, not voxels.",
            "Create their binary labelmap in the Segmentations module (Representations).",
        )


def _has_voxels(layer: Layer, value: int) -> bool:
    # Plane by plane: what is there is usually met soon.
    return any(bool((plane == value).any()) for plane in layer.voxels)


def _colour(segment: Any) -> tuple[int, int, int]:
    red, green, blue = (int(min(max(component, 0.0), 1.0) * 255 + 0.5) for component in segment.GetColor())
    return red, green, blue


def _terminology(segment: Any) -> Terminology:
    text, tag = vtk.reference(""), slicer.vtkSegment.GetTerminologyEntryTagName()
    return parse_terminology_entry(str(text) if segment.GetTag(tag, text) else "")


def _whole_offset(mapping: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """(k, j, i) of the first voxel of a part whose indices `mapping` brings to ours; None if the grids differ."""
    sizes = np.array(shape[::-1])
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
