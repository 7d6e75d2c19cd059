"""Cleaning a label map as its model says: stray pieces go, enclosed holes are closed, one structure after another.

Works on runs of voxels along the last axis, so that memory grows with a structure's surface and not with the volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..bundle.usage.cleaning import Cleaning
from ..images.limits import memory_problem
from ..values import Stored

#: A share of a structure that does not go without a warning.
MUCH = 0.1
#: About what one run of voxels takes while its neighbours are looked for.
_BYTES_PER_RUN = 300


@dataclass(frozen=True)
class Cleaned(Stored):
    """What cleaning changed in one structure; `share` is that of its volume before which went."""

    islands: int = 0
    removed_ml: float = 0.0
    share: float = 0.0
    holes: int = 0
    filled_ml: float = 0.0


def cleaned_text(cleaned: Mapping[str, Cleaned]) -> str:
    """What was changed, by the structure's name, as a part of a sentence; "" for nothing."""
    parts = []
    for name, found in cleaned.items():
        if found.islands:
            parts.append(f"{name} -{found.removed_ml:.2f} ml in {found.islands} stray piece{'s' * (found.islands > 1)}")
        if found.holes:
            parts.append(f"{name} +{found.filled_ml:.2f} ml in {found.holes} closed hole{'s' * (found.holes > 1)}")
    return "; ".join(parts)


