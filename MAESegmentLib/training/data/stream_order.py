"""Which volume every patch of a streamed pretraining comes from: a function of its number alone, so that a run can be
stopped anywhere and shared by any number of processes.

Each part of a step is a lane with volumes of its own: whoever computes a part reads its volumes, and nobody else does.
A lane keeps some volumes open at a time and takes one patch of each in turn, in random order; they are replaced one
after the other, each once all its patches are used.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


class StreamOrder:
    """`volumes` in random order, every one once before any comes again, dealt out to `lanes`."""

    def __init__(self, volumes: int, lanes: int, *, open_volumes: int, patches_per_volume: int, seed: int) -> None:
        self.volumes, self.lanes, self.seed = volumes, lanes, seed
        #: More than a lane's share of a small archive would only be the same volumes twice.
        self.open = max(1, min(open_volumes, volumes // lanes))
        self.patches = patches_per_volume

    def draw(self, lane: int, number: int) -> tuple[int, int]:
        """The lane's visit that its patch `number` is cut on, and which of the visit's patches it is.

        Of a lane's first `open` visits some patches are left out, so that not all of them end at the same time.
        """
        turn, place = divmod(number, self.open)
        slot = int(_slots(self.open, (self.seed, 2_000_003, lane, turn))[place])
        visit, patch = divmod(turn + slot * self.patches // self.open, self.patches)
        return visit * self.open + slot, patch

    def volume(self, lane: int, visit: int) -> int:
        """Index of the volume of a lane's visit."""
        epoch, place = divmod(visit * self.lanes + lane, self.volumes)
        return int(_epoch(self.volumes, (self.seed, 1_000_003, epoch))[place])


@lru_cache(maxsize=2)
def _epoch(volumes: int, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(volumes)


@lru_cache(maxsize=1024)
def _slots(count: int, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)
