"""Outlines of a mask on one slice, and the mask that outlines enclose. Points are (i, j) in voxels, centres whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: An outline passes half way between voxels, by so much nearer to the one inside: readers that round its points to
#: whole voxels get those inside.
_INWARDS = 1e-3
#: A voxel whose centre lies on an outline, but for rounding, is inside: some software draws through the centres.
_ON_OUTLINE = 0.01
#: More crossings of outlines and rows (of all points, on average, with every row of a large scan) are no drawing.
_MOST_CROSSINGS = 1 << 26

#: Which of the four voxels around a corner are inside (1, 2, 4, 8: at (0, 0), (1, 0), (1, 1), (0, 1)), and the ways of
#: outlines there, with the inside on their left, between the middles of its sides. Voxels that touch at corners only
#: are apart.
_SOUTH, _EAST, _NORTH, _WEST = (1, 0), (2, 1), (1, 2), (0, 1)
_WAYS: dict[int, tuple[tuple[tuple[int, int], tuple[int, int]], ...]] = {
    1: ((_SOUTH, _WEST),),
    2: ((_EAST, _SOUTH),),
    4: ((_NORTH, _EAST),),
    8: ((_WEST, _NORTH),),
    3: ((_EAST, _WEST),),
    6: ((_NORTH, _SOUTH),),
    12: ((_WEST, _EAST),),
    9: ((_SOUTH, _NORTH),),
    5: ((_SOUTH, _WEST), (_NORTH, _EAST)),
    10: ((_EAST, _SOUTH), (_WEST, _NORTH)),
    14: ((_WEST, _SOUTH),),
    13: ((_SOUTH, _EAST),),
    11: ((_EAST, _NORTH),),
    7: ((_NORTH, _WEST),),
}
_Point = tuple[int, int]


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed outlines (N, 2) of the parts of `mask` (I, J), whose holes are joined to them by a keyhole: there and back
    along one line, as DICOM has it. Every voxel centre is on its right side."""
    columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not columns.size:
        return []
    padded = np.pad(mask[columns[0] : columns[-1] + 1, rows[0] : rows[-1] + 1], 1)
    loops = _with_keyholes(_loops(padded))
    start = np.array([columns[0], rows[0]])
    return [_placed(_corners(loop), padded) + start - 1 for loop in loops]


def _loops(padded: np.ndarray) -> list[list[_Point]]:
    """All outlines, of holes too, in steps of half a voxel: a point has one odd coordinate."""
    inside = padded.astype(np.uint8)
    code = inside[:-1, :-1] + 2 * inside[1:, :-1] + 4 * inside[1:, 1:] + 8 * inside[:-1, 1:]
    following: dict[_Point, _Point] = {}
    edge = np.argwhere((code > 0) & (code < 15))
    kinds = code[tuple(edge.T)]
    for kind, ways in _WAYS.items():
        corners = 2 * edge[kinds == kind]
        for way in ways:
            before, after = ((corners + end).tolist() for end in way)
            following.update(zip(map(tuple, before), map(tuple, after), strict=True))
    loops: list[list[_Point]] = []
    while following:
        point = next(iter(following))
        loop: list[_Point] = []
        while point in following:
            loop.append(point)
            point = following.pop(point)
        loops.append(loop)
    return loops


def _with_keyholes(loops: list[list[_Point]]) -> list[list[_Point]]:
    """The outer loops, each with its holes joined to it."""
    areas = [_area(loop) for loop in loops]
    owner = {point: number for number, loop in enumerate(loops) for point in loop}
    # The left end of a hole lies in the middle of a voxel's side, and so does what the row meets farther left: the
    # outside, or a hole that begins farther left and has been joined.
    holes = sorted(
        (min(point for point in loop if point[0] % 2), number) for number, loop in enumerate(loops) if areas[number] < 0
    )
    root = list(range(len(loops)))
    for (x, y), number in holes:
        met = (x - 2, y)
        while met not in owner:
            met = (met[0] - 2, y)
        root[number] = root[owner[met]]
        outer, hole = loops[root[number]], loops[number]
        at, begin = outer.index(met), hole.index((x, y))
        outer[at + 1 : at + 1] = [*hole[begin:], *hole[: begin + 1], met]
    return [loop for loop, area in zip(loops, areas, strict=True) if area > 0]


def _area(loop: Sequence[_Point]) -> int:
    """Twice the area; negative if the inside is outside."""
    x, y = np.array(loop, dtype=np.int64).T
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _corners(loop: Sequence[_Point]) -> np.ndarray:
    """Without the points that lie between others on a straight line."""
    points = np.array(loop, dtype=np.int64)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    goes_on = (turn == 0) & (np.sum(before * after, axis=1) > 0)
    return points[~goes_on]


def _placed(points: np.ndarray, padded: np.ndarray) -> np.ndarray:
    low = padded[points[:, 0] // 2, points[:, 1] // 2]
    towards = np.where(low, -_INWARDS, _INWARDS)[:, None] * (points % 2)
    placed: np.ndarray = points / 2 + towards
    return placed


def enclosed(contours: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The mask (I, J) of the voxels whose centres an odd number of the closed `contours` (N, 2) enclose.

    `ValueError` for what is no drawing.
    """
    mask = np.zeros(shape, dtype=bool)
    every = np.concatenate(contours)
    start = np.clip(np.floor(every.min(axis=0)), 0, shape).astype(int)
    i, j = np.clip(np.ceil(every.max(axis=0)) + 1, start, shape).astype(int) - start
    part = mask[start[0] : start[0] + i, start[1] : start[1] + j]
    for aside in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        moved = [points - start + np.multiply(aside, _ON_OUTLINE) for points in contours]
        places = np.concatenate([_crossings(points, i, j) for points in moved])
        crossed = (np.bincount(places, minlength=(i + 1) * j) % 2).astype(bool).reshape(i + 1, j)
        part |= np.logical_xor.accumulate(crossed, axis=0)[:-1]
    return mask


def _crossings(points: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Where a contour crosses row j just before voxel i (`columns`: after the last one), as i * rows + j."""
    ends = np.roll(points, -1, axis=0)
    low, high = np.minimum(points[:, 1], ends[:, 1]), np.maximum(points[:, 1], ends[:, 1])
    first = np.ceil(np.clip(low, 0, rows)).astype(np.int64)
    count = np.maximum(np.ceil(np.clip(high, 0, rows)).astype(np.int64) - first, 0)
    total = int(count.sum())
    if total > _MOST_CROSSINGS:
        raise ValueError(f"a contour crosses the rows of the scan {total:,} times")
    edge = np.repeat(np.arange(len(points)), count)
    row = first[edge] + np.arange(total) - np.repeat(np.cumsum(count) - count, count)
    (x, y), (to_x, to_y) = points[edge].T, ends[edge].T
    place = np.ceil(x + (row - y) * (to_x - x) / (to_y - y))
    crossings: np.ndarray = np.clip(place, 0, columns).astype(np.int64) * rows + row
    return crossings
