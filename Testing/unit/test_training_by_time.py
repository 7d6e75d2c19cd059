"""Fine-tuning by time, from its cases to its model: all of it within the time, with what there is time for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import Cancelled
from MAESegmentLib.images.labels import Label
from MAESegmentLib.inference.window_count import window_count
from MAESegmentLib.training import finetune as finetune_code
from MAESegmentLib.training import rounds, timetable
from MAESegmentLib.training.data import preparing, unlabelled
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop import loop
from MAESegmentLib.training.loop.pace import Pace
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks import segmentation
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import save, write_dataset
from Testing.phantoms import PhantomFactory

SETTINGS = FineTuneSettings(minutes=1.0, device="cpu", precision="fp32", threads=1)
STEP_S = 2.0
TOO_FEW = "Only 17 steps fitted into the time, too few to learn from: give it more time, or do not use this model."


class Killed(Exception):
    pass


def killed(*_: Any, **__: Any) -> None:
    raise Killed


@dataclass
class Machine:
    """Only steps, windows and saving take time, and that is what they are said to take."""

    folder: Path
    base: Bundle
    dataset: Any
    now: float = 0.0
    step_s: float = STEP_S
    window_s: float = 0.02
    said: list[Progress] = field(default_factory=list)

    def run(
        self, validation: str, settings: FineTuneSettings = SETTINGS, unlabelled: Sequence[Path] = (), **context: Any
    ) -> Bundle:
        how = {"validation": validation, "unlabelled": unlabelled, "context": RunContext(self.said.append, **context)}
        return finetune(self.dataset, self.base, self.folder / "run", settings, **how)

    def steps(self, *, rounds: bool = False) -> int:
        """Of the final model, or of all rounds of leave-one-out."""
        kept = [one for one in self.said if one.stage == "train" and bool(one.fold and one.fold[0]) == rounds]
        last: dict[Any, int] = {one.fold: one.step for one in kept}
        return sum(last.values())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    dataset = load_dataset(write_dataset(tmp_path / "data"))
    base = save_tiny(tmp_path / "base", tiny_spec(labels=(Label(1, "front"), Label(2, "back"))))
    machine = Machine(tmp_path, base, dataset)
    update, dice_table = loop._Run.update, segmentation.dice_table

    def slow_update(*arguments: Any) -> Any:
        machine.now += machine.step_s
        return update(*arguments)

    def slow_table(model: Any, cases: Any, names: Any, patch: Any, *rest: Any) -> Any:
        machine.now += machine.window_s * sum(window_count(case.shape, patch, 0.25) for case in cases)
        return dice_table(model, cases, names, patch, *rest)

    def slow_window(_self: Any, *_: Any) -> None:
        _self.pace.start_lap()
        machine.now += machine.window_s
        _self.pace.lap(windows=1)

    monkeypatch.setattr(loop._Run, "update", slow_update)
    monkeypatch.setattr(finetune_code, "Pace", lambda batch_size, _: Pace(batch_size, lambda: machine.now))
    monkeypatch.setattr(timetable.Timetable, "measure", slow_window)
    for module in (segmentation, rounds):
        monkeypatch.setattr(module, "dice_table", slow_table)
    return machine


def test_the_whole_run_ends_in_time(machine: Machine) -> None:
    model = machine.run("case_2")
    assert 50.0 < machine.now <= 60.0  # the rest is for saving, which takes no time here
    assert model.spec.training["steps"] == machine.steps() >= 25
    assert not model.spec.training["stopped_early"]
    fractions = [one.fraction for one in machine.said if one.stage in ("train", "validate")]
    assert fractions == sorted(fractions)
    ends = [one.eta_s for one in machine.said if one.stage == "train"]
    assert ends[0] == pytest.approx(58.0, abs=1.0)
    assert all(one.steps == pytest.approx(27, abs=2) for one in machine.said if one.stage == "train")


def test_time_before_the_run_counts_from_the_start_of_its_process(machine: Machine) -> None:
    machine.now = 1020.0
    machine.run("none", begun=1000.0)
    assert 1050.0 < machine.now <= 1060.0


@pytest.fixture
def twelve_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of leave-one-out is worth while from twelve steps on, in place of fifty that would have to be done."""
    monkeypatch.setattr(timetable, "FEWEST_STEPS", 12)


