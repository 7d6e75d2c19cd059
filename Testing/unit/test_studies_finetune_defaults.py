"""The study of defaults on phantoms: it continues where it was, joins results, and its report needs the CSV alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.errors import ConfigurationError
from model_training.studies.finetune_defaults.__main__ import HERE, engine
from model_training.studies.finetune_defaults.report import load_runs, write_report
from model_training.studies.finetune_defaults.scanner import OtherScanner
from model_training.studies.finetune_defaults.study import KEY, Scenario, read_study
from model_training.tables import merge_rows, read_rows
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset
from Testing.phantoms import LABELS

STUDY = """
[settings]
learning_rate = 1e-3
steps = 2
layer_decay = 0.8
augmentation = "default"
foreground_fraction = 0.5
ema_decay = 0.9
drop_path = 0.1
batch_size = 1
warmup = 0.0
initial_weights = "pretrained"

[[scenario]]
name = "phantoms"
title = "Phantoms"
data = "data"
base = "tiny-mr"
training = 0
check = [2, 3]
test = [3, 4]
cases = 2
evaluate_every = 1
scanner = { gamma = 2.0, noise = 0.05 }
runs = [{}, { learning_rate = 1e-2 }, { cases = 1, augmentation = "none" }]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four phantoms and a model that knows their labels."""
    root = tmp_path_factory.mktemp("study")
    write_dataset(root / "data", 4, splits={"pool": [f"case_{n}" for n in range(4)]})
    save_tiny(root / "models" / "tiny-mr" / "1.0.0", tiny_spec(labels=LABELS))
    (root / "study.toml").write_text(STUDY)
    return root


@pytest.fixture(scope="module")
def scenario(root: Path) -> Scenario:
    return read_study(root / "study.toml")[0]


@pytest.fixture(scope="module")
def models(root: Path) -> ModelStore:
    return ModelStore(root / "models", shipped_folder=root / "none")


@pytest.fixture(scope="module")
def results(root: Path, scenario: Scenario, models: ModelStore) -> Path:
    """All runs, the last two in a second go."""
    path = root / "out" / "results.csv"
    assert engine(models).do_missing((scenario,), root, root / "work", path, only="centre") == 1
    assert engine(models).do_missing((scenario,), root, root / "work", path) == 2
    return path


def test_finished_runs_are_not_done_again(root: Path, scenario: Scenario, models: ModelStore, results: Path) -> None:
    before = results.read_bytes()
    assert engine(models).do_missing((scenario,), root, root / "work", results) == 0
    assert results.read_bytes() == before


def test_every_part_is_measured_before_along_and_after(results: Path) -> None:
    rows = [row for row in read_rows(results) if row["run"] == "n=2 seed=0 centre"]
    measured = {(row["step"], row["weights"], row["part"]) for row in rows}
    parts = ("check", "test", "unchanged")
    averaged = {(step, "average", part) for step in ("0", "1", "2") for part in parts}
    assert measured == averaged | {("2", "last", part) for part in parts}
    assert {row["label"] for row in rows} == {"front", "back"}


def test_a_run_starts_from_the_model_as_it_was_before_the_others(results: Path) -> None:
    before = {run.name: run.mean(0) for run in load_runs(results)}
    assert len(before) == 3
    assert len(set(before.values())) == 1


def test_results_of_two_machines_are_joined_run_by_run(results: Path, tmp_path: Path) -> None:
    own, (head, *lines) = tmp_path / "own.csv", results.read_text().splitlines(keepends=True)
    own.write_text("".join([head, *(line for line in lines if "centre" in line)]))
    joined = merge_rows([own, results], KEY)
    assert sorted(map(str, joined)) == sorted(map(str, read_rows(results)))


def test_report_changes_only_the_marked_parts_of_the_readme(scenario: Scenario, results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("Words.\n<!-- runs phantoms -->\nold\n<!-- end -->\nMore words.\n")
    write_report((scenario,), results, tmp_path)
    text = readme.read_text()
    assert text.startswith("Words.\n<!-- runs phantoms -->\n| changed | cases | steps | before | Dice | front | back |")
    assert text.endswith("<!-- end -->\nMore words.\n")
    assert "old" not in text
    assert "| learning_rate 0.01 | 2 | 2 |" in text
    assert "| augmentation none | 1 | 2 |" in text
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("check = [2, 3]", "check = [1, 3]", "learns from cases that it also measures on"),
        ("learning_rate = 1e-2", "learning_rat = 1e-2", "not a factor of the study"),
        ("{ learning_rate = 1e-2 }", "{}", "names a run twice"),
    ],
)
def test_a_study_that_would_mislead_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace(old, new))
    with pytest.raises(ConfigurationError, match=said):
        read_study(tmp_path / "study.toml")


def test_the_other_scanner_changes_grey_values_the_same_way_each_time() -> None:
    image = np.random.default_rng(0).normal(500.0, 100.0, (6, 7, 8))
    scanner = OtherScanner(gamma=2.0, shading=(0.5, 0.0, 0.0), blur=(0.5, 0.0, 0.0), noise=0.05)
    np.testing.assert_array_equal(scanner.apply(image, 3), scanner.apply(image, 3))
    assert np.abs(scanner.apply(image, 3) - scanner.apply(image, 4)).max() > 1
    np.testing.assert_allclose(scanner.apply(10 * image + 5, 3), scanner.apply(image, 3), atol=1e-2)


def test_the_committed_study_passes_these_checks() -> None:
    assert {scenario.data for scenario in read_study(HERE / "study.toml")} == {
        "hippocampus_mr",
        "headneck_ct",
        "cardiac_mr",
    }
