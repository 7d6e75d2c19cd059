"""What a user would do instead: the report from a small result file, what is missing, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.training.settings import FineTuneSettings
from model_training.studies.data_efficiency.result_files import METRICS, RUNS
from model_training.studies.data_efficiency.result_files import append_rows as append_results
from model_training.studies.instead.__main__ import HERE, engine
from model_training.studies.instead.report import (
    COLUMNS,
    RECIPE,
    SAME_ARMS,
    SAME_TASKS,
    finished,
    nnunet,
    taken,
    write_report,
)
from model_training.studies.recipe.study import Study, read_study
from model_training.tables import append_rows, read_rows
from Testing.bundles import save_tiny, tiny_spec
from Testing.datasets import write_dataset
from Testing.phantoms import LABELS
from Testing.study_results import final_row, run_row

TASK = "hippocampus, 4 cases"
OURS, OTHER = "ours, its MAE encoder", "SegResNet"


@pytest.fixture
def study() -> Study:
    return read_study(HERE / "study.toml")


def rows(arm: str, seed: int, dice: float, cases: str = "test") -> list[dict[str, object]]:
    values = {"task": TASK, "arm": arm, "seed": seed, "budget": 150, "cases": cases, "steps": 300, "seconds": 150}
    return [
        {**values, "case": f"case {n}", "structure": name, "dice": dice + 0.01 * n}
        for n in range(3)
        for name in ("anterior", "posterior")
    ]


def report(study: Study, folder: Path) -> str:
    (folder / "README.md").write_text((HERE / "README.md").read_text())
    write_report(study, folder / "results.csv", folder)
    return (folder / "README.md").read_text()


def test_the_report_says_who_is_ahead_and_by_how_much(study: Study, tmp_path: Path) -> None:
    for arm, dice in ((OURS, 0.8), (OTHER, 0.7)):
        for seed in (0, 1):
            append_rows(tmp_path / "results.csv", COLUMNS, rows(arm, seed, dice))
    page = report(study, tmp_path)
    ahead = "+0.100 [+0.100, +0.100]"
    assert f"{TASK}, 2.5 min** (pool, 2 seeds): {OURS} 0.810; {OTHER} 0.710 ({ahead})" in page
    assert f"| 150 | {OTHER} | **0.710** [0.700, 0.720] | 0.710, 0.710 | {ahead} | 0.710 | 0.710 | 300, 300 |" in page
    assert f'$RUN --only "{TASK}, *seed ?, 150 s"  # 11 runs' in page, "seven or four arms; four are there"


def test_final_cases_have_a_table_of_their_own(study: Study, tmp_path: Path) -> None:
    append_rows(tmp_path / "results.csv", COLUMNS, [*rows(OURS, 0, 0.8), *rows(OTHER, 0, 0.7)])
    final = [{**row, "budget": 600} for arm in (OURS, OTHER) for row in rows(arm, 0, 0.5, "final")]
    append_rows(tmp_path / "results.csv", COLUMNS, final)
    page = report(study, tmp_path)
    on_pool, on_validation = page.split("## Final results")
    for arm in (OURS, OTHER):  # of other tasks, runs of another study stand in the first table
        assert f"| 600 | {arm} |" not in on_pool
        assert f"| 600 | {arm} |" in on_validation
    assert f"{TASK}, 10 min** (validation, 1 seed)" in page
    assert f'$RUN --only "{TASK}, *seed ?, 600 s"  # 13 runs' in page, "measuring on validation is no run on the pool"
    assert f'$RUN --only "{TASK}, * on final cases, 600 s"  # 10 runs' in page


def test_what_the_recipe_study_has_done_is_not_done_again(study: Study) -> None:
    recipe = read_study(RECIPE / "study.toml")
    theirs = {run.task.name: run.task for run in recipe.runs}
    ours = {run.task.name: run.task for run in study.runs}
    for name, own in SAME_TASKS.items():
        # Learnt from, tested on and prepared alike; structures may be called otherwise, and the grid stands elsewhere.
        assert replace(ours[own], name=name, final=(), spacing=None) == theirs[name]
    settings = {run.arm.name: run.arm for run in (*recipe.runs, *study.runs)}
    for name, own in SAME_ARMS.items():
        for task in SAME_TASKS.values():
            assert replace(settings[own], name=name, spacing=ours[task].spacing) == settings[name]
    assert {row["task"] for row in taken()} <= set(SAME_TASKS.values())


def test_nnunet_stands_beside_the_ten_minutes_with_the_time_that_it_had(tmp_path: Path) -> None:
    name = "small/hippocampus_mr/nnunet/n4/s0"
    append_results(
        tmp_path / RUNS, [run_row(name, seconds=3900.0, steps=250), run_row("small/hippocampus_mr/mae/n4/s0")]
    )
    append_results(tmp_path / METRICS, [final_row(name, "case 1", "anterior", 0.85)])
    (row,) = nnunet(tmp_path)
    assert (row["task"], row["arm"], row["budget"], row["dice"]) == (TASK, "nnU-Net v2 in 65 min", "600", "0.85")


def test_the_words_of_a_group_find_its_missing_runs_and_no_others(study: Study, tmp_path: Path) -> None:
    page = report(study, tmp_path)
    commands = re.findall(r'--only "(.+)"  # (\d+) runs', page)
    found = [[run.name for run in engine().missing(study, tmp_path / "none.csv", words)] for words, _ in commands]
    assert [len(names) for names in found] == [int(count) for _, count in commands]
    assert sum(map(len, found)) == len(engine().missing(study, tmp_path / "none.csv"))


@pytest.mark.parametrize("part", ["learn", "test"])
def test_no_task_learns_from_or_chooses_by_validation(part: str, tmp_path: Path) -> None:
    text = (HERE / "study.toml").read_text()
    first = {"learn": '"pool:4"', "test": '"pool:8:48"'}[part]
    (tmp_path / "study.toml").write_text(text.replace(first, '"validation:4"', 1))
    with pytest.raises(ConfigurationError, match="validation"):
        read_study(tmp_path / "study.toml")


def test_a_run_is_final_only_where_the_task_has_final_cases(tmp_path: Path) -> None:
    text = (HERE / "study.toml").read_text()
    (tmp_path / "study.toml").write_text(text.replace('final = ["validation"]\n', ""))
    with pytest.raises(ConfigurationError, match="final"):
        read_study(tmp_path / "study.toml")


def test_a_run_is_measured_case_by_case_and_a_model_learns_nothing_that_it_knows(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 3)
    save_tiny(tmp_path / "models" / "tiny-mr" / "1.0.0", tiny_spec(labels=LABELS))
    (tmp_path / "study.toml").write_text(
        """
