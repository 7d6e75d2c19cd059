"""How a fine-tuning by time shares out its time: training, the measuring before and after it, leave-one-out, saving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..bundle.scan_statistics import ENOUGH_TO_CALIBRATE
from ..cases.case import Case
from ..device import resolve_device
from .data.holdout import Holdout
from .loop.budget import LEAST_TRAINING, TimeBudget, in_minutes
from .loop.distributed import SOLO, Team
from .loop.loop import Trained
from .loop.pace import Pace
from .loop.schedule import ByTime
from .saving import MAX_SCANS, WINDOWS_OF_FEW
from .settings import FineTuneSettings

#: The model that the user gets comes first, and has the larger part; all rounds of leave-one-out share the rest.
FINAL_SHARE = 0.6
#: Of the time left, what measuring on held-out cases may take, before and after training together.
MEASURING_SHARE = 1 / 3
#: Fewer steps teach nothing that a figure could be taken of.
FEWEST_STEPS = 50
#: Seconds of saving and publishing a model, without describing its training scans, which is an encoder's share of a
#: window each.
_SAVING_S, _ENCODER = 4.0, 0.5
#: A run that ends later than by this share of its time says so.
_LATE = 0.05
_PARTS = ("half", "a third", "a quarter", "a fifth", "a sixth", "a seventh", "an eighth", "a ninth", "a tenth")
NO_FOLDS = "none, as the time is too short for leave-one-out"


def saving_s(cases: int, window_s: float) -> float:
    """Seconds from the end of training to the saved model."""
    scans = min(cases, MAX_SCANS)
    return _SAVING_S + _ENCODER * window_s * scans * (1 if scans >= ENOUGH_TO_CALIBRATE else WINDOWS_OF_FEW)


def planned_s(left_s: float, folds: int, measuring_s: float, step_s: float) -> tuple[float, bool]:
    """Seconds that the final model is trained for, and whether so many rounds of leave-one-out, if any, take place.

    Of `left_s` without saving; measuring what is held out, or in one round, takes so many seconds.
    """
    if folds and (1 - FINAL_SHARE) * left_s / folds - measuring_s > FEWEST_STEPS * step_s:
        return FINAL_SHARE * left_s, True
    measuring_s = 0.0 if folds else min(measuring_s, MEASURING_SHARE * left_s)
    return left_s - measuring_s, not folds


def few_steps(trained: Trained) -> tuple[str, ...]:
    """What to say of a model that had too few, unless that is what the user wanted."""
    if trained.stopped or trained.step >= FEWEST_STEPS:
        return ()
    count = "1 step" if trained.step == 1 else f"{trained.step} steps"
    return (f"Only {count} fitted into the time, too few to learn from: give it more time, or do not use this model.",)


def part_of_steps(fold: float, final: float) -> str:
    """What to say of folds with so many steps, beside those of the final model; nothing where they are as many."""
    ratio = round(final / max(fold, 1.0))
    if ratio < 2:
        return ""
    part = _PARTS[ratio - 2] if ratio - 2 < len(_PARTS) else "less than a tenth"
    return f"folds of {part} of the steps: a lower bound"


@dataclass
class Timetable:
    """Of a run that has begun. In a team its first process decides; all call it alike."""

    budget: TimeBudget
    pace: Pace
    cases: int
    team: Team = SOLO
    #: Of training the final model; no round of leave-one-out takes longer.
    final_s: float = math.inf
    #: That the run takes longer than was chosen, and why.
    late: tuple[str, ...] = ()

    @classmethod
    def of(cls, pace: Pace, cases: int, team: Team) -> Timetable | None:
        """None for a run by steps."""
        return None if pace.budget is None else cls(pace.budget, pace, cases, team)

    @torch.no_grad()
    def measure(self, network: nn.Module, channels: int, patch_size: Sequence[int], device: str) -> None:
        """What a window takes here, by doing two; the first also warms up."""
        on = resolve_device(device)
        patch = torch.zeros(1, channels, *patch_size, device=on)
        network.to(on).eval()
        float(network(patch).max())
        self.pace.start_lap()
        float(network(patch).max())
        self.pace.lap(windows=1)

    def fitted(self, holdout: Holdout, windows_of: Callable[[Sequence[Case]], int], passes: int) -> Holdout:
        """What of it there is time for, each held-out case being measured in so many `passes`; a run that resumes
        stays with what it decided when it began, and has left time for."""
        if holdout.folds:
            measuring = passes * max(windows_of(fold.held_out) for fold in holdout.folds) * self._window_s
            _, fits = planned_s(self._left_s, len(holdout.folds), measuring, self.pace.recent_step_s or 0.0)
            decided = self._agreed(self.budget.decide("folds", fits))
            return holdout if decided else replace(holdout, folds=(), how=NO_FOLDS)
        cases = holdout.held_out
        affordable = self._affordable([passes * windows_of([case]) for case in cases])
        count = self._agreed(self.budget.decide("measured", affordable))
        if count == len(cases):
            return holdout
        how = f"{holdout.how}; {count or 'none'} of {len(cases)} measured, as the time is short"
        return replace(holdout, measured=cases[:count], how=how)

    def has_round(self, rounds: int, windows: float) -> bool:
        """Whether the next of so many rounds can teach something, now that the pace of steps is known."""
        training = self._left_s / rounds - windows * self._window_s
        return self._agreed(training > FEWEST_STEPS * (self.pace.recent_step_s or 0.0)) > 0

    def schedule(
        self, settings: FineTuneSettings, fold: tuple[int, int] | None, windows: float, *, validates_last: bool
    ) -> ByTime:
        """Of a training that begins now, with `windows` to measure after it."""
        which, count = fold or (0, 0)
        share = 1 / (count - which + 1) if which else FINAL_SHARE if count else 1.0
        seconds = share * self._left_s - windows * self._window_s
        tail_s = windows * self._window_s + saving_s(self.cases, self._window_s)
        if not which:
            seconds = max(seconds, LEAST_TRAINING * 60 * (settings.minutes or 0.0))
            self.late = self._late(settings.minutes or 0.0, seconds + tail_s)
            self.budget.end_s = max(self.budget.end_s, self.budget.spent_s + seconds + tail_s)
        self.team.first(self.budget.keep)
        return ByTime(
            settings,
            self.budget,
            self.pace,
            self.budget.spent_s + (min(seconds, self.final_s) if which else seconds),
            tail_s=tail_s,
            windows=windows,
            anneals=not which,
            until_no_better=settings.until_no_better and not which,
            validates=not which,  # the curves of rounds, each with steps of its own, have no mean
            validates_last=validates_last,
            team=self.team,
        )

    def _late(self, minutes: float, to_come_s: float) -> tuple[str, ...]:
        end_s = self.budget.spent_s + to_come_s
        if end_s <= (1 + _LATE) * 60 * minutes:
            return ()
        return (
            f"{in_minutes(self.budget.spent_s)} of the {minutes:g} min were over before training began, with starting, "
            "reading and preparing: it trains for a quarter of the time all the same, and all of it takes about "
            f"{in_minutes(end_s)}. A longer time teaches more.",
        )

    @property
    def _left_s(self) -> float:
        """Without saving."""
        return max(0.0, self.budget.left_s - saving_s(self.cases, self._window_s))

    @property
    def _window_s(self) -> float:
        return self.pace.window_s or 0.0

    def _affordable(self, windows: Sequence[int]) -> int:
        """How many of the cases that need so many windows."""
        most = MEASURING_SHARE * self._left_s / (self._window_s or 1.0)
        return sum(sum(windows[: n + 1]) <= most for n in range(len(windows)))

    def _agreed(self, value: float) -> int:
        return int(self.team.all_reduce_sum([float(value) if self.team.is_first else 0.0])[0])
