"""The part of a scan that was annotated, as a box in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..images.roi import Roi
from ..images.volume import Grid


@dataclass(frozen=True, eq=False)
class Part:
    """Voxels of a grid: those of `block` (I, J, K) where `mask`, of the block's shape, is True.

    The block is one voxel larger than needed on each side, except where the grid ends.
    """

    block: tuple[slice, slice, slice]
    mask: np.ndarray

    @property
    def border(self) -> np.ndarray:  # as `mask`
        """Voxels beside one that does not belong to it; where the scan ends is no border."""
        inner = self.mask.copy()
        for axis in range(3):
            here, there = np.moveaxis(inner, axis, 0), np.moveaxis(self.mask, axis, 0)
            here[1:] &= there[:-1]
            here[:-1] &= there[1:]
        return self.mask & ~inner

    def values(self, array: np.ndarray) -> np.ndarray:
        """Those of `array` (I, J, K) in this part, (N,)."""
        inside: np.ndarray = array[self.block][self.mask]
        return inside


def inside(region: Sequence[float], grid: Grid) -> Part:
    """Voxels whose centre lies in `region`, (R0, R1, A0, A1, S0, S1) in RAS mm; `ConfigurationError` if it is empty."""
    r0, r1, a0, a1, s0, s1 = region
    roi = Roi((r0, a0, s0), (r1, a1, s1))
    block = _block(roi, grid)
    return Part(block, roi.holds(grid, block))


def _block(roi: Roi, grid: Grid) -> tuple[slice, slice, slice]:
    corners = np.array([*product(*zip(roi.minimum, roi.maximum, strict=True))])
    to_ijk = np.linalg.inv(grid.ijk_to_ras)
    ijk = corners @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    low = np.clip(np.floor(ijk.min(axis=0)) - 1, 0, grid.shape).astype(int)
    high = np.clip(np.ceil(ijk.max(axis=0)) + 2, low, grid.shape).astype(int)
    i, j, k = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return i, j, k
