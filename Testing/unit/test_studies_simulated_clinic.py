"""The simulated clinic on phantoms: each run once, figures on the scan's grid, a report from the CSV files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from model_training.studies.simulated_clinic.__main__ import HERE, engine
from model_training.studies.simulated_clinic.clinic import Clinic, read_clinic
from model_training.studies.simulated_clinic.report import write_report
from model_training.tables import read_rows
from Testing.bundles import save_tiny
from Testing.datasets import write_dataset

CLINIC = """
data = "data"
base = "tiny-mr"
labels = ["front", "back"]
split = "validation"
runs = [{ cases = 2 }, { cases = 1, initial_weights = "random" }]

[settings]
initial_weights = "autoencoder"
steps = 2
batch_size = 1
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clinic")
    write_dataset(root / "data", 4, splits={"pool": ["case_0", "case_1"], "validation": ["case_2", "case_3"]})
    save_tiny(root / "models" / "tiny-mr" / "1.0.0")
    (root / "clinic.toml").write_text(CLINIC)
    return root


@pytest.fixture(scope="module")
def clinic(root: Path) -> Clinic:
    return read_clinic(root / "clinic.toml")


@pytest.fixture(scope="module")
def out(root: Path, clinic: Clinic) -> Path:
    runs = engine(ModelStore(root / "models", shipped_folder=root / "none"))
    assert runs.do_missing(clinic, root, root / "work", root / "out") == 2
    assert runs.do_missing(clinic, root, root / "work", root / "out") == 0
    return root / "out"


def test_each_run_is_measured_on_every_case_of_the_split(out: Path) -> None:
    measured = [(row["run"], row["case"], row["label"]) for row in read_rows(out / "metrics.csv")]
    runs = ("2-autoencoder-2-0", "1-random-2-0")
    assert measured == [
        (run, case, label) for run in runs for case in ("case_2", "case_3") for label in ("front", "back")
    ]


def test_runs_say_how_they_were_made_and_how_long_training_took(out: Path) -> None:
    first, second = read_rows(out / "runs.csv")
    assert (first["cases"], first["initial_weights"], first["steps"], first["device"]) == (
        "2",
        "autoencoder",
        "2",
        "cpu",
    )
    assert (second["cases"], second["initial_weights"]) == ("1", "random")


def test_report_is_made_again_from_the_files_alone(clinic: Clinic, out: Path, tmp_path: Path) -> None:
    for name in ("runs.csv", "metrics.csv"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    (tmp_path / "README.md").write_text("Words.\n<!-- dice -->\nold\n<!-- end -->\nMore.\n")
    write_report(clinic, tmp_path, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("Words.\n<!-- dice -->\n| cases | start | steps |")
    assert text.endswith("<!-- end -->\nMore.\n")
    assert "| 2 | pretrained encoder | 2 | 0 |" in text
    assert "| 1 | from scratch | 2 | 0 |" in text
    assert (tmp_path / "dice.png").read_bytes().startswith(b"\x89PNG")


def test_the_committed_clinic_learns_no_organ_that_its_settings_were_chosen_on() -> None:
    clinic = read_clinic(HERE / "clinic.toml")
    rows = read_rows(HERE.parent / "finetune_defaults" / "results.csv")
    chosen_on = {row["label"] for row in rows if row["scenario"].startswith("ct-")}
    assert chosen_on
    assert not chosen_on & set(clinic.labels)
