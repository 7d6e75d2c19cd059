"""The study of augmentation on phantoms: each way to segment that a model has is measured; tables from the CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.training.settings import FineTuneSettings
from model_training.studies.augmentation.__main__ import HERE, engine, finished
from model_training.studies.augmentation.report import write_report
from model_training.studies.recipe.study import read_study
from model_training.tables import read_rows
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset
from Testing.phantoms import LABELS

STUDY = """
[tasks.phantoms]
data = "data"
base = "tiny-mr"
learn = ["case_0", "case_1"]
test = ["case_2"]
structures = { front = ["front"], back = ["back"] }

[centre]
initial_weights = "autoencoder"
learning_rate = 1e-3

[arms]
"as it ships" = {}
"mirrored" = { augmentation = { flip_axes = [0], elastic = 0.5, label_shares = true }, sides = [["front", "back"]] }

[[runs]]
seeds = [0]
budget = 0
arms = ["as it ships"]
tasks = ["phantoms"]

[[runs]]
seeds = [0]
budget = 0.5
arms = ["mirrored"]
tasks = ["phantoms"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", 3)
    spec = tiny_spec(labels=LABELS, inference={"mirroring": False, "mirror_axes": []})
    save_tiny(tmp_path / "models" / "tiny-mr" / "1.0.0", spec)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def test_a_model_is_measured_in_every_way_it_has_and_the_tables_say_so(root: Path) -> None:
    study, results = read_study(root / "study.toml"), root / "results.csv"
    runs = engine(ModelStore(root / "models", shipped_folder=root / "none"))
    assert runs.do_missing(study, root, root / "work", results) == 2
    assert finished(results) == {run.name for run in study.runs}
    means = {(row["arm"], row["averaging"]): row for row in read_rows(results) if row["structure"] == "mean"}
    assert list(means) == [
        *(("as it ships", way) for way in ("off", "shifted", "overlap 50 %")),
        *(("mirrored", way) for way in ("off", "mirrored", "shifted", "overlap 50 %")),
    ]
    assert means["as it ships", "off"]["steps"] == "0", "nothing was learnt"
    assert all(0 <= float(row["dice"]) <= 1 and float(row["seconds_a_case"]) > 0 for row in means.values())
    readme = root / "README.md"
    blocks = ("missing", "arms phantoms", "averaging phantoms")
    readme.write_text("".join(f"<!-- {name} -->\n<!-- end -->\n" for name in blocks))
    write_report(study, results, root)
    page = readme.read_text()
    assert "0 of 2 runs are missing" in page
    dice = f"{float(means['mirrored', 'off']['dice']):.3f}"
    assert f"| mirrored | 0.5 | {means['mirrored', 'off']['steps']} | {dice} |" in page
    assert f"| mirrored | 0.5 | 1 | {dice} (" in page


def test_every_run_of_the_study_has_settings_that_exist_and_results_belong_to_runs() -> None:
    study = read_study(HERE / "study.toml")
    for run in study.runs:
        FineTuneSettings.from_dict(dict(run.arm.settings))
    assert finished(HERE / "results.csv") <= {run.name for run in study.runs}
