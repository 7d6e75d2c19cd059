"""How far a training is and how long it will take: its steps and validations, at the pace of those done so far."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..settings import LoopSettings
from .budget import TimeBudget

#: A patch of a step goes forwards and backwards, which takes about as long as this many windows of a validation.
_WINDOWS_A_PATCH = 3


@dataclass(frozen=True)
class Work:
    """Steps, and windows of validations."""

    steps: float = 0.0
    windows: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.steps + other.steps, self.windows + other.windows)

    def __sub__(self, other: Work) -> Work:
        return Work(self.steps - other.steps, self.windows - other.windows)


def work_after(step: int, settings: LoopSettings, windows: float) -> Work:
    """What a training does after `step`: a validation, of so many windows, at its end and every so often before."""
    every, steps = settings.validate_every, settings.steps
    validations = steps // every - step // every + (steps % every > 0)
    return Work(steps - step, windows * validations) if step < steps else Work()


@dataclass
class Pace:
    """Of all trainings of a run, one after the other; also of what a run did before it was interrupted."""

    batch_size: int = 1
    clock: Callable[[], float] = time.perf_counter
    _to_come: Work = field(default=Work(), init=False)
    _over: Work = field(default=Work(), init=False)
    _measured: Work = field(default=Work(), init=False)
    _seconds: Work = field(default=Work(), init=False)
    _since: float = field(default=0.0, init=False)
    _fraction: float = field(default=0.0, init=False)
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=9), init=False)
    #: The time that the run has, where that decides.
    budget: TimeBudget | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def plan(self, work: Work) -> None:
        """There is this to do as well."""
        self._to_come += work

    def skip(self, work: Work) -> None:
        """Planned, and not to be done: it was done before, or the training ended early."""
        self._to_come -= work
        self._over += work

    def lap(self, *, steps: float = 0.0, windows: float = 0.0) -> None:
        """This was done since the last call, with all that belongs to it."""
        now, before = self.clock(), self._since
        self.skip(Work(steps, windows))
        self._measured += Work(steps, windows)
        self._seconds += Work(now - self._since, 0.0) if steps else Work(0.0, now - self._since)
        self._since = now
        if steps:
            if self._measured.steps == 2:
                self._recent.clear()  # the first step also warms up
            self._recent.append((now - before) / steps)

    def start_lap(self) -> None:
        """What went on until now counts for nothing."""
        self._since = self.clock()

    @property
    def left_s(self) -> float | None:
        """Seconds until the end, as far as it is planned; None if nothing was measured yet."""
        if self.budget is not None:
            return self.budget.left_s
        return None if self._prices is None else _seconds_of(self._to_come, self._prices)

    @property
    def fraction(self) -> float:
        """Of the whole, 0..1; it never falls."""
        prices = self._prices
        if self.budget is not None:
            spent = self.budget.spent_s
            self._fraction = max(self._fraction, spent / (spent + self.budget.left_s))
        elif prices is not None:
            done, left = _seconds_of(self._over, prices), _seconds_of(self._to_come, prices)
            self._fraction = max(self._fraction, done / (done + left) if done + left > 0 else 1.0)
        return self._fraction

    @property
    def recent_step_s(self) -> float | None:
        """Seconds of a step at the pace of the last few; before the first, as far as windows tell."""
        if self._recent:
            return statistics.median(self._recent)
        return None if self._prices is None else self._prices.steps

    @property
    def window_s(self) -> float | None:
        """Seconds of a window, or None if nothing was measured yet."""
        return None if self._prices is None else self._prices.windows

    @property
    def _prices(self) -> Work | None:
        """Seconds of a step and of a window; what was not measured yet follows from what was."""
        measured, seconds = self._measured, self._seconds
        ratio = _WINDOWS_A_PATCH * self.batch_size
        if measured.steps and measured.windows:
            return Work(seconds.steps / measured.steps, seconds.windows / measured.windows)
        if measured.steps:
            return Work(seconds.steps / measured.steps, seconds.steps / measured.steps / ratio)
        if measured.windows:
            return Work(ratio * seconds.windows / measured.windows, seconds.windows / measured.windows)
        return None


def _seconds_of(work: Work, prices: Work) -> float:
    return max(0.0, work.steps * prices.steps + work.windows * prices.windows)