@dataclass(frozen=True)
class Runs:
    """Voxels of one slab (axis 0) and row (axis 1), from `start` to before `stop` along axis 2; in this order."""

    slab: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray, is_in: Callable[[np.ndarray], np.ndarray]) -> Runs:
        """Where `is_in` holds, which is asked slab by slab."""
        found, (_slabs, _rows, length) = [], array.shape
        for number, slab in enumerate(array):
            inside = np.flatnonzero(is_in(slab))
            if not len(inside):
                continue
            begins = np.flatnonzero(np.r_[True, (np.diff(inside) > 1) | (inside[1:] % length == 0)])
            start, last = inside[begins], inside[np.r_[begins[1:] - 1, len(inside) - 1]]
            found.append((np.full(len(start), number), start // length, start % length, last % length + 1))
        if not found:
            return cls(*np.zeros((4, 0), np.int64))
        return cls(*map(np.concatenate, zip(*found, strict=True)))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def sizes(self) -> np.ndarray:
        """In voxels."""
        return self.stop - self.start

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Around all of them."""
        i, j, k = (
            slice(int(low.min()), int(high.max()) + 1)
            for low, high in ((self.slab, self.slab), (self.row, self.row), (self.start, self.stop - 1))
        )
        return i, j, k

    def without(self, gone: np.ndarray) -> Runs:
        return Runs(self.slab[~gone], self.row[~gone], self.start[~gone], self.stop[~gone])

    def pieces(self, *, corners: bool) -> np.ndarray:
        """A number from 0 for each run, the same where they touch: at faces, or at `corners` too."""
        length = int(self.stop.max()) + 2
        height = int(self.row.max()) + 2
        line = (self.slab * height + self.row) * length
        first, last = line + self.start + 1, line + self.stop  # one column is free on both sides of a line
        pairs = []
        for di, dj in ((0, 1), (1, -1), (1, 0), (1, 1)) if corners else ((0, 1), (1, 0)):
            shift = (di * height + dj) * length
            # Those that begin at or before this one's end, and end at or after its beginning, in the line beside it.
            low = np.searchsorted(last, first + shift - corners)
            count = np.maximum(np.searchsorted(first, last + shift + corners, side="right") - low, 0)
            mine = np.repeat(np.arange(len(self)), count)
            nth = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count)
            pairs.append((mine, np.repeat(low, count) + nth))
        return _joined(len(self), *map(np.concatenate, zip(*pairs, strict=True)))

    def paint(self, array: np.ndarray, chosen: np.ndarray, value: int) -> None:
        """Write `value` where the `chosen` runs are."""
        height, length = array.shape[1:]
        for number in np.unique(self.slab[chosen]):
            here = chosen & (self.slab == number)
            steps = np.zeros((height, length + 1), np.int8)
            steps[self.row[here], self.start[here]] = 1
            steps[self.row[here], self.stop[here]] -= 1
            array[number][np.cumsum(steps, axis=1, dtype=np.int8)[:, :-1] > 0] = value


def _joined(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numbers 0, 1, ... of the connected parts of a graph with `count` nodes and edges from `first` to `second`."""
    part = np.arange(count)
    while True:
        one, other = part[first], part[second]
        differ = one != other
        if not differ.any():
            return np.unique(part, return_inverse=True)[1].reshape(-1)
        first, second, one, other = first[differ], second[differ], one[differ], other[differ]
        np.minimum.at(part, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(part, part[part]):
            part = part[part]


def clean(
    labels: np.ndarray,
    recipes: Mapping[int, Cleaning],
    voxel_ml: float,
    between: Callable[[float], None] = lambda _fraction: None,
) -> tuple[dict[int, Cleaned], list[int]]:
    """Change `labels` (I, J, K) in place; what changed by label value, and the values left as they are for want of
    memory. `between` is called with the share that is done before each structure, and may raise.

    What goes becomes background. Only background is filled, never another structure.
    """
    changed: dict[int, Cleaned] = {}
    left: list[int] = []
    filled = True
    while filled:  # what went may have been all that a hole held, and a filled hole may make the largest larger
        filled = False
        for step, (value, recipe) in enumerate(sorted(recipes.items())):
            between(step / len(recipes))
            runs = Runs.of(labels, lambda slab, value=value: slab == value)  # type: ignore[misc]
            if not len(runs) or value in left:
                continue
            if memory_problem(_BYTES_PER_RUN * len(runs)):
                left.append(value)
                continue
            before = changed.get(value, Cleaned())
            after, fills = _clean(labels, value, runs, recipe, voxel_ml, before)
            filled |= fills
            if after != before:
                changed[value] = after
    return changed, left


def _clean(
    labels: np.ndarray, value: int, runs: Runs, recipe: Cleaning, voxel_ml: float, before: Cleaned
) -> tuple[Cleaned, bool]:
    """What changed in all, and whether a hole was closed."""
    gone, islands = _stray(runs, recipe, 1000 * voxel_ml)
    runs.paint(labels, gone, 0)
    removed = int(runs.sizes[gone].sum())
    holes, filled = _close_holes(labels[runs.without(gone).box], value) if recipe.close_holes else (0, 0)
    after = Cleaned(
        before.islands + islands,
        before.removed_ml + removed * voxel_ml,
        max(before.share, removed / int(runs.sizes.sum())),
        before.holes + holes,
        before.filled_ml + filled * voxel_ml,
    )
    return after, filled > 0


def _stray(runs: Runs, recipe: Cleaning, voxel_mm3: float) -> tuple[np.ndarray, int]:
    """Which runs go, and how many pieces they are."""
    if not (recipe.smallest_mm3 or recipe.smallest_share):
        return np.zeros(len(runs), bool), 0
    pieces = runs.pieces(corners=True)  # rather too much stays than too little
    sizes = np.bincount(pieces, runs.sizes).astype(np.int64)
    gone = sizes < recipe.least_voxels(int(sizes.max()), voxel_mm3)
    return gone[pieces], int(gone.sum())


def _close_holes(part: np.ndarray, value: int) -> tuple[int, int]:
    """Holes are background, reach no side of the structure's box `part`, and hold no other structure."""
    gaps = Runs.of(part, lambda slab: slab != value)
    if not len(gaps) or memory_problem(_BYTES_PER_RUN * len(gaps)):
        return 0, 0
    pieces = gaps.pieces(corners=False)
    slabs, rows, length = part.shape
    is_open = (gaps.start == 0) | (gaps.stop == length) | (gaps.row == 0) | (gaps.row == rows - 1)
    is_open |= (gaps.slab == 0) | (gaps.slab == slabs - 1) | _holds_others(part, gaps, value)
    sizes = np.bincount(pieces, gaps.sizes).astype(np.int64)
    hole = np.bincount(pieces, is_open) == 0
    gaps.paint(part, hole[pieces], value)
    return int(hole.sum()), int(sizes[hole].sum())


def _holds_others(part: np.ndarray, gaps: Runs, value: int) -> np.ndarray:
    """Whether a run of `gaps` has a voxel of another structure."""
    found, length = np.zeros(len(gaps), bool), part.shape[2]
    for number, slab in enumerate(part):
        here = slice(*np.searchsorted(gaps.slab, (number, number + 1)))
        count = np.r_[0, np.cumsum((slab != 0) & (slab != value))]
        line = gaps.row[here] * length
        found[here] = count[line + gaps.stop[here]] > count[line + gaps.start[here]]
    return found
