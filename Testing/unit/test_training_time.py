"""A run by time, planned by a clock that only steps and windows move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from MAESegmentLib.training.loop.budget import TimeBudget
from MAESegmentLib.training.loop.distributed import SOLO, Team
from MAESegmentLib.training.loop.pace import Pace
from MAESegmentLib.training.loop.schedule import STALE_SECONDS, ByTime
from MAESegmentLib.training.settings import FineTuneSettings

SETTINGS = FineTuneSettings(minutes=2.0, learning_rate=1.0, warmup=0.05, final_learning_rate=0.01)


@dataclass
class Machine:
    """Does what a schedule says, and notes the learning rates."""

    folder: Path
    step_s: float = 0.25
    window_s: float = 0.1
    save_s: float = 0.0
    minutes: float = 2.0
    now: float = 0.0
    #: Called before each step with how many are done.
    happens: Callable[[Machine, int], None] | None = None
    score: Callable[[float], float] | None = None
    team: Team = SOLO
    rates: list[float] = field(default_factory=list)
    averages: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)

    def start(self, *, windows: float = 0.0, until_no_better: bool = False) -> ByTime:
        self.pace = Pace(2, clock=lambda: self.now)
        self.budget = TimeBudget(self.minutes, self.folder, clock=lambda: self.now)
        self.schedule = ByTime(
            *(SETTINGS, self.budget, self.pace, 60 * self.minutes - 10.0),
            tail_s=10.0,
            windows=windows,
            until_no_better=until_no_better,
            team=self.team,
        )
        self.windows = windows
        return self.schedule

    def train(self, steps: int = 10**6, *, first: int = 0, stop_at: int | None = None) -> int:
        """As the loop does; returns the steps that were done in all."""
        step = first
        self.pace.start_lap()
        while not self.schedule.is_over(step) and step < first + steps:
            if self.happens is not None:
                self.happens(self, step)
            rate, average = self.schedule.before(step)
            self.now += self.step_s
            self.pace.lap(steps=1)
            step += 1
            self.rates.append(rate)
            self.averages.append(average)
            if stop_at is not None and step >= stop_at:
                self.schedule.stop(step)
            due = self.schedule.after(step, 1.0, stopped=False)
            if due.validate:
                self.validations.append(self.now)
                self.now += self.window_s * self.windows
                self.pace.lap(windows=self.windows)
                self.schedule.scored(None if self.score is None else self.score(self.now), step)
            if due.save:
                self.saves.append(self.now)
                self.now += self.save_s
                self.schedule.saved()
        return step


@pytest.mark.parametrize("step_s", [0.01, 0.25, 6.0, 25.0])
def test_a_run_ends_in_time_with_its_learning_rate_at_the_end(step_s: float, tmp_path: Path) -> None:
    machine = Machine(tmp_path, step_s, save_s=0.2)
    machine.start()
    steps = machine.train()
    assert machine.now == pytest.approx(110.0, abs=step_s + 0.3)
    assert steps == pytest.approx(110.0 / step_s, rel=0.1, abs=1)
    peak = machine.rates.index(max(machine.rates))
    # Up, level, and down to the end over a quarter of the time.
    assert machine.rates[: peak + 1] == sorted(machine.rates[: peak + 1])
    assert machine.rates[peak:] == sorted(machine.rates[peak:], reverse=True)
    assert machine.rates[-1] == pytest.approx(0.01 if steps > 10 else min(machine.rates), abs=0.02)
    if steps > 100:
        assert max(machine.rates) == 1.0
        assert machine.rates[peak - 1] < 1.0
        assert peak == pytest.approx(min(0.05 * steps, 100), abs=0.02 * steps)
        assert machine.rates.count(1.0) == pytest.approx(0.75 * steps - peak, rel=0.05)


@pytest.mark.parametrize("slower", [0.2, 5.0])
def test_a_machine_that_becomes_busy_or_free_still_ends_in_time(slower: float, tmp_path: Path) -> None:
    def change(machine: Machine, step: int) -> None:
        if step > 350:
            machine.step_s = 0.25 * slower

    machine = Machine(tmp_path, happens=change)
    machine.start()
    machine.train()
    assert machine.now == pytest.approx(110.0, abs=2.0)
    assert machine.rates[-1] == pytest.approx(0.01, abs=0.02)


def test_a_pause_past_the_end_is_followed_by_a_short_fall_all_the_same(tmp_path: Path) -> None:
    def pause(machine: Machine, step: int) -> None:
        machine.now += 3600.0 * (step == 200)

    machine = Machine(tmp_path, happens=pause)
    machine.start()
    assert machine.train() == 210
    assert machine.rates[199] == 1.0
    falls = [before - after for before, after in zip(machine.rates[199:], machine.rates[200:], strict=False)]
    assert max(falls) < 0.11
    assert machine.rates[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("at", [1, 3, 100, 400])
def test_stopping_anneals_at_once_for_a_tenth_of_the_time_so_far(at: int, tmp_path: Path) -> None:
    """In warm-up, in the level part, and in the fall."""
    machine = Machine(tmp_path)
    machine.start()
    steps = machine.train(stop_at=at)
    assert at < steps <= at + max(1, round(0.1 * at)) + 1
    assert machine.rates[-1] <= max(0.01, machine.rates[at - 1])
    if at >= 100:
        assert machine.rates[-1] == pytest.approx(0.01, abs=0.02)
    assert machine.schedule.asked
    assert machine.budget.left_s == pytest.approx(10.0, abs=0.5)


@pytest.mark.parametrize(("minutes", "at"), [(60.0, 1200), (480.0, 7000)], ids=["an hour", "overnight"])
def test_a_long_run_that_is_stopped_takes_no_more_than_a_minute(minutes: float, at: int, tmp_path: Path) -> None:
    machine = Machine(tmp_path, step_s=2.0, minutes=minutes)
    machine.start()
    assert machine.train(stop_at=at) == pytest.approx(at + 30, abs=2)
    assert machine.rates[-1] == pytest.approx(0.01, abs=0.02)
    assert machine.budget.left_s == pytest.approx(10.0, abs=2.5), "saving alone"


@pytest.mark.parametrize("at", [1, 4, 100, 250, 400])
def test_a_killed_run_resumes_its_plan_and_ends_in_the_same_time(at: int, tmp_path: Path) -> None:
    whole = Machine(tmp_path / "whole")
    whole.folder.mkdir()
    whole.start()
    whole.train()
    machine = Machine(tmp_path)
    machine.start()
    machine.train(at)
    machine.schedule.saved()
    state = machine.schedule.state()
    machine.now += 1e6  # between the processes: it does not count
    again = machine.start()
    machine.now += 4.0  # preparing again does
    again.load(state)
    machine.train(first=at)
    assert machine.budget.spent_s == pytest.approx(110.0, abs=0.5)
    assert len(machine.rates) == pytest.approx(len(whole.rates) - 16, abs=3)
    assert machine.rates[-1] == pytest.approx(0.01, abs=0.02)
    warm = machine.rates[:22]
    assert warm == sorted(warm)


def test_a_run_that_was_stopped_and_killed_anneals_when_it_is_resumed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.start()
    machine.train(202, stop_at=200)
    machine.schedule.saved()
    state = machine.schedule.state()
    machine.start().load(state)
    assert machine.train(first=202) == pytest.approx(220, abs=1)
    assert machine.schedule.asked


def test_validations_and_checkpoints_come_by_time_and_take_little_of_it(tmp_path: Path) -> None:
    cheap = Machine(tmp_path / "cheap")
    dear = Machine(tmp_path / "dear")
    for machine, windows in ((cheap, 1.0), (dear, 30.0)):
        machine.folder.mkdir()
        machine.start(windows=windows)
        machine.train()
        assert machine.now == pytest.approx(110.0, abs=3.5)
        assert 9 <= len(machine.saves) <= 11
    assert 9 <= len(cheap.validations) <= 11
    assert 2 <= len(dear.validations) <= 4


def test_the_average_spans_more_steps_the_longer_a_run_and_few_where_it_falls(tmp_path: Path) -> None:
    machine = Machine(tmp_path, minutes=60.0)
    machine.start()
    steps = machine.train()
    spans = [1 / (1 - average) for average in machine.averages]
    assert spans[steps // 2] == pytest.approx(steps / 2 / 9, rel=0.05)
    assert spans[-1] == pytest.approx(steps / 4 / 9, rel=0.05)


@pytest.mark.parametrize("held_out", [True, False])
def test_overnight_ends_when_it_has_not_got_better_for_long(held_out: bool, tmp_path: Path) -> None:
    """Dice rises for two hours; without anything held out, the loss, which is level here, decides."""
    machine = Machine(tmp_path, step_s=2.0, minutes=480.0)
    machine.score = (lambda now: min(now, 7200.0) / 10000.0) if held_out else None
    machine.start(windows=10.0 if held_out else 0.0, until_no_better=True)
    machine.train()
    best = 7200.0 if held_out else 2880.0
    waited = best + max(STALE_SECONDS, best / 2)
    assert machine.now == pytest.approx(waited * 4 / 3, abs=2 * 2880.0)
    assert machine.now < 0.8 * 480 * 60
    assert machine.rates[-1] == pytest.approx(0.01, abs=0.02)
    assert machine.budget.left_s == pytest.approx(10.0, abs=2.0)


class Follower(Team):
    """Hears what the first process has said."""

    def all_reduce_sum(self, values: Sequence[float] = (), failed: Exception | None = None) -> list[float]:
        assert failed is None
        assert not any(values)  # it has no say
        return SAID.pop(0) if values else []


class First(Team):
    def all_reduce_sum(self, values: Sequence[float] = (), failed: Exception | None = None) -> list[float]:
        assert failed is None
        SAID.extend([list(values)] if values else [])
        return list(values)


SAID: list[list[float]] = []


def test_all_of_a_team_do_what_the_first_process_decides(tmp_path: Path) -> None:
    """The other is on a machine whose clock says something else."""
    first, other = Machine(tmp_path, team=First(0, 2)), Machine(tmp_path, 3.0, team=Follower(1, 2))
    for machine in (first, other):
        machine.start(windows=1.0)
    assert first.train() == other.train()
    assert first.rates == other.rates
    assert first.averages == other.averages
    assert len(first.validations) == len(other.validations) > 5
    assert not SAID
