"""The study of starts on phantoms: what is pretrained never sees what the task learns, and is made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.images.reading import read_label_map
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks.segmentation import SegmentationTask
from model_training.studies.recipe.tasks import write_cases
from model_training.studies.starts.__main__ import HERE, engine, finished
from model_training.studies.starts.report import write_report
from model_training.studies.starts.starting import start_of
from model_training.studies.starts.study import read_study
from model_training.tables import read_rows
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset

STUDY = """
[tasks.phantoms]
base = "tiny-mr"
data = "data"
learn = ["case_0"]
test = ["case_1"]
structures = { "new" = ["back"] }

[centre]
learning_rate = 1e-3

[step]
tiny-mr = 0.1

[shipped]
tiny-mr = { autoencoder = 10 }

[pretrainings.others]
data = "data"
cases = "case_0,case_2"
seconds = 0.5

[pretrainings.drawn]
data = "maps"
drawn = true
seconds = 0.5
settings = { synthesis = {} }

[starts]
"MAE" = { weights = "autoencoder" }
"MAE, others" = { weights = "autoencoder", pretraining = "others" }
"drawn" = { weights = "random", pretraining = "drawn" }
"mean outputs" = { weights = "pretrained", mean_outputs = true }
"new decoder" = { weights = "pretrained", decoder = false }

[[runs]]
seeds = [0]
budgets = [0.5]
starts = ["MAE, others", "MAE", "drawn", "mean outputs", "new decoder"]
tasks = ["phantoms"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of three phantoms, a model of other structures, label maps, and a study of them."""
    write_dataset(tmp_path / "data", 3)
    maps = write_dataset(tmp_path / "drawable", 2) / "labels"
    maps.rename(tmp_path / "maps")
    (tmp_path / "maps" / "labels.json").write_text('{"labels": {"background": 0, "front": 1, "back": 2}}')
    save_tiny(tmp_path / "models" / "tiny-mr" / "1.0.0", tiny_spec())
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def models(root: Path) -> ModelStore:
    return ModelStore(root / "models", shipped_folder=root / "none")


def started(root: Path, name: str) -> tuple[Bundle, str]:
    study = read_study(root / "study.toml")
    run = next(run for run in study.runs if run.start.name == name)
    return start_of(study, run, root, root / "work", models(root).find("tiny-mr"))


def test_every_start_is_measured_and_reported_with_what_it_cost(root: Path) -> None:
    study, results, readme = read_study(root / "study.toml"), root / "results.csv", root / "README.md"
    assert engine(models(root)).do_missing(study, root, root / "work", results) == 5
    assert finished(results) == {run.name for run in study.runs}
    rows = read_rows(results)
    assert [(row["structure"], row["steps"]) for row in rows] == [("new", "5"), ("mean", "5")] * 5
    readme.write_text("<!-- results phantoms -->\n<!-- end -->\n<!-- missing -->\n<!-- end -->\n")
    write_report(study, results, root)
    assert "| MAE, others | 10 | 0.5 | 0.5 | 11 |" in readme.read_text()
    assert "0 of 5 runs are missing" in readme.read_text()
    assert not list((root / "work" / "runs").iterdir())


def test_the_task_s_structure_is_not_annotated_where_others_are_learnt(root: Path) -> None:
    source = load_dataset(root / "data")
    write_cases(source, root / "without", {"front": ("front",)}, {"learn": ["case_0"]}, ["back"])
    written = load_dataset(root / "without")
    given, label = read_label_map(root / "data" / "labels" / "case_0.nii.gz").array, written.cases[0].label
    assert label is not None
    array = read_label_map(label).array
    assert written.labels == {"front": 1}
    np.testing.assert_array_equal(array == written.ignore, given == 2)
    np.testing.assert_array_equal(array == 1, given == 1)


def test_a_killed_run_goes_on_where_it_was_in_what_is_pretrained_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, results = read_study(root / "study.toml"), root / "results.csv"
    losses, loss = 0, SegmentationTask.loss

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal losses
        losses += 1
        if losses in (4, 9):  # in the pretraining, then in the task
            raise KeyboardInterrupt
        return loss(*arguments, **options)

    monkeypatch.setattr(SegmentationTask, "loss", counted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            engine(models(root)).do_missing(study, root, root / "work", results, only="MAE, others")
        assert not finished(results)
    engine(models(root)).do_missing(study, root, root / "work", results, only="MAE, others")
    assert len(finished(results)) == 1
    assert losses == 5 + 5 + 2


def test_what_was_pretrained_is_found_again(root: Path) -> None:
    first, weights = started(root, "MAE, others")
    assert [label.name for label in first.labels] == ["front"]
    assert weights == "pretrained"
    again, _ = started(root, "MAE, others")
    assert again.content_hash == first.content_hash


def test_a_pretraining_that_sees_a_test_case_is_refused(root: Path) -> None:
    (root / "study.toml").write_text(STUDY.replace("case_0,case_2", "case_0,case_1"))
    with pytest.raises(ConfigurationError, match="case_1"):
        started(root, "MAE, others")


def test_outputs_begin_as_the_mean_of_what_was_learnt_and_a_new_decoder_as_nothing(root: Path) -> None:
    old = models(root).find("tiny-mr").load_network().state_dict()
    mean = started(root, "mean outputs")[0].load_network().state_dict()
    bias = old["heads.0.bias"]
    torch.testing.assert_close(mean["heads.0.bias"], torch.stack([bias[0], bias[1:].mean()]))
    new = started(root, "new decoder")[0].load_network().state_dict()
    for key, value in new.items():
        if value.ndim > 1:
            assert torch.equal(value, old[key]) == key.startswith("encoder."), key
            assert torch.equal(mean[key], old[key]) == (not key.startswith("heads.")), key


@pytest.mark.parametrize(
    "entry",
    ['{ weights = "official" }', '{ weights = "autoencoder", decoder = false }', '{ weights = "random", rate = 1 }'],
    ids=["unknown weights", "no decoder to leave out", "unknown entry"],
)
def test_a_start_that_says_nothing_sensible_is_refused(root: Path, entry: str) -> None:
    (root / "study.toml").write_text(STUDY.replace('"MAE" = { weights = "autoencoder" }', f'"MAE" = {entry}'))
    with pytest.raises(ConfigurationError):
        read_study(root / "study.toml")


def test_every_run_of_the_study_has_settings_that_exist_and_a_line_of_its_own() -> None:
    study = read_study(HERE / "study.toml")
    for run in study.runs:
        before = run.start.pretraining.settings if run.start.pretraining else {}
        for settings in (before, run.start.settings):
            FineTuneSettings.from_dict({**study.centre, **settings})
    assert len({run.name for run in study.runs}) == len(study.runs)


def test_results_belong_to_runs_of_the_study() -> None:
    known = {run.name for run in read_study(HERE / "study.toml").runs}
    assert finished(HERE / "results.csv") <= known