@pytest.mark.usefixtures("twelve_teach")
def test_leave_one_out_is_done_in_the_same_time_and_says_what_it_is(machine: Machine) -> None:
    machine.step_s = 0.4
    model = machine.run("loo", replace(SETTINGS, batch_size=1))
    assert 50.0 < machine.now <= 60.0
    assert machine.steps() > machine.steps(rounds=True) > 36
    measured = model.spec.metrics["validation"]
    assert measured["held_out"] == "leave-one-out; folds of a fifth of the steps: a lower bound"
    assert measured["cases"] == 3


def test_leave_one_out_without_time_is_left_out_and_that_is_said(machine: Machine) -> None:
    machine.window_s = STEP_S / 6
    model = machine.run("loo")
    assert machine.now <= 60.0
    assert machine.steps() >= 25
    assert "validation" not in model.spec.metrics
    assert "Held out: none, as the time is too short for leave-one-out." in model.spec.training["notes"]


def test_leave_one_out_is_left_out_where_steps_turn_out_to_take_long(machine: Machine) -> None:
    model = machine.run("loo")
    assert machine.now <= 60.0
    assert "validation" not in model.spec.metrics
    for note in ("Leave-one-out ended after 0 of 3: the time was too short.", TOO_FEW):
        assert note in model.spec.training["notes"]
        assert f"Warning: {note}" in [one.message for one in machine.said]


def test_cases_that_there_is_no_time_to_measure_are_not(machine: Machine) -> None:
    machine.window_s = 1.2
    model = machine.run("case_1,case_2")
    assert machine.now <= 66.0
    assert model.spec.metrics["validation"]["cases"] == 1
    assert model.spec.metrics["validation"]["held_out"] == "2 chosen cases; 1 of 2 measured, as the time is short"
    assert len(model.spec.training["held_out_cases"]) == 2


def test_a_computer_that_was_busy_until_then_trains_for_a_quarter_of_the_time(machine: Machine) -> None:
    machine.now = 3000.0
    model = machine.run("none", begun=0.0)
    assert model.spec.training["steps"] == pytest.approx(0.25 * 60 / STEP_S, abs=1)
    assert machine.said[-2].eta_s is None or machine.said[-2].eta_s < 60.0


def test_preparing_that_takes_all_of_the_time_is_said_and_counts(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = preparing.read_image

    def slow(*arguments: Any) -> Any:
        machine.now += 25.0
        return read(*arguments)

    monkeypatch.setattr(preparing, "read_image", slow)
    model = machine.run("none")
    ends = [one.eta_s for one in machine.said if one.stage == "prepare"]
    assert ends == pytest.approx([60.0, 50.0 + 15.0, 25.0 + 15.0])
    assert machine.now == pytest.approx(75.0 + 15.0, abs=STEP_S)
    assert model.spec.training["steps"] == pytest.approx(15.0 / STEP_S, abs=1)
    note = next(note for note in model.spec.training["notes"] if "before training began" in note)
    assert note.startswith("1.3 min of the 1 min were over")
    assert "all of it takes about 1.6 min" in note
    warnings = [n for n, one in enumerate(machine.said) if one.message == f"Warning: {note}"]
    assert len(warnings) == 1
    assert warnings[0] < next(n for n, one in enumerate(machine.said) if one.stage == "train")


def test_preparing_that_leaves_time_is_not_worth_a_word(machine: Machine) -> None:
    machine.now = 20.0
    model = machine.run("none", begun=0.0)
    assert not any("before training began" in note for note in model.spec.training["notes"])


@pytest.mark.parametrize("at", [1, 3, 20, 26])
def test_a_cancelled_run_resumes_with_the_time_that_it_has_left(at: int, machine: Machine) -> None:
    with pytest.raises(Cancelled):
        machine.run("case_2", should_cancel=lambda: machine.steps() >= at)
    spent, machine.now = machine.now, 10_000.0
    machine.said.clear()
    machine.run("case_2")
    assert 50.0 < spent + machine.now - 10_000.0 <= 60.0
    left_s = [one.eta_s or 0.0 for one in machine.said if one.stage == "train"]
    assert left_s[0] <= 60.0 - spent, "it does not promise a training of its own"


@pytest.mark.parametrize("window_s", [0.02, 1.2])
def test_a_run_killed_near_its_end_still_measures_what_it_had_decided_to(window_s: float, machine: Machine) -> None:
    """Two of two, or one of two: not fewer because little time is left."""
    machine.window_s = window_s
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rounds.FineTuning, "save", killed)
        with pytest.raises(Killed):
            machine.run("case_1,case_2")
    machine.now = 10_000.0
    model = machine.run("case_1,case_2")
    assert model.spec.metrics["validation"]["cases"] == (2 if window_s < 1 else 1)


