"""Shapes between drawn slices: signed distances, blended where a structure moves, splits, merges, starts or ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_NEIGHBOURS = np.ones((3, 3), bool)
#: mm; beyond it, how far a voxel is from a structure does not matter.
FARTHEST_MM = 30.0


def signed_distance(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """mm to the outline, > 0 inside; never 0, so that its sign is the mask. float32."""
    if not mask.any():
        return np.full(mask.shape, -FARTHEST_MM, np.float32)
    half = min(spacing) / 2
    inside = ndimage.distance_transform_edt(mask, spacing) - half
    outside = ndimage.distance_transform_edt(~mask, spacing) - half
    return np.clip(np.where(mask, inside, -outside), -FARTHEST_MM, FARTHEST_MM).astype(np.float32)


def fill_between(
    array: np.ndarray, axis: int, structures: Mapping[int, Sequence[int]], spacing: Sequence[float]
) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    """For each slice across `axis` between drawn ones: its index, and signed distances (mm) by label value.

    `structures` are the slices of `array` (I, J, K) on which each was drawn. Ordered by index.
    """
    planes = np.moveaxis(array, axis, 0)
    plane_spacing = [mm for other, mm in enumerate(spacing) if other != axis]
    gaps: dict[int, list[tuple[int, int, int]]] = {}
    for value, slices in structures.items():
        for low, high in pairwise(slices):
            for index in range(low + 1, high):
                gaps.setdefault(index, []).append((value, low, high))
    known: dict[tuple[int, int, int], dict[int, np.ndarray]] = {}
    for index in sorted(gaps):
        known = {gap: found for gap, found in known.items() if gap in gaps[index]}
        for gap in gaps[index]:
            if gap not in known:
                value, low, high = gap
                shares = [(one - low) / (high - low) for one in range(low + 1, high)]
                found = between(planes[low] == value, planes[high] == value, shares, plane_spacing)
                known[gap] = dict(zip(range(low + 1, high), found, strict=True))
        yield index, {gap[0]: known[gap][index] for gap in gaps[index]}


def between(first: np.ndarray, last: np.ndarray, shares: Sequence[float], spacing: Sequence[float]) -> list[np.ndarray]:
    """Signed distances (mm) of one structure on slices between two drawn ones, at `shares` (0..1) of the way.

    Pieces that lie over each other are blended, moved onto each other; a piece that lies over none shrinks until
    halfway.
    """
    found = [np.full(first.shape, -FARTHEST_MM, np.float32) for _share in shares]
    for one, other in _groups(first, last, spacing):
        block = _block(one | other, spacing)
        for number, distance in enumerate(_blend(one[block], other[block], shares, spacing)):
            np.maximum(found[number][block], distance, out=found[number][block])
    return found


def _groups(first: np.ndarray, last: np.ndarray, spacing: Sequence[float]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces of both slices that belong together; one of the two may be empty."""
    pieces, count = ndimage.label(first, _NEIGHBOURS)
    others, other_count = ndimage.label(last, _NEIGHBOURS)
    over = first & last
    pairs = {*zip((pieces[over] - 1).tolist(), (others[over] - 1).tolist(), strict=True)}
    mine = [number for number in range(count) if number not in {one for one, _ in pairs}]
    theirs = [number for number in range(other_count) if number not in {other for _, other in pairs}]
    pairs |= _near(pieces, mine, others, theirs, spacing)
    rows, columns = [one for one, _ in pairs], [count + other for _, other in pairs]
    total = count + other_count
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(total, total))
    groups, of = connected_components(graph, directed=False)
    for group in range(groups):
        members = np.flatnonzero(of == group)
        yield np.isin(pieces, members[members < count] + 1), np.isin(others, members[members >= count] + 1 - count)


def _near(
    pieces: np.ndarray, mine: Sequence[int], others: np.ndarray, theirs: Sequence[int], spacing: Sequence[float]
) -> set[tuple[int, int]]:
    """Of pieces that lie over none: those nearest to each other, no farther than they are wide. A thin one moved."""
    if not mine or not theirs:
        return set()
    centres = [_centres(pieces, mine), _centres(others, theirs)]
    apart = np.linalg.norm((centres[0][:, None] - centres[1][None]) * np.asarray(spacing), axis=2)
    widths = [
        np.sqrt(ndimage.sum_labels(np.ones_like(labels), labels, [n + 1 for n in wanted]) * np.prod(spacing))
        for labels, wanted in ((pieces, mine), (others, theirs))
    ]
    found = set()
    for row, one in enumerate(mine):
        column = int(np.argmin(apart[row]))
        is_mutual = int(np.argmin(apart[:, column])) == row
        if is_mutual and apart[row, column] <= widths[0][row] + widths[1][column]:
            found.add((one, theirs[column]))
    return found


def _centres(pieces: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    return np.array(ndimage.center_of_mass(pieces > 0, pieces, [number + 1 for number in numbers])).reshape(-1, 2)


def _blend(
    one: np.ndarray, other: np.ndarray, shares: Sequence[float], spacing: Sequence[float]
) -> Iterator[np.ndarray]:
    if not one.any():
        yield from _blend(other, one, [1 - share for share in shares], spacing)
        return
    first = signed_distance(one, spacing)
    if not other.any():
        depth = float(first.max())
        for share in shares:
            # Of the innermost voxel something is left until halfway.
            yield first - depth * share / max(1 - share, 1e-6)
        return
    last = signed_distance(other, spacing)
    shift = np.subtract(ndimage.center_of_mass(other), ndimage.center_of_mass(one))
    shift = shift if _overlap(one, other, shift) > _overlap(one, other, np.zeros(2)) else np.zeros(2)
    for share in shares:
        moved = _moved(first, share * shift), _moved(last, (share - 1) * shift)
        yield (1 - share) * moved[0] + share * moved[1]


def _overlap(one: np.ndarray, other: np.ndarray, shift: np.ndarray) -> int:
    return int(np.count_nonzero((_moved(one.astype(np.float32), shift) > 0.5) & other))


def _moved(plane: np.ndarray, shift: np.ndarray) -> np.ndarray:
    if not np.abs(shift).max() > 1e-3:
        return plane
    found: np.ndarray = ndimage.shift(plane, shift, order=1, mode="nearest")
    return found


def _block(mask: np.ndarray, spacing: Sequence[float]) -> tuple[slice, slice]:
    """Around what is in `mask`, with room for what is blended."""
    (rows, columns) = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    rim = [int(np.ceil(FARTHEST_MM / 3 / mm)) for mm in spacing]
    return tuple(  # type: ignore[return-value]
        slice(max(0, int(found[0]) - more), int(found[-1]) + 1 + more)
        for found, more in zip((rows, columns), rim, strict=True)
    )
