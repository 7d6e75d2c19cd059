"""What each structure measures on a scan, in columns called as Slicer's Segment Statistics calls them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..storage.atomic_file import write_file
from ..text import csv_cell
from .labels import Label
from .volume import LabelMap

#: Slicer has no column for the extents, nor for the border.
_SHAPE = ("Extent R mm", "Extent A mm", "Extent S mm", "Border voxel count")


@dataclass(frozen=True)
class SegmentStatistics:
    """Of one structure. `means` and `deviations` (of a sample, as Slicer has it) are those of the grey values, one a
    channel; without voxels there are none. `extent_mm` is along R, A, S, voxels included; `border_voxels` lie in the
    first or last slice of the scan in any of its axes: where there are any, the structure may be cut off there."""

    voxels: int = 0
    volume_mm3: float = 0.0
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    extent_mm: tuple[float, ...] = ()
    border_voxels: int = 0

    @classmethod
    def by_value(cls, data: Mapping[str, Any]) -> dict[int, SegmentStatistics]:
        """Of a mapping of label values, as JSON has it."""
        return {int(value): cls.from_dict(one) for value, one in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SegmentStatistics:
        """`asdict`, perhaps from a file of others: `ValueError` if a figure is none."""
        means, deviations, extent = (tuple(map(float, data[name])) for name in ("means", "deviations", "extent_mm"))
        voxels, border = int(data["voxels"]), int(data["border_voxels"])
        found = cls(voxels, float(data["volume_mm3"]), means, deviations, extent, border)
        figures = (found.voxels, found.border_voxels, found.volume_mm3, *found.deviations, *found.extent_mm)
        if not all(0 <= one < math.inf for one in figures) or not all(map(math.isfinite, found.means)):
            raise ValueError("this is not a figure")
        return found


def measure(
    array: np.ndarray,
    values: Sequence[int],
    channels: Sequence[np.ndarray] | np.ndarray,
    ijk_to_ras: np.ndarray,
    first_ijk: Sequence[int] = (0, 0, 0),
) -> dict[int, SegmentStatistics]:
    """Label value -> statistics, for all of `values`. `channels` (I, J, K) and `ijk_to_ras` are those of the whole
    scan, of which the unsigned `array` of labels may be the part that begins at `first_ijk`.

    >>> measure(np.ones((2, 2, 2), np.uint8), [1, 2], [np.full((4, 4, 4), -5)], np.eye(4), (1, 1, 1))[1]
    SegmentStatistics(voxels=8, volume_mm3=8.0, means=(-5.0,), deviations=(0.0,), extent_mm=(2.0, 2.0, 2.0), \
border_voxels=0)
    """
    axis = int(np.argmax(np.abs(array.strides)))  # so that a slice lies together in memory
    slices = np.moveaxis(array, axis, 0)
    counts = [np.bincount(one.ravel(order="K"), minlength=max(values, default=0) + 1) for one in slices]
    found = {}
    for value in values:
        there = [number for number, count in enumerate(counts) if count[value]]
        part = [slice(None)] * 3
        part[axis] = slice(there[0], there[-1] + 1) if there else slice(0, 0)
        # All that follows is done in the smallest block: a scan may have a hundred small structures.
        plane = np.logical_or.reduce(array[tuple(part)] == value, axis=axis)
        for number, other in enumerate(one for one in range(3) if one != axis):
            hits = np.flatnonzero(plane.any(axis=1 - number))
            part[other] = slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0)
        first = [int(start) + (one.start or 0) for start, one in zip(first_ijk, part, strict=True)]
        found[value] = _measured(array[tuple(part)] == value, channels, np.asarray(ijk_to_ras, float), first)
    return found


def measure_labels(
    label_map: LabelMap, labels: Sequence[Label], channels: Sequence[np.ndarray] | np.ndarray
) -> list[tuple[str, SegmentStatistics]]:
    """(name, statistics) of `labels`, in their order; `channels` are those of the scan, on the grid of the labels."""
    found = measure(label_map.array, [label.value for label in labels], channels, label_map.ijk_to_ras)
    return [(label.name, found[label.value]) for label in labels]


def _measured(
    mask: np.ndarray, channels: Sequence[np.ndarray] | np.ndarray, matrix: np.ndarray, first: Sequence[int]
) -> SegmentStatistics:
    count = int(np.count_nonzero(mask))
    if not count:
        return SegmentStatistics()
    whole = channels[0].shape
    place = tuple(slice(start, start + size) for start, size in zip(first, mask.shape, strict=True))
    grey = [channel[place][mask] for channel in channels]
    inner = tuple(
        slice(1 if start == 0 else 0, size - (start + size == end))
        for start, size, end in zip(first, mask.shape, whole, strict=True)
    )
    return SegmentStatistics(
        count,
        count * abs(float(np.linalg.det(matrix[:3, :3]))),
        tuple(float(one.mean(dtype=np.float64)) for one in grey),
        tuple(float(one.std(dtype=np.float64, ddof=1)) if count > 1 else 0.0 for one in grey),
        _extent(mask, matrix[:3, :3]),
        count - int(np.count_nonzero(mask[inner])),
    )


def _extent(mask: np.ndarray, axes: np.ndarray) -> tuple[float, ...]:
    """Along R, A, S. What is farthest in any direction is the first or last voxel of its row."""
    i, j = np.nonzero(mask.any(axis=2))
    rows = mask[i, j]
    ends = (rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1))
    points = np.concatenate([np.stack([i, j, k]) for k in ends], axis=1)
    return tuple(float(length) for length in np.ptp(axes @ points, axis=1) + np.abs(axes).sum(axis=1))


def write_statistics(path: Path, rows: Sequence[tuple[str, SegmentStatistics]], channels: Sequence[str] = ()) -> Path:
    """As `statistics_csv`. Only to a name that no scan and no segmentation has."""
    if path.suffix.lower() != ".csv":
        raise OutputError(f"{path.name} is not written in this format.", "Use a name that ends in .csv.")
    write_file(path, statistics_csv(rows, channels))
    return path


def statistics_csv(
    rows: Sequence[tuple[str, SegmentStatistics]], channels: Sequence[str] = (), output: str | None = None
) -> str:
    """A line for each (name, statistics). Several `channels` have their names in the columns; `output` is said of every
    row in a column before the others, as in `volumes.csv`."""
    of = [f" ({name})" for name in channels] if len(channels) > 1 else [""]
    grey = [f"{what}{one}" for one in of for what in ("Mean", "Standard deviation")]
    header = ["Segment", "Voxel count", "Volume mm3", "Volume cm3", *grey, *_SHAPE]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*([] if output is None else ["output"]), *map(csv_cell, header)])
    for name, one in rows:
        pairs: list[float | None] = [figure for pair in zip(one.means, one.deviations, strict=True) for figure in pair]
        figures: list[float | None] = [one.volume_mm3, one.volume_mm3 / 1000]
        figures += [*(pairs or [None] * len(grey)), *(one.extent_mm or [None] * 3)]
        cells = ["" if figure is None else f"{figure:.10g}" for figure in figures]
        head = [] if output is None else [csv_cell(output)]
        writer.writerow([*head, csv_cell(name), one.voxels, *cells, one.border_voxels])
    return stream.getvalue()
