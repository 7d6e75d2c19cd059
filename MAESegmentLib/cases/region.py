"""The part of a scan that was annotated, as a box in space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..images.volume import Grid
from ..inference.roi import Roi


def inside(region: Sequence[float], grid: Grid) -> np.ndarray:  # -> (I, J, K) bool
    """Voxels whose centre lies in `region`, (R0, R1, A0, A1, S0, S1) in RAS mm; `ConfigurationError` if it is empty."""
    r0, r1, a0, a1, s0, s1 = region
    roi = Roi((r0, a0, s0), (r1, a1, s1))
    i, j, k = np.ogrid[tuple(slice(n) for n in grid.shape)]
    mask = np.ones(grid.shape, dtype=bool)
    for row, low, high in zip(grid.ijk_to_ras[:3], roi.minimum, roi.maximum, strict=True):
        position = row[0] * i + row[1] * j + row[2] * k + row[3]
        mask &= (position >= low - 1e-6) & (position <= high + 1e-6)
    return mask


def border(mask: np.ndarray) -> np.ndarray:  # (I, J, K) bool -> the same
    """Voxels of `mask` beside one outside it; where the scan ends is no border."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        here, there = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
    return mask & ~inner
