"""Where windows lie along an axis, and how many there are: what a segmentation costs, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Every step until the end is covered; the last window is moved back into the image."""
    step = patch if patch >= size else max(1, int(patch * (1 - overlap)))
    count = max(0, -(-(size - patch) // step)) + 1
    return [min(number * step, max(size - patch, 0)) for number in range(count)]


def window_count(size: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    return math.prod(len(window_starts(n, p, overlap)) for n, p in zip(size, patch, strict=True))
