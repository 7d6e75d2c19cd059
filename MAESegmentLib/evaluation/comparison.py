"""Where two segmentations of one scan differ, structure by structure. Needs only numpy; neither is the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError
from ..images.labels import Label, by_name
from ..images.volume import LabelMap
from ..images.volumetry import voxel_ml
from .metrics import dice_of_sizes


@dataclass(frozen=True)
class Row:
    """One structure. A volume is None where that model does not know the structure; `dice` needs it found by one."""

    label: str
    first_ml: float | None
    second_ml: float | None
    dice: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """`disagreement` is 1 where the two say different things, by the names of structures that both models know."""

    rows: tuple[Row, ...]
    disagreement: LabelMap

    @property
    def disagreement_ml(self) -> float:
        return float(np.count_nonzero(self.disagreement.array)) * voxel_ml(self.disagreement)


def compare_label_maps(
    first: LabelMap, second: LabelMap, labels: Sequence[Label], second_labels: Sequence[Label] | None = None
) -> Comparison:
    """Compare label maps of one grid; `labels` are those of the first and, unless given, of the second.

    Structures are the same by name, whatever their values. Raises `GeometryError` if the grids differ.
    """
    if difference := first.grid.difference(second.grid):
        raise GeometryError(
            f"The two segmentations lie on different grids: {difference}.",
            "Compare segmentations of the same scan.",
        )
    names = _names(labels, labels if second_labels is None else second_labels)
    counts, disagreement = _count(
        first.array, second.array, [(a.value if a else 0, b.value if b else 0) for _, a, b in names]
    )
    ml = voxel_ml(first)
    rows = []
    for number, (name, a, b) in enumerate(names, start=1):
        sizes = counts[number].sum(), counts[:, number].sum()
        both = a is not None and b is not None and sum(sizes) > 0
        rows.append(
            Row(
                name,
                float(sizes[0]) * ml if a else None,
                float(sizes[1]) * ml if b else None,
                dice_of_sizes(counts[number, number], *sizes) if both else None,
            )
        )
    return Comparison(tuple(rows), LabelMap(disagreement, first.ijk_to_ras))


def _names(first: Sequence[Label], second: Sequence[Label]) -> list[tuple[str, Label | None, Label | None]]:
    """Every structure once, in the order of the first and then of the second."""
    ours, theirs = by_name(first), by_name(second)
    return [(name, ours.get(name), theirs.get(name)) for name in by_name((*first, *second))]


def _count(
    first: np.ndarray, second: np.ndarray, values: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:  # (I, J, K) each -> (n + 1, n + 1), (I, J, K)
    """How many voxels are structure a for the first and b for the second, numbered from 1 on, and where they differ."""
    size = len(values) + 1
    lookups = []
    for side, array in enumerate((first, second)):
        lookup = np.zeros(1 + max(int(array.max(initial=0)), *(pair[side] for pair in values), 0), np.int64)
        for number, pair in enumerate(values, start=1):
            if pair[side]:
                lookup[pair[side]] = number
        lookups.append(lookup)
    shared = np.array([True, *(bool(a and b) for a, b in values)])
    counts = np.zeros(size * size, np.int64)
    differs = np.zeros(first.shape, np.uint8)
    for plane in range(first.shape[2]):  # a plane at a time: indices take eight times the memory of labels
        a, b = lookups[0][first[..., plane]], lookups[1][second[..., plane]]
        counts += np.bincount((a * size + b).ravel(), minlength=size * size)
        differs[..., plane] = np.where(shared[a], a, 0) != np.where(shared[b], b, 0)
    return counts.reshape(size, size), differs
