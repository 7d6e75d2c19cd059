"""What a run reports, how it is cancelled or stopped, and the processes that share its work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..errors import Cancelled
from .loop.distributed import SOLO, Team
from .loop.pace import Pace


@dataclass(frozen=True)
class Progress:
    """Where the work stands, and how long all of it takes. `stage` is "prepare", "before" (the start is measured),
    "train", "validate", "save" or "log" (a `message` only); `fold` is (which, of how many) rounds of leave-one-out, 0
    while they are to come."""

    stage: str
    fraction: float = 0.0
    eta_s: float | None = None
    step: int = 0
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    fold: tuple[int, int] | None = None
    #: Planned in all; 0 where that is not known.
    steps: int = 0


Report = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Report nothing."""


def never() -> bool:
    """Neither cancel nor stop."""
    return False


@dataclass(frozen=True)
class RunContext:
    """What surrounds a run. Cancelling keeps its checkpoint and raises `Cancelled`; stopping saves the best so far.

    A run by time that is to stop anneals first, for a moment, unless it `should_end` at once.
    """

    report: Report = ignore
    should_cancel: Callable[[], bool] = never
    should_stop: Callable[[], bool] = never
    should_end: Callable[[], bool] = never
    #: What the time of a run by time, and its pace, are told from.
    clock: Callable[[], float] = time.perf_counter
    #: When the process began, by `clock`, if its time counts from there.
    begun: float | None = None
    team: Team = SOLO
    #: Of the whole run, where that is more than one training; `windows` are those of a validation.
    pace: Pace | None = None
    windows: float = 1.0

    @property
    def may_stop(self) -> bool:
        """Whether anybody can ask this run to stop early."""
        return self.should_stop is not never

    def all_reduce_stop(self) -> bool:
        """Whether the run is to end early; the same in all of the team, which must all call this."""
        return self.may_stop and self.team.all_reduce_any(self.should_stop())

    def all_reduce_end(self) -> bool:
        """Whether a run that is stopping is to end at once, in the same way."""
        return self.team.all_reduce_any(self.should_end())

    def check_cancelled(self, message: str = "", hint: str = "") -> None:
        """Raise `Cancelled` if that was asked for."""
        if self.should_cancel():
            raise Cancelled(message, hint) if message else Cancelled()

    def reports_preparing(self) -> Callable[[int, int, str], None]:
        """Of what begins now: takes how many of how many are prepared, and the name of the next one."""
        budget = None if self.pace is None else self.pace.budget
        began_s = 0.0 if budget is None else budget.spent_s

        def report(number: int, count: int, name: str) -> None:
            share = number / count
            left_s = None if budget is None else budget.left_while_preparing_s(began_s, share)
            self.report(Progress("prepare", share, left_s, message=name))

        return report

    def log(self, *messages: str) -> None:
        for message in messages:
            self.report(Progress("log", message=message))

    def part(self, windows: float, fold: tuple[int, int] | None) -> RunContext:
        """For one training of several: its validations run so many windows."""

        def report(progress: Progress) -> None:
            self.report(replace(progress, fold=fold))

        return replace(self, report=report, windows=windows)


#: Nobody watches the run, and nobody ends it early.
UNATTENDED = RunContext()
