"""How large each structure of a label map is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .labels import Label
from .volume import LabelMap

_PART = 2**20


def voxel_ml(label_map: LabelMap) -> float:
    return abs(float(np.linalg.det(label_map.ijk_to_ras[:3, :3]))) / 1000


def volumes_ml(label_map: LabelMap, labels: Sequence[Label]) -> dict[int, float]:
    """Label value -> millilitres, in the order of `labels`; 0 for a structure that is not there.

    >>> volumes_ml(LabelMap(np.ones((10, 10, 10), np.uint8), np.eye(4)), [Label(1, "cube"), Label(2, "nothing")])
    {1: 1.0, 2: 0.0}
    """
    counts, ml = value_counts(label_map.array), voxel_ml(label_map)
    return {label.value: float(counts[label.value]) * ml if label.value < len(counts) else 0.0 for label in labels}


def values_at_border(label_map: LabelMap) -> set[int]:
    """Of structures that reach the first or last slice along an axis, and may be cut off there."""
    ends = (np.take(label_map.array, end, axis) for axis in range(3) for end in (0, -1))
    return {int(value) for end in ends for value in np.unique(end) if value}


def value_counts(array: np.ndarray) -> np.ndarray:
    """How many voxels of the unsigned `array` have the value 0, 1, ..., as far as there are any."""
    counts = np.zeros(1 + int(array.max(initial=0)), dtype=np.int64)
    # Part by part: bincount widens its input to 64 bit.
    for part in _parts(array):
        counts += np.bincount(part, minlength=len(counts))
    return counts


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Every voxel once, in pieces (N,) that are not copies if the voxels lie side by side in memory."""
    if array.flags.forc:
        flat = array.ravel(order="K")
        yield from (flat[start : start + _PART] for start in range(0, len(flat), _PART))
    else:
        yield from (slab.ravel() for slab in array)