@pytest.mark.usefixtures("twelve_teach")
def test_a_run_killed_in_the_last_round_keeps_the_rounds_before_it(machine: Machine) -> None:
    machine.step_s = 0.4
    with pytest.raises(Cancelled):
        machine.run(
            "loo",
            replace(SETTINGS, batch_size=1),
            should_cancel=lambda: any(one.fold == (3, 3) and one.step > 10 for one in machine.said),
        )
    spent, machine.now = machine.now, 10_000.0
    model = machine.run("loo", replace(SETTINGS, batch_size=1))
    assert model.spec.metrics["validation"]["cases"] == 3
    assert spent + machine.now - 10_000.0 <= 61.0


def test_what_a_run_spent_that_never_began_to_train_is_not_the_next_ones(machine: Machine) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rounds, "train", killed)
        machine.now = 40.0
        with pytest.raises(Killed):
            machine.run("none", begun=0.0)
    assert (machine.folder / "run" / "time.json").exists()
    machine.now = 10_000.0
    machine.run("none")
    assert 50.0 < machine.now - 10_000.0 <= 60.0


def test_scans_without_labels_leave_most_of_the_time_to_training(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder of thousands as many are read as there is time for, and the same ones once the run resumes."""
    folder, prepared = machine.folder / "scans", unlabelled._prepared
    for seed in range(9):
        volume = PhantomFactory()(shape=(27, 22, 18), noise=20.0, seed=100 + seed).volume
        save(folder / f"scan {seed} Größe.nii.gz", volume.array[0], volume.ijk_to_ras)

    def slow(*arguments: Any) -> Any:
        machine.now += 4.0
        return prepared(*arguments)

    monkeypatch.setattr(unlabelled, "_prepared", slow)
    with pytest.raises(Cancelled):
        machine.run("none", unlabelled=[folder], should_cancel=lambda: machine.steps() >= 2)
    before, machine.now = machine.now, 10_000.0
    model = machine.run("none", unlabelled=[folder])
    assert len(model.spec.training["unlabelled"]["images"]) == 4
    assert model.spec.training["unlabelled"]["left_out"] == 5
    assert before + machine.now - 10_000.0 <= 60.0
    assert any("there was no time to read it" in one.message for one in machine.said)
    shutil.rmtree(machine.folder / "run")
    machine.now = 0.0
    model = machine.run("none", unlabelled=[folder], should_stop=lambda: machine.now > 5.0)
    assert len(model.spec.training["unlabelled"]["images"]) == 2


def test_stop_and_keep_ends_soon_and_a_second_stop_at_once(machine: Machine) -> None:
    machine.step_s = 0.2
    model = machine.run("loo", should_stop=lambda: machine.steps() >= 100)
    assert 108 <= model.spec.training["steps"] <= 113
    assert model.spec.training["stopped_early"]
    assert "validation" not in model.spec.metrics


def test_a_second_stop_ends_at_once(machine: Machine) -> None:
    machine.step_s = 0.2
    stop, end = (lambda: machine.steps() >= 100), (lambda: machine.steps() >= 103)
    model = machine.run("none", should_stop=stop, should_end=end)
    assert model.spec.training["steps"] == 104