base = "tiny-mr"
spacing = [1.0, 1.0, 1.0]
patch = [16, 16, 16]
centre = {}
arms = { ours = {}, random = { initial_weights = "random", by_time = true }, DynUNet = { plain = "dynunet" } }
[tasks.phantoms]
data = "data"
learn = ["case_0"]
test = ["case_1"]
final = ["case_2"]
window = [0.0, 100.0]
structures = { front = ["front"] }
[[runs]]
seeds = [0]
budget = 0.5
arms = ["random", "DynUNet"]
tasks = ["phantoms"]
[[runs]]
seeds = [0]
budget = 0.5
arms = ["random"]
tasks = ["phantoms"]
final = true
[[runs]]
seeds = [0]
budget = 0.5
arms = ["ours"]
tasks = ["phantoms"]
"""
    )
    results = tmp_path / "results.csv"
    runs = engine(ModelStore(tmp_path / "models", shipped_folder=tmp_path / "none"))
    study = read_study(tmp_path / "study.toml")
    with pytest.raises(ConfigurationError, match="has learnt front"):
        runs.do_missing(study, tmp_path, tmp_path / "work", results)
    assert {(row["arm"], row["cases"], row["case"]) for row in read_rows(results)} == {
        ("random", "test", "case_1"),
        ("DynUNet", "test", "case_1"),
        ("random", "final", "case_2"),
    }
    assert [run.arm.name for run in runs.missing(study, results)] == ["ours"]


def test_every_run_has_settings_that_exist_and_results_belong_to_runs(study: Study) -> None:
    for run in study.runs:
        if run.arm.network is None:
            FineTuneSettings.from_dict(dict(run.arm.settings))
    assert not any(run.final for run in study.runs[: len(study.runs) // 2]), "reported on last"
    own = finished(HERE / "results.csv") - {
        f"{row['task']}, {row['arm']}, seed {row['seed']}, {row['budget']} s" for row in taken()
    }
    assert own <= {run.name for run in study.runs}
