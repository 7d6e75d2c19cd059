"""Training that ends early leaves the best weights, and a model that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import Cancelled
from MAESegmentLib.images.labels import Label
from MAESegmentLib.networks import NnFormer
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop.loop import train
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks.segmentation import SegmentationTask
from Testing.bundles import save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import prepared_case, write_dataset
from Testing.stopping import once_at

PATCH = (16, 16, 16)
SETTINGS = FineTuneSettings(
    steps=20, checkpoint_every=4, validate_every=2, log_every=1, device="cpu", precision="fp32", threads=1
)


class Scripted(SegmentationTask):
    """Trains for real, but what its validations say is written down."""

    scores: tuple[float, ...] = ()

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:  # noqa: ARG002
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"score": self.scores[len(self.seen) - 1]}

    @classmethod
    def saying(cls, *scores: float) -> Scripted:
        torch.manual_seed(0)
        cases = [prepared_case(f"case{n}", seed=n) for n in range(2)]
        task = cls(NnFormer(tiny_network_config()), cases, cases, ("one", "two"), PATCH, SETTINGS, identity="test")
        task.scores = scores
        task.seen = []
        return task

    seen: list[dict[str, torch.Tensor]]


def test_a_run_that_is_stopped_leaves_the_best_weights_so_far(tmp_path: Path) -> None:
    task = Scripted.saying(0.3, 0.8, 0.5, 0.4)
    report, should_stop = once_at(6)
    trained = train(task, SETTINGS, tmp_path, RunContext(report, should_stop=should_stop))
    assert trained.stopped
    assert trained.is_best
    assert (trained.step, trained.best_step, trained.score) == (7, 4, 0.8)
    assert all(torch.equal(value, task.seen[1][name]) for name, value in trained.weights.items())


def test_a_run_that_was_stopped_does_not_go_on_when_it_is_started_again(tmp_path: Path) -> None:
    report, should_stop = once_at(2)
    first = train(Scripted.saying(0.3, 0.8), SETTINGS, tmp_path, RunContext(report, should_stop=should_stop))
    again = train(Scripted.saying(), SETTINGS, tmp_path, RunContext(should_stop=lambda: False))
    assert again.step == first.step == 3
    assert again.stopped
    assert all(torch.equal(value, again.weights[name]) for name, value in first.weights.items())


def test_a_run_that_does_not_get_better_ends_by_itself(tmp_path: Path) -> None:
    trained = train(Scripted.saying(0.3, 0.5, 0.5, 0.4, 0.9), SETTINGS, tmp_path, patience=2)
    assert (trained.step, trained.best_step, trained.stopped) == (8, 4, True)


def test_a_resumed_run_remembers_the_best_weights_of_before(tmp_path: Path) -> None:
    before = Scripted.saying(0.3, 0.8)
    report, should_cancel = once_at(5)
    with pytest.raises(Cancelled):
        train(before, SETTINGS, tmp_path, RunContext(report, should_cancel), keep_best=True, patience=4)
    resumed = Scripted.saying(0.5, 0.6, 0.7, 0.75)
    trained = train(resumed, SETTINGS, tmp_path, keep_best=True, patience=4)
    assert (trained.step, trained.best_step, trained.score, trained.is_best) == (12, 4, 0.8, True)
    assert all(torch.equal(value, before.seen[1][name]) for name, value in trained.weights.items())


def test_without_anything_to_choose_by_the_last_weights_are_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cases = [prepared_case("case0")]
    task = SegmentationTask(NnFormer(tiny_network_config()), cases, [], ("one", "two"), PATCH, SETTINGS, identity="t")
    report, should_stop = once_at(3)
    trained = train(task, SETTINGS, tmp_path, RunContext(report, should_stop=should_stop))
    assert trained.stopped
    assert not trained.is_best


@pytest.fixture
def base(tmp_path: Path) -> Bundle:
    return save_tiny(tmp_path / "base")


def test_a_stopped_fine_tuning_says_that_its_figures_are_indicative_only(tmp_path: Path, base: Bundle) -> None:
    dataset = load_dataset(write_dataset(tmp_path / "data"))
    report, should_stop = once_at(2)
    child = finetune(
        dataset,
        base,
        tmp_path / "run",
        SETTINGS,
        validation="case_2",
        context=RunContext(report, should_stop=should_stop),
    )
    assert child.spec.training["stopped_early"]
    assert child.spec.training["best_step"] in (2, 3)
    assert child.spec.metrics["validation"]["indicative_only"]


def test_stopping_amid_leave_one_out_keeps_the_model_and_counts_the_folds(tmp_path: Path, base: Bundle) -> None:
    dataset = load_dataset(write_dataset(tmp_path / "data"))
    folds: set[int] = set()

    def report(progress: Progress) -> None:
        if progress.fold:
            folds.add(progress.fold[0])

    settings = replace(SETTINGS, steps=2)
    child = finetune(
        dataset,
        base,
        tmp_path / "run",
        settings,
        validation="loo",
        context=RunContext(report, should_stop=lambda: 2 in folds),
    )
    measured = child.spec.metrics["validation"]
    assert measured["held_out"] == "leave-one-out, 1 of 3"
    assert measured["cases"] == 1
    assert not child.spec.training["stopped_early"]


def test_the_base_is_measured_before_training_on_the_cases_it_is_compared_on(tmp_path: Path) -> None:
    dataset = load_dataset(write_dataset(tmp_path / "data"))
    stages: list[str] = []
    child = finetune(
        dataset,
        save_tiny(tmp_path / "named", tiny_spec(labels=(Label(1, "front"), Label(2, "back")))),
        tmp_path / "run",
        replace(SETTINGS, steps=2),
        validation="case_2",
        context=RunContext(lambda progress: stages.append(progress.stage)),
    )
    assert stages.index("before") < stages.index("train")
    row = child.spec.metrics["validation"]["per_case"][0]
    assert set(row) == {"image", "dice_before", "dice_after"}
    assert row["image"] in {case["image"] for case in child.spec.training["held_out_cases"]}
