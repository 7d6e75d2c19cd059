"""When a training changes its learning rate, validates, saves and ends: by its steps, or by the time that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..settings import LoopSettings
from .budget import TimeBudget, annealing_s
from .distributed import SOLO, Team
from .optimiser import learning_rate_at
from .pace import Pace, Work, work_after

#: Share of the time over which the learning rate falls at the end.
DECAY = 0.25
#: Steps of a warm-up at most, and of a decay at least: a tenth of the steps before it, up to so many.
WARMUP_STEPS, DECAY_STEPS = 100, 10
#: Not better for long: so many seconds, and such a share of the time so far, with no rise above this share of the best.
STALE_SECONDS, STALE_SHARE, BETTER = 1800.0, 1 / 3, 0.002
#: Validations of a training at most, and the share of its time that they may take.
VALIDATIONS, VALIDATING = 10, 0.1
#: Seconds between two checkpoints: a hundredth of the training within these bounds.
SAVE_SECONDS = (10.0, 60.0)


@dataclass(frozen=True)
class Due:
    """What a finished step is followed by."""

    log: bool
    validate: bool
    save: bool
    last: bool


class Schedule(Protocol):
    """What the loop asks."""

    #: Whether a training that is asked to stop ends with its learning rate falling: its last weights are the ones then.
    anneals: bool

    @property
    def asked(self) -> bool:
        """Whether it was asked to, and anneals."""

    def is_over(self, step: int) -> bool: ...

    def planned(self, step: int) -> int:
        """Steps in all, as far as is known after `step`."""

    def before(self, step: int) -> tuple[float, float]:
        """Learning rate, and decay of the moving average, of the step that comes after `step` finished ones."""

    def after(self, step: int, loss: float, *, stopped: bool) -> Due: ...
    def scored(self, score: float | None, step: int) -> None:
        """There was a validation: with this result, or with nothing held out."""

    def stop(self, step: int) -> bool:
        """The user asks for an end; whether it is at once."""

    def work_left(self, step: int, windows: float) -> Work: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: Mapping[str, Any]) -> None: ...
    def saved(self) -> None: ...


class BySteps:
    """Everything follows from the number of the step, so that a killed run repeats itself."""

    anneals = False
    asked = False

    def __init__(self, settings: LoopSettings) -> None:
        self._settings = settings

    def is_over(self, step: int) -> bool:
        return step >= self._settings.steps

    def planned(self, step: int) -> int:  # noqa: ARG002
        return self._settings.steps

    def before(self, step: int) -> tuple[float, float]:
        return learning_rate_at(step, self._settings), min(self._settings.ema_decay, _average_of(step + 2))

    def after(self, step: int, loss: float, *, stopped: bool) -> Due:  # noqa: ARG002
        settings, last = self._settings, stopped or step >= self._settings.steps
        every = (settings.log_every, settings.validate_every, settings.checkpoint_every)
        log, validate, save = (last or step % n == 0 for n in every)
        return Due(log, validate, save, last)

    def scored(self, score: float | None, step: int) -> None:
        """Nothing depends on it."""

    def stop(self, step: int) -> bool:  # noqa: ARG002
        return True

    def work_left(self, step: int, windows: float) -> Work:
        return work_after(step, self._settings, windows)

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Nothing was decided."""

    def saved(self) -> None:
        """Nothing else to keep."""


@dataclass
class _Plan:
    """What stands in the checkpoint; times in seconds of the run."""

    begun: float
    deadline: float
    #: Of the learning rate, in the last step.
    factor: float = 0.0
    #: Steps before the learning rate began to fall.
    decay_from: int | None = None
    asked: bool = False
    over: bool = False
    logged: float = 0.0
    validated: float = 0.0
    saved: float = 0.0
    best: float | None = None
    best_at: float = 0.0
    losses: float = 0.0
    counted: int = 0


