"""The study of the recipe on phantoms: equal time for all, finished runs are skipped, tables from the CSV alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.training.settings import FineTuneSettings
from model_training.studies.recipe.__main__ import HERE, engine, finished
from model_training.studies.recipe.report import write_report
from model_training.studies.recipe.study import read_study
from model_training.tables import read_rows
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset
from Testing.phantoms import LABELS

STUDY = """
base = "tiny-mr"
spacing = [1.0, 1.0, 1.0]
patch = [16, 16, 16]

[tasks.phantoms]
data = "data"
learn = ["case_0", "case_1"]
test = ["case_2"]
[tasks.phantoms.structures]
both = ["front", "back"]

[centre]
learning_rate = 1e-3
foreground = true

[arms]
"plain nnformer" = { plain = "nnformer" }
"centre" = {}
"gentle" = { learning_rate = 1e-4 }

[[runs]]
seeds = [0]
budget = 0.5
arms = ["plain nnformer", "gentle"]
tasks = ["phantoms"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of three phantoms, a model that knows their labels, and a study of both."""
    write_dataset(tmp_path / "data", 3)
    save_tiny(tmp_path / "models" / "tiny-mr" / "1.0.0", tiny_spec(labels=LABELS))
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def test_both_loops_are_measured_within_the_budget_and_reported(root: Path) -> None:
    study, results = read_study(root / "study.toml"), root / "results.csv"
    runs = engine(ModelStore(root / "models", shipped_folder=root / "none"))
    assert runs.do_missing(study, root, root / "work", results, only="gentle") == 1
    assert [run.arm.name for run in runs.missing(study, results)] == ["plain nnformer"]
    assert runs.do_missing(study, root, root / "work", results) == 1
    assert finished(results) == {run.name for run in study.runs}
    rows = read_rows(results)
    assert [row["structure"] for row in rows] == ["both", "mean"] * 2
    assert all(0 <= float(row["dice"]) <= 1 and int(row["steps"]) >= 1 for row in rows)
    readme = root / "README.md"
    readme.write_text("<!-- results phantoms -->\n<!-- end -->\n<!-- missing -->\n<!-- end -->\n")
    write_report(study, results, root)
    assert "| gentle | 0.5 |" in readme.read_text()
    assert "0 of 2 runs are missing" in readme.read_text()


def test_an_arm_spells_out_what_it_does_whatever_the_defaults_are(root: Path) -> None:
    study = read_study(root / "study.toml")
    assert dict(study.runs[1].arm.settings) == {"learning_rate": 1e-4, "foreground": True}


@pytest.mark.parametrize(
    ("before", "after"),
    [('test = ["case_2"]', 'test = ["case_1"]'), ('plain = "nnformer"', 'plain = "unknown"')],
    ids=["tested on what is learnt from", "unknown network"],
)
def test_a_study_that_cannot_be_fair_is_refused(root: Path, before: str, after: str) -> None:
    (root / "study.toml").write_text(STUDY.replace(before, after))
    with pytest.raises(ConfigurationError):
        read_study(root / "study.toml")


def test_every_run_of_the_study_has_settings_that_exist_and_a_line_of_its_own() -> None:
    study = read_study(HERE / "study.toml")
    for run in study.runs:
        if run.arm.network is None:
            FineTuneSettings.from_dict(dict(run.arm.settings))
    assert len({run.name for run in study.runs}) == len(study.runs)
    assert replace(study.runs[0], budget=120.0).name.endswith("120 s")


def test_results_belong_to_runs_of_the_study() -> None:
    known = {run.name for run in read_study(HERE / "study.toml").runs}
    assert finished(HERE / "results.csv") <= known
