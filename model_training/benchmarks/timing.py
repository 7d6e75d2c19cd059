"""Timing of several functions that do the same work, alternating in one process on one machine.

Each round runs every function once, in an order that rotates, so that what else the machine does hits all of them
alike; a ratio is the median over rounds of the two times of one round. Wall time counts; the processor time of the
whole process is kept beside it, because with one thread it hardly depends on what else runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

#: A ratio of fewer rounds says nothing about its spread.
MIN_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of each round, in the order of the rounds."""

    wall: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Of wall seconds."""
        return quartiles(self.wall)

    def speedup_of(self, other: Timing) -> tuple[float, float, float]:
        """Quartiles of how many times faster `other` was than this one, in wall time, round by round."""
        return quartiles([mine / its for mine, its in zip(self.wall, other.wall, strict=True)])

    def processor_speedup_of(self, other: Timing) -> float:
        """Median of the same ratio in processor time."""
        return median(mine / its for mine, its in zip(self.processor, other.processor, strict=True))


def quartiles(values: tuple[float, ...] | list[float]) -> tuple[float, float, float]:
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return low, middle, high


def alternate(
    contenders: Mapping[str, Callable[[], object]], *, seconds: float, warm_up: int = 2, max_rounds: int = 200
) -> dict[str, Timing]:
    """Run every contender in turn for about `seconds` in all, at least `MIN_ROUNDS` rounds, after `warm_up` rounds."""
    names = list(contenders)
    for _ in range(warm_up):
        for run in contenders.values():
            run()
    wall: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.perf_counter() + seconds
    rounds = 0
    while rounds < MIN_ROUNDS or (time.perf_counter() < deadline and rounds < max_rounds):
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            started, worked = time.perf_counter(), time.process_time()
            contenders[name]()
            wall[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - worked)
        rounds += 1
    return {name: Timing(tuple(wall[name]), tuple(processor[name])) for name in names}


def load() -> float:
    """How many processes wanted a core during the last minute, on average; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
