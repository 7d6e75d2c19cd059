"""The request, the status and the result of a fine-tuning run: plain values, JSON on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from ..errors import Cancelled, MAESegmentError, WorkerError
from ..translation import tr as _
from ..values import Stored

#: A smaller difference of the mean Dice counts as none.
SAME_DICE = 0.0005


class RunState(Enum):
    """WAITING: its process is starting. INTERRUPTED: its process ended too early; it can be resumed."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    DISCARDED = "discarded"


@dataclass(frozen=True)
class RunRequest(Stored):
    """`base` is a bundle's reference ({"name", "version", "hash"}), `base_path` its folder; `store` a case store.

    `training` and `check` are ids of its cases; without `check` some of five or more are held out, and fewer are
    checked by leave-one-out; with the `validation` "none" nothing is held out or measured. `settings` are the chosen
    fields of `FineTuneSettings`; what is not chosen is decided by `training.defaults`. The new version goes to the
    models in `models`. `unlabelled` are scans without labels to learn from too, files or folders; what is not an
    absolute path lies in the folder of the run. `notes` are sentences for the result.
    """

    base: Mapping[str, str]
    base_path: str
    store: str
    training: tuple[str, ...]
    check: tuple[str, ...] = ()
    models: str = ""
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    validation: Literal["auto", "none"] = "auto"
    unlabelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseChange(Stored):
    """Mean Dice of one case that was not trained on, by the base (None where it lacks the labels) and by the new."""

    case: str
    before: float | None
    after: float | None
    before_by_label: Mapping[str, float | None] = field(default_factory=dict)
    after_by_label: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def is_worse(self) -> bool:
        return self.before is not None and self.after is not None and self.after < self.before - SAME_DICE


@dataclass(frozen=True)
class RunResult(Stored):
    """`model` is the new version's reference, `path` its folder; Dice by label is a mean over the cases checked."""

    model: Mapping[str, str]
    path: str
    parent: Mapping[str, str]
    cases: int
    how: str
    indicative_only: bool
    before: Mapping[str, float] | None = None
    after: Mapping[str, float] | None = None
    mean_before: float | None = None
    mean_after: float | None = None
    per_case: tuple[CaseChange, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> int:
        """How many of the checked cases got worse."""
        return sum(row.is_worse for row in self.per_case)

    @property
    def is_better(self) -> bool | None:
        """Whether the mean Dice rose; None if nothing was measured."""
        if self.mean_after is None:
            return None
        if self.mean_before is None:
            return True  # of labels that the base did not have
        return self.mean_after > self.mean_before + SAME_DICE

    @property
    def banner(self) -> str:
        """The result in a sentence."""
        version = f"{self.model['name']} {self.model['version']}"
        if self.mean_after is None:
            return f"{version}: trained on {_count(self.cases, 'case')}; nothing was held out, so nothing was measured."
        change = _number(self.mean_after)
        if self.mean_before is not None:
            change = f"{_number(self.mean_before, self.mean_after)} -> {_number(self.mean_after, self.mean_before)}"
        text = f"{version}: mean Dice {change} on {self.how}"
        if self.indicative_only:
            text += " (indicative only)"
        if self.mean_before is not None:
            text += f"; {_count(self.worse, 'case')} got worse" if self.worse else "; no case got worse"
        return f"{text}."


@dataclass(frozen=True)
class RunStatus(Stored):
    """`stage` is "prepare", "before" (the base is measured), "train", "check", "fold" (leave-one-out) or "save".

    `fold` is (which, of how many); `text` says all of it in a line. `warnings` are about what it learns from.
    """

    state: RunState
    stage: str = ""
    text: str = ""
    fraction: float = 0.0
    eta_s: float | None = None
    step: int = 0
    steps: int = 0
    fold: tuple[int, int] | None = None
    device: str = ""
    device_title: str = ""
    seconds: float = 0.0
    stop_requested: bool = False
    warnings: tuple[str, ...] = ()
    error: MAESegmentError | None = None
    result: RunResult | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in (RunState.DONE, RunState.FAILED, RunState.DISCARDED)

    def outcome(self) -> RunResult:
        """The result; raises why there is none."""
        if self.result is not None:
            return self.result
        if self.error is not None:
            raise self.error
        if self.state is RunState.DISCARDED:
            raise Cancelled(_("The fine-tuning was discarded."))
        if self.state is RunState.INTERRUPTED:
            raise WorkerError(_("The fine-tuning was interrupted."), _("Resume it, or start it again."))
        raise WorkerError(_("The fine-tuning has no result yet."), _("Wait until it is finished."))


@dataclass(frozen=True)
class Curves:
    """`loss` is (step, loss) of the training; `dice` is (step, {label: Dice, ..., "mean": Dice}) on other cases.

    Under leave-one-out, `dice` is the mean over the folds so far. `before` is the base's Dice of these cases, if known.
    """

    loss: tuple[tuple[int, float], ...] = ()
    dice: tuple[tuple[int, Mapping[str, float]], ...] = ()
    before: Mapping[str, float] | None = None


@dataclass(frozen=True)
class FineTuneEstimate(Stored):
    """Measured by a few steps on this machine: how long a run takes and what memory it needs, of what is free.

    `cases` are trained on, `how` says what the result is checked on. By time, `steps` and `patches` (0: not known) are
    what the final model is trained on within it.
    """

    seconds: float
    seconds_per_step: float
    steps: int
    memory_bytes: float
    free_bytes: float
    device: str
    device_title: str
    cases: int
    how: str
    warnings: tuple[str, ...] = ()
    patches: int = 0


def _number(value: float, other: float | None = None) -> str:
    """Two digits, or three where two would hide that it differs from `other`."""
    short = f"{value:.2f}"
    return short if other is None or short != f"{other:.2f}" else f"{value:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
