"""Class scores on the network's grid, row by row, become labels on the input grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, is_tensor, largest, lerp, softmax, take, to_numpy
from ..preprocessing.grid import NetworkGrid

#: Above half by more than rounding, a probability is the largest, also after interpolation.
_MAJORITY = 0.5 + 1e-4
#: Interpolated probabilities exist for at most so many values at a time, which stay in a processor's cache.
_PART = 2**19


class RowRestorer:
    """Interpolates class probabilities linearly from network rows to voxels of the input grid and takes the largest.

    Everything is written through canonical views of arrays on the input grid, so flips and permutations are exact; only
    two rows of probabilities exist at a time. `values[k]` is the label value of class k.

    Where only labels are wanted, nothing is interpolated where class 0 has the majority in all voxels around, nor any
    class that cannot be the largest: the labels are the same, and most of a scan is background.
    """

    def __init__(
        self,
        grid: NetworkGrid,
        values: Sequence[int],
        labels: np.ndarray,
        *,
        probabilities: np.ndarray | None = None,
        entropy: np.ndarray | None = None,
    ) -> None:
        """`labels` and `entropy` (I, J, K) and `probabilities` (class, I, J, K), on `grid.input_grid`, are filled."""
        self._grid = grid
        self._values = np.asarray(values, dtype=labels.dtype)
        self._labels = grid.to_canonical(labels)
        self._probabilities = None if probabilities is None else grid.to_canonical(probabilities)
        self._entropy = None if entropy is None else grid.to_canonical(entropy)
        self._wants_maps = probabilities is not None or entropy is not None
        self._rows, self._columns = (_Axis(grid.shape[n], grid.canonical_shape[n]) for n in (1, 2))
        self._previous: Array = None
        self._next_row = 0

    def push(self, row: int, scores: Array) -> None:
        """Take the scores (K, H, W) of network row `row`; rows must come in order."""
        needs_shares = self._grid.resamples or self._wants_maps
        plane = softmax(scores, 0) if needs_shares else scores
        depth, depth_out = self._grid.shape[0], self._grid.canonical_shape[0]
        while self._next_row < depth_out:
            position = min(max((self._next_row + 0.5) * depth / depth_out - 0.5, 0.0), depth - 1.0)
            lower = math.floor(position)
            share = position - lower
            if (lower + 1 if share > 0 else lower) > row:
                break
            if share == 0 and lower == row:
                self._write(self._next_row, plane)
            else:
                assert self._previous is not None
                self._write(self._next_row, lerp(self._previous, plane, share))
            self._next_row += 1
        if needs_shares:  # else every row is one of the input's, and `plane` a buffer that is used again
            self._previous = plane

    def _write(self, row: int, plane: Array) -> None:  # (K, H, W)
        if self._wants_maps:
            self._write_maps(row, plane)
        elif plane.shape[1:] == self._grid.canonical_shape[1:]:
            self._write_winners(row, plane)
        else:
            self._write_interpolated(row, plane)

    def _write_maps(self, row: int, plane: Array) -> None:
        if plane.shape[1:] != self._grid.canonical_shape[1:]:
            for dim, axis in ((2, self._columns), (1, self._rows)):
                plane = axis.interpolate(plane, slice(0, axis.size_out), dim=dim)
        self._write_winners(row, plane)
        if self._probabilities is not None:
            self._probabilities[:, row] = to_numpy(plane)
        if self._entropy is not None:
            self._entropy[row] = entropy(to_numpy(plane)) / math.log(len(plane))

    def _write_winners(self, row: int, plane: Array) -> None:  # (K, H', W')
        self._labels[row] = self._values[largest(plane)]

    def _write_interpolated(self, row: int, plane: Array) -> None:  # (K, H, W)
        self._labels[row] = self._values[0]
        undecided = to_numpy(plane[0]) <= _MAJORITY
        h, w = (_extent(np.any(undecided, axis=axis)) for axis in (1, 0))
        if h is None or w is None:
            return
        rows, columns = self._rows.around(h), self._columns.around(w)
        if rows.start >= rows.stop or columns.start >= columns.stop:  # it lies between the voxels of a coarser input
            return
        near = plane[:, self._rows.sources(rows), self._columns.sources(columns)]
        # The largest of K probabilities is at least 1 / K; what is below that all over cannot be it.
        highest = near.amax(dim=(1, 2)) if is_tensor(near) else near.max(axis=(1, 2))
        possible = np.flatnonzero(to_numpy(highest) > (1 - 1e-4) / len(plane))
        values = self._values[possible]
        near = self._columns.interpolate(take(near, possible, 0), columns, dim=2)
        step = max(1, _PART // (near.shape[0] * near.shape[2]))
        for first in range(rows.start, rows.stop, step):
            part = slice(first, min(first + step, rows.stop))
            winners = largest(self._rows.interpolate(near, part, dim=1, origin=rows))
            self._labels[row][part, columns] = values[winners]


class _Axis:
    """Linear interpolation along one axis of a plane, from `size` network voxels to `size_out` voxels of the input."""

    def __init__(self, size: int, size_out: int) -> None:
        self.size_out = size_out
        position = np.clip((np.arange(size_out) + 0.5) * size / size_out - 0.5, 0, size - 1)
        self._lower = np.floor(position).astype(np.int64)
        self._upper = np.minimum(self._lower + 1, size - 1)
        self._share = (position - self._lower).astype(np.float32)

    def around(self, voxels: slice) -> slice:
        """The voxels of the input that network `voxels` have a part in."""
        first = int(np.searchsorted(self._upper, voxels.start))
        return slice(first, int(np.searchsorted(self._lower, voxels.stop)))

    def sources(self, outputs: slice) -> slice:
        """The network voxels that have a part in voxels `outputs` of the input (at least one)."""
        return slice(int(self._lower[outputs.start]), int(self._upper[outputs.stop - 1]) + 1)

    def interpolate(self, plane: Array, outputs: slice, *, dim: int, origin: slice | None = None) -> Array:
        """`plane` has the `sources` of `origin` (else of `outputs`) along `dim`; the result has `outputs`."""
        start = self.sources(origin or outputs).start
        below, above = (take(plane, index[outputs] - start, dim) for index in (self._lower, self._upper))
        return lerp(below, above, self._share[outputs].reshape(-1, *[1] * (plane.ndim - 1 - dim)))


def entropy(probabilities: np.ndarray) -> np.ndarray:  # (K, ...) -> (...), nats
    result: np.ndarray = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=0)
    return result


def _extent(found: Any) -> slice | None:
    """From the first to the last True of (N,)."""
    indices = np.flatnonzero(found)
    return slice(int(indices[0]), int(indices[-1]) + 1) if len(indices) else None
