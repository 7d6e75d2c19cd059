"""What was corrected on a slice of a result is carried over to the slices beside, less with every millimetre."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .drawn import Drawn
from .interpolation import signed_distance

#: mm from a corrected slice to where nothing follows from it any more.
REACH_MM = 15.0


def follow_corrections(
    now: np.ndarray,
    before: np.ndarray,
    drawn: Drawn,
    result: np.ndarray,
    kept: np.ndarray,
    spacing: Sequence[float],
) -> Iterator[float]:
    """Change `result` (I, J, K) outside `kept` as outlines were moved on corrected slices; yields the share done."""
    labels, results, planes, closed = (np.moveaxis(one, drawn.axis, 0) for one in (now, before, result, kept))
    plane_spacing = [mm for other, mm in enumerate(spacing) if other != drawn.axis]
    reach = max(1.0, REACH_MM / spacing[drawn.axis])
    block = _block(labels, results, drawn, plane_spacing, int(np.ceil(reach)))
    if block is None:
        return
    labels, results, planes, closed = (one[(slice(None), *block)] for one in (labels, results, planes, closed))
    for value, index in _ends(labels, results, drawn, spacing[drawn.axis]):
        planes[index][(labels[index] == value) & ~closed[index]] = 0
    changes = {index: _changes(labels[index], results[index], drawn, plane_spacing) for index in drawn.corrected}
    replaced = {value for index in drawn.corrected for value in _erased(labels[index], results[index], drawn, True)}
    targets = sorted(
        index
        for index in range(len(planes))
        if index not in changes and any(abs(index - one) < reach for one in changes)
    )
    for number, index in enumerate(targets):
        weights = _weights(index, drawn.corrected, reach)
        _follow(
            planes[index],
            results[index],
            closed[index],
            [(share, changes[one]) for one, share in weights],
            replaced,
            plane_spacing,
        )
        yield number / len(targets)


def _block(
    labels: np.ndarray, results: np.ndarray, drawn: Drawn, spacing: Sequence[float], reach: int
) -> tuple[slice, slice] | None:
    """About all that was changed, in any slice that is in reach: nothing moves beyond."""
    near = sorted(
        {index for one in drawn.corrected for index in range(max(0, one - reach), min(len(labels), one + reach + 1))}
    )
    changed = {
        int(value)
        for index in drawn.corrected
        for part in (labels, results)
        for value in np.unique(part[index][labels[index] != results[index]])
    }
    there = np.zeros(labels.shape[1:], bool)
    for index in near:
        there |= np.isin(labels[index], list(changed - {0})) | np.isin(results[index], list(changed - {0}))
    if not there.any():
        return None
    parts = []
    for axis, mm in ((1, spacing[0]), (0, spacing[1])):
        found, rim = np.flatnonzero(there.any(axis=axis)), int(np.ceil(REACH_MM / mm))
        parts.append(slice(max(0, int(found[0]) - rim), int(found[-1]) + 1 + rim))
    return parts[0], parts[1]


def _weights(index: int, corrected: Sequence[int], reach: float) -> list[tuple[int, float]]:
    """The nearest corrected slice on each side, and how much counts what was changed there."""
    below, above = [one for one in corrected if one < index], [one for one in corrected if one > index]
    sides = [*below[-1:], *above[:1]]
    length = min(reach, float(sides[1] - sides[0])) if len(sides) == 2 else reach
    return [(one, 1 - abs(index - one) / length) for one in sides if abs(index - one) < length]


_Change = tuple[np.ndarray, float]


def _changes(now: np.ndarray, before: np.ndarray, drawn: Drawn, spacing: Sequence[float]) -> dict[int, _Change]:
    """By label value: by how many mm its outline was moved outwards, and how deep the structure is.

    Of a structure that was erased no outline is left to move.
    """
    found: dict[int, _Change] = {}
    erased = _erased(now, before, drawn, False)
    for value in np.union1d(np.unique(now), np.unique(before)):
        mask, was = now == value, before == value
        if value == 0 or value in drawn.structures or value in erased or np.array_equal(mask, was):
            continue
        distances = [signed_distance(one, spacing) for one in (mask, was)]
        depth = float(max(distance.max() for distance in distances))
        moved = np.clip(distances[0], -depth, depth) - np.clip(distances[1], -depth, depth)
        found[int(value)] = moved, depth
    return found


def _erased(now: np.ndarray, before: np.ndarray, drawn: Drawn, is_replaced: bool) -> set[int]:
    """Structures of which a slice has nothing any more; `is_replaced`: most of it is another structure now."""
    gone = {int(value) for value in np.unique(before)} - {int(value) for value in np.unique(now)}
    left = {value for value in gone - {0, *drawn.structures} if (now[before == value] != 0).mean() > 0.5}
    return left if is_replaced else gone - {0, *drawn.structures} - left


def _ends(labels: np.ndarray, results: np.ndarray, drawn: Drawn, mm: float) -> Iterator[tuple[int, int]]:
    """(structure, slice) of what an erased slice cuts off: an end that ran too far, much shorter than what is left.

    In the middle of a long structure only the erased slice goes.
    """
    erased = {index: _erased(labels[index], results[index], drawn, False) for index in drawn.corrected}
    for value in set().union(*erased.values()):
        there = np.flatnonzero((labels == value).any(axis=(1, 2)))
        if not there.size:
            continue
        runs = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1)
        longest = max(map(len, runs))
        for run in runs:
            beside = [value in erased.get(int(index), ()) for index in (run[0] - 1, run[-1] + 1)]
            is_short = len(run) * mm <= REACH_MM and 2 * len(run) <= longest
            if any(beside) and is_short and not set(drawn.corrected) & set(run.tolist()):
                yield from ((value, int(index)) for index in run)


def _follow(
    plane: np.ndarray,
    before: np.ndarray,
    closed: np.ndarray,
    changes: Sequence[tuple[float, dict[int, _Change]]],
    replaced: set[int],
    spacing: Sequence[float],
) -> None:
    """One slice, changed in place; what was `replaced` by another structure becomes one of them, never nothing."""
    values = sorted({value for _share, change in changes for value in change})
    if not values:
        return
    distances = []
    for value in values:
        parts = [(share, *change[value]) for share, change in changes if value in change]
        depth = max(depth for _share, _moved, depth in parts)
        own = np.maximum(signed_distance(before == value, spacing), -depth)
        distances.append(own + sum(share * moved for share, moved, _depth in parts))
    stack = np.stack(distances)
    is_one = (stack.max(axis=0) > 0) | np.isin(before, list(replaced & set(values)))
    winner = np.where(is_one, np.array(values)[stack.argmax(axis=0)], 0)
    free = ~closed & ((before == 0) | np.isin(before, values))
    plane[free] = winner[free]
