"""How far a fine-tuning is and what is left of it: validations and rounds of leave-one-out count as what they take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import Cancelled
from MAESegmentLib.images.labels import Label
from MAESegmentLib.training import finetune as finetune_code
from MAESegmentLib.training import rounds
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop import loop
from MAESegmentLib.training.loop.pace import Pace, Work, work_after
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks import segmentation
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset

STEP_S, VALIDATION_S = 2.0, 30.0
SETTINGS = FineTuneSettings(
    steps=10, checkpoint_every=5, validate_every=5, log_every=1, device="cpu", precision="fp32", threads=1
)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Nothing takes any time but a step and the segmentation of held-out cases."""
    clock = Clock()
    monkeypatch.setattr(finetune_code, "Pace", lambda batch_size, _: Pace(batch_size, clock))
    update, dice_table = loop._Run.update, segmentation.dice_table

    def slow_update(*arguments: Any) -> Any:
        clock.now += STEP_S
        return update(*arguments)

    def slow_table(model: Any, cases: Any, *rest: Any) -> Any:
        clock.now += VALIDATION_S * len(cases)
        return dice_table(model, cases, *rest)

    monkeypatch.setattr(loop._Run, "update", slow_update)
    for module in (segmentation, rounds):
        monkeypatch.setattr(module, "dice_table", slow_table)
    return clock


@dataclass
class Run:
    """What was reported, and when."""

    said: list[tuple[float, Progress]]
    seconds: float = 0.0

    def worst(self, *, after: float) -> float:
        """The largest error of the time left, as a share of the whole run, once so much of it is done."""
        errors = [
            abs(progress.eta_s - (self.seconds - at)) / self.seconds
            for at, progress in self.said
            if progress.eta_s is not None and at > after * self.seconds
        ]
        assert errors
        return max(errors)


@pytest.fixture
def measure(tmp_path: Path, clock: Clock) -> Any:
    """Fine-tune, noting what is reported at which second."""
    dataset = load_dataset(write_dataset(tmp_path / "data"))
    base = save_tiny(tmp_path / "base", tiny_spec(labels=(Label(1, "front"), Label(2, "back"))))

    def measure(validation: str, cancel_at: float = float("inf")) -> Run:
        run = Run([])
        context = RunContext(
            lambda progress: (
                run.said.append((clock.now, progress)) if progress.stage in ("train", "validate") else None
            ),
            lambda: clock.now >= cancel_at,
        )
        begun = clock.now
        finetune(dataset, base, tmp_path / "run", SETTINGS, validation=validation, context=context)
        run.said = [(at - begun, progress) for at, progress in run.said]
        run.seconds = clock.now - begun
        return run

    return measure


def test_validations_count(measure: Any) -> None:
    run = measure("case_2")
    assert run.seconds == 10 * STEP_S + 4 * VALIDATION_S  # before, twice, after
    assert run.worst(after=0.25) < 0.01, "both were measured by then"
    at, progress = run.said[9]
    assert progress.fraction == pytest.approx(at / run.seconds, abs=0.01)


def test_rounds_of_leave_one_out_count(measure: Any) -> None:
    run = measure("loo")
    training, each_round = 10 * STEP_S, 10 * STEP_S + 4 * VALIDATION_S
    assert run.seconds == training + 3 * each_round
    last = [(at, one) for at, one in run.said if one.fold == (0, 3)][-1][1]
    assert last.fraction < 0.25, "the model is trained, its rounds are to come"
    assert last.eta_s == pytest.approx(3 * each_round, rel=0.9), "no validation has been measured yet"
    assert run.worst(after=0.25) < 0.02
    fractions = [one.fraction for _at, one in run.said]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1 - VALIDATION_S / run.seconds, abs=0.02), "what came of it is measured last"


def test_what_was_done_before_an_interruption_counts(measure: Any, clock: Clock) -> None:
    with pytest.raises(Cancelled):
        measure("case_2", cancel_at=7 * STEP_S + 2 * VALIDATION_S)
    clock.now = 1000.0
    run = measure("case_2")
    assert run.seconds == 3 * STEP_S + 2 * VALIDATION_S
    assert run.said[0][1].fraction > 0.4
    assert run.worst(after=0.5) < 0.01


def test_validations_of_a_training_alone() -> None:
    settings = replace(SETTINGS, steps=12)
    assert work_after(0, settings, 4) == Work(12, 12), "two and one at the end"
    assert work_after(5, settings, 4) == Work(7, 8)
    assert work_after(12, settings, 4) == Work()


def test_an_unknown_pace_is_not_guessed() -> None:
    pace = Pace()
    pace.plan(Work(10, 10))
    assert (pace.fraction, pace.left_s) == (0.0, None)
