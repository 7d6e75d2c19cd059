"""A small picture by which a user recognises a case: the slice that shows most, with the labels' contours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..images.labels import Label
from ..images.orientation import Reordering
from ..images.volume import LabelMap, Volume
from .records import IGNORE

#: Length of the longer side.
PIXELS = 160
#: Slices so much thicker than the others' spacing are what a scan is looked at in.
_THICK = 1.5
#: Labels that span less of the slice than this are zoomed in on.
_SMALL = 0.4
#: Soft-tissue window in HU, where the darkest voxels are air as on a CT scale.
_CT_WINDOW = (-160.0, 240.0)


def write_thumbnail(path: Path, image: Volume, label_map: LabelMap, labels: Sequence[Label]) -> None:
    """A PNG in radiological convention (the patient's right on the left of the picture)."""
    grey, segments, spacing = _telling_slice(image, label_map)
    box = _zoom(segments, spacing)
    grey, segments = grey[box], segments[box]
    scale = PIXELS / (np.array(grey.shape) * spacing).max()
    size = [max(1, round(float(n))) for n in np.array(grey.shape) * spacing * scale]
    low, high = _window(image.array[0])
    shade = np.clip((_resized(grey.astype(np.float32), size) - low) / (high - low), 0.0, 1.0)
    picture = np.repeat(np.rint(255 * shade).astype(np.uint8)[..., None], 3, axis=-1)
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int) for n, m in zip(size, grey.shape, strict=True)
    )
    enlarged = segments[np.ix_(rows, columns)]
    for label in labels:
        picture[_outline(enlarged == label.value)] = label.colour
    path.write_bytes(png(picture))


def png(picture: np.ndarray) -> bytes:
    """(rows, columns, 3) uint8 as a PNG file."""
    rows, columns, _ = picture.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), picture.reshape(rows, -1)], axis=1)  # 0: no filter
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _telling_slice(image: Volume, label_map: LabelMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey values and label values (row, column) of the slice with most labels, and the size of its pixels in mm."""
    reordering = Reordering.to("LPI", image.ijk_to_ras)  # columns run to the left, rows to the back or downwards
    grey, segments = reordering.apply(image.array[0]), reordering.apply(label_map.array)
    spacing = image.grid.spacing[list(reordering.axes)]
    across = int(np.argmax(spacing)) if spacing.max() > _THICK * np.sort(spacing)[1] else 2
    others = tuple(axis for axis in range(3) if axis != across)
    shown = np.count_nonzero((segments > 0) & (segments != IGNORE), axis=others)
    where = int(shown.argmax()) if shown.any() else len(shown) // 2
    # The remaining axes are (column, row) in rising order.
    return grey.take(where, across).T, segments.take(where, across).T, spacing[list(others)][::-1]


def _zoom(segments: np.ndarray, spacing: np.ndarray) -> tuple[slice, slice]:
    """The labels with as much again around them, if they are small; else everything."""
    labelled = (segments > 0) & (segments != IGNORE)
    if not labelled.any():
        return slice(None), slice(None)
    found = [np.flatnonzero(labelled.any(axis=1 - axis)) for axis in range(2)]
    extent = np.array([(hit[-1] - hit[0] + 1) * mm for hit, mm in zip(found, spacing, strict=True)])
    if (extent / (np.array(segments.shape) * spacing)).max() > _SMALL:
        return slice(None), slice(None)
    margins = np.ceil(0.5 * extent.max() / spacing).astype(int)
    rows, columns = (
        slice(max(0, int(hit[0] - margin)), int(hit[-1] + margin + 1))
        for hit, margin in zip(found, margins, strict=True)
    )
    return rows, columns


def _window(image: np.ndarray) -> tuple[float, float]:
    """Grey values shown as black and white."""
    step = max(1, round((image.size / 1e6) ** (1 / 3)))
    low, high = np.percentile(image[::step, ::step, ::step], [1, 99.5])
    if low < -500:
        return _CT_WINDOW
    return float(low), float(high) if high > low else float(low) + 1.0


def _resized(array: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Linear interpolation of (row, column) to `size`, extent kept."""
    for axis in range(2):
        count = array.shape[axis]
        position = np.clip((np.arange(size[axis]) + 0.5) * count / size[axis] - 0.5, 0, count - 1)
        lower = np.floor(position).astype(int)
        upper = np.minimum(lower + 1, count - 1)
        weight = (position - lower).reshape((-1, 1) if axis == 0 else (1, -1)).astype(np.float32)
        array = array.take(lower, axis) * (1 - weight) + array.take(upper, axis) * weight
    return array


def _outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of `mask` that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
