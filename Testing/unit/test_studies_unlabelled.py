"""The study of scans without labels on phantoms: which scans an arm gets, equal time for all, tables from the CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.training.settings import FineTuneSettings
from model_training.studies.recipe.study import read_study
from model_training.studies.recipe.tasks import scans_of
from model_training.studies.unlabelled.__main__ import HERE, engine, finished
from model_training.tables import read_rows
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset
from Testing.phantoms import LABELS

STUDY = """
[tasks.phantoms]
data = "data"
base = "tiny-mr"
learn = ["pool:1"]
test = ["pool:1:2"]
scans = ["pool", "unlabelled"]
structures = { both = ["front", "back"] }

[centre]
initial_weights = "autoencoder"

[arms]
"plain" = {}
"masked" = { unlabelled_method = "masked", unlabelled_ramp = 0.0 }

[[runs]]
seeds = [0]
budget = 0.5
arms = ["plain", "masked"]
tasks = ["phantoms"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", 4, splits={"pool": ["case_0", "case_1", "case_2"], "validation": ["case_3"]})
    (write_dataset(tmp_path / "more", 6) / "images").rename(tmp_path / "data" / "unlabelled")
    for known in range(4):
        (tmp_path / "data" / "unlabelled" / f"case_{known}.nii.gz").unlink()
    save_tiny(tmp_path / "models" / "tiny-mr" / "1.0.0", tiny_spec(labels=LABELS))
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def test_scans_are_those_that_are_neither_learnt_from_nor_tested_on(root: Path) -> None:
    task = read_study(root / "study.toml").runs[0].task
    assert [path.name for path in scans_of(task, root)] == ["case_2.nii.gz", "case_4.nii.gz", "case_5.nii.gz"]


def test_an_arm_with_scans_is_measured_beside_one_without(root: Path) -> None:
    study, results = read_study(root / "study.toml"), root / "results.csv"
    runs = engine(ModelStore(root / "models", shipped_folder=root / "none"))
    assert runs.do_missing(study, root, root / "work", results) == 2
    assert finished(results) == {run.name for run in study.runs}
    assert [row["arm"] for row in read_rows(results)] == ["plain", "plain", "masked", "masked"]


def test_a_validation_case_is_no_scan_to_learn_from(root: Path) -> None:
    (root / "study.toml").write_text(STUDY.replace('scans = ["pool",', 'scans = ["validation",'))
    with pytest.raises(ConfigurationError, match="validation"):
        read_study(root / "study.toml")


def test_every_run_of_the_study_has_settings_that_exist_and_a_line_of_its_own() -> None:
    study = read_study(HERE / "study.toml")
    for run in study.runs:
        FineTuneSettings.from_dict(dict(run.arm.settings))
    assert len({run.name for run in study.runs}) == len(study.runs)
    assert finished(HERE / "results.csv") <= {run.name for run in study.runs}