class ByTime:
    """Warm-up, a stable learning rate, and a fall to its end over the last quarter of the time.

    The fall can begin at any moment, so a training that is stopped is annealed, too. How many steps it takes is planned
    anew before each, from the pace of the last few. Patches, masks and dropout follow from the number of the step, as
    ever; the learning rate follows from the clock. So a killed run resumes with the plan and the time in its
    checkpoint and ends in time, but not with the same weights as one that was not killed. In a team the first process
    decides. The moving average, unless it is off, spans a ninth of the steps so far, or of the fall.
    """

    def __init__(
        self,
        settings: LoopSettings,
        budget: TimeBudget,
        pace: Pace,
        deadline: float,
        *,
        tail_s: float = 0.0,
        windows: float = 0.0,
        anneals: bool = True,
        until_no_better: bool = False,
        validates: bool = True,
        validates_last: bool = False,
        team: Team = SOLO,
    ) -> None:
        """Its last step is over at `deadline`, in seconds of `budget`; what follows it takes `tail_s`. A validation
        runs `windows`."""
        self._settings, self._budget, self._pace, self._team = settings, budget, pace, team
        self._tail_s, self._windows = tail_s, windows
        self._validates = validates
        self.anneals, self._until_no_better, self._validates_last = anneals, until_no_better, validates_last
        now = budget.spent_s
        self._plan = _Plan(now, max(now, deadline), logged=now, validated=now, saved=now, best_at=now)

    def is_over(self, step: int) -> bool:  # noqa: ARG002
        return self._plan.over

    def planned(self, step: int) -> int:
        return step if self._plan.over else step + self._steps_left(step)

    def before(self, step: int) -> tuple[float, float]:
        plan = self._plan
        if plan.decay_from is None and self._left_s <= DECAY * (plan.deadline - plan.begun):
            plan.decay_from = step
        left = self._steps_left(step)
        if plan.decay_from is None:
            steps = min(self._settings.warmup * (step + left), WARMUP_STEPS)
            plan.factor = max(plan.factor, min(1.0, (step + 1) / (steps + 1)))
            span = step + 2
        else:
            plan.factor -= (plan.factor - min(plan.factor, self._settings.final_learning_rate)) / left
            span = min(step + 2, step - plan.decay_from + left)
        average = _average_of(span) if self._settings.ema_decay else 0.0
        factor, average = self._agreed(plan.factor, average)
        return factor * self._settings.learning_rate, average

    def after(self, step: int, loss: float, *, stopped: bool) -> Due:
        plan, now = self._plan, self._budget.spent_s
        plan.losses, plan.counted = plan.losses + loss, plan.counted + 1
        length = plan.deadline - plan.begun
        price = self._pace.recent_step_s or 0.0
        falls = plan.decay_from is not None
        last = stopped or (falls and step >= self._least_end() and plan.deadline - now < price / 2)
        validation = self._windows * (self._pace.window_s or 0.0)
        every = max(length / VALIDATIONS, validation / VALIDATING)
        due = now - plan.validated >= every and (not falls or self._left_s > every / 2)
        log = last or now - plan.logged >= length / 100
        validate = self._validates and ((self._validates_last or validation <= length / 20) if last else due)
        save = last or now - plan.saved >= min(max(SAVE_SECONDS[0], length / 100), SAVE_SECONDS[1])
        log, validate, save, last = (value > 0 for value in self._agreed(log, validate, save, last))
        plan.logged = now if log else plan.logged
        plan.over = last
        return Due(log, validate, save, last)

    def scored(self, score: float | None, step: int) -> None:
        """Without anything held out, the training loss since the last time is the score."""
        plan, now = self._plan, self._budget.spent_s
        score = -plan.losses / max(1, plan.counted) if score is None else score
        plan.losses, plan.counted, plan.validated = 0.0, 0, now
        if plan.best is None or score > plan.best + BETTER * abs(plan.best):
            plan.best, plan.best_at = score, now
        stale = now - plan.best_at > max(STALE_SECONDS, STALE_SHARE * (now - plan.begun))
        if self._until_no_better and stale and plan.decay_from is None:
            earlier = plan.deadline - self._fall_from_now(step, DECAY / (1 - DECAY) * (now - plan.begun))
            self._budget.end_s -= earlier

    def stop(self, step: int) -> bool:
        plan, now = self._plan, self._budget.spent_s
        if self.anneals and not plan.asked:
            plan.asked = True
            self._fall_from_now(step, annealing_s(now - plan.begun))
            self._budget.end_s = min(self._budget.end_s, plan.deadline + self._tail_s)
        return not self.anneals

    @property
    def asked(self) -> bool:
        return self._plan.asked

    def work_left(self, step: int, windows: float) -> Work:  # noqa: ARG002
        return Work()

    def state(self) -> dict[str, Any]:
        return asdict(self._plan)

    def load(self, state: Mapping[str, Any]) -> None:
        """What was planned before; what came in between, as preparing again, leaves less time."""
        if state:
            planned, self._plan = self._plan, _Plan(**state)
            # What follows a training has its own time: this one ends by then, whatever was lost.
            self._plan.deadline = max(min(self._plan.deadline, planned.deadline), self._budget.spent_s)
            end_s = self._plan.deadline + self._tail_s
            chosen_s = 0.0 if self._plan.asked else self._budget.chosen_s
            self._budget.end_s = min(self._budget.end_s, max(chosen_s, end_s))

    def saved(self) -> None:
        self._plan.saved = self._budget.spent_s
        self._team.first(self._budget.keep)

    def _fall_from_now(self, step: int, seconds: float) -> float:
        """Ends within so many seconds; returns the new deadline."""
        plan = self._plan
        plan.deadline = min(plan.deadline, self._budget.spent_s + seconds)
        plan.decay_from = step if plan.decay_from is None else plan.decay_from
        return plan.deadline

    @property
    def _left_s(self) -> float:
        return self._plan.deadline - self._budget.spent_s

    def _least_end(self) -> int:
        """The step before which it does not end, however late it is: weights at a high learning rate are no model."""
        begun = self._plan.decay_from or 0
        return begun + max(1, min(DECAY_STEPS, begun // 10))

    def _steps_left(self, step: int) -> int:
        price = self._pace.recent_step_s
        fit = round(self._left_s / price) if price else WARMUP_STEPS if self._left_s > 0 else 1
        least = self._least_end() - step if self._plan.decay_from is not None else 1
        return max(1, least, fit)

    def _agreed(self, *values: float) -> list[float]:
        if self._team.size == 1:
            return list(values)
        return self._team.all_reduce_sum([float(value) if self._team.is_first else 0.0 for value in values])


def _average_of(span: int) -> float:
    """Decay of a moving average that spans about a ninth of so many steps."""
    return span / (9 + span)
