"""Ladders of ever longer trainings end by the check cases alone; the report says from where pretraining pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from MAESegmentLib.networks import MaskedAutoencoder
from model_training.studies.data_efficiency.result_files import (
    CHECK_GRID,
    METRICS,
    PRETEXTS,
    RUNS,
    append_rows,
    finished_runs,
)
from model_training.studies.data_efficiency.training import new_network, run_settings
from model_training.studies.saturation.__main__ import HERE, engine
from model_training.studies.saturation.report import ahead_from, write_report
from model_training.studies.saturation.study import Ends, Ladder, Study, read_study
from Testing.study_results import final_row, run_row

SCRATCH = Ladder("hippocampus_mr", "scratch", 4, (0, 1, 2))
MAE = replace(SCRATCH, arm="mae")


@pytest.fixture
def study() -> Study:
    return read_study(HERE / "study.toml")


def write(folder: Path, ladder: Ladder, check: dict[int, float], validation: dict[int, float] | None = None) -> None:
    """Dice by rung, the same for every seed, case and structure."""
    for steps, dice in check.items():
        for run in ladder.rung(steps):
            final = {**final_row(run.name, "case", "anterior", (validation or check)[steps]), "step": steps}
            rows = [final, {**final, "grid": CHECK_GRID, "case": "check case", "dice": dice}]
            append_rows(folder / METRICS, rows)
            pretext = {"pretext_steps": 20000, "pretext_flops": 8e13} if ladder.arm != "scratch" else {}
            append_rows(folder / RUNS, [run_row(run.name, flops=4e9 * steps, steps=steps, **pretext)])


def test_a_ladder_ends_at_the_first_rung_that_brings_too_little(study: Study, tmp_path: Path) -> None:
    write(tmp_path, SCRATCH, {500: 0.6, 1000: 0.7, 2000: 0.704}, {500: 0.6, 1000: 0.5, 2000: 0.9})
    write(tmp_path, MAE, {500: 0.6, 1000: 0.7, 2000: 0.71})
    ends = Ends(study, tmp_path)
    assert ends.end(SCRATCH) == 2000, "whatever validation says"
    assert ends.end(MAE) is None
    assert {run.name for run in SCRATCH.rung(4000)} <= ends.needless()
    missing = [run.name for run in engine().missing(study, tmp_path)]
    assert missing[:3] == [run.name for run in MAE.rung(4000)]


def test_a_rung_says_nothing_before_all_its_seeds(study: Study, tmp_path: Path) -> None:
    write(tmp_path, SCRATCH, {500: 0.7, 1000: 0.7})
    lines = (tmp_path / RUNS).read_text().splitlines()
    (tmp_path / RUNS).write_text("\n".join(line for line in lines if "@1000/n4/s2" not in line) + "\n")
    assert Ends(study, tmp_path).end(SCRATCH) is None
    assert f"{SCRATCH.rung(1000)[2].name}" in [run.name for run in engine().missing(study, tmp_path)]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([(5.0, 0.9)], 5.0),
        ([(5.0, 0.7)], None),
        ([(1.5, 0.65), (5.0, 0.9)], 5.0),
        ([(2.0, 0.95)], 2.0),
    ],
    ids=["once it is paid for", "behind at the end", "ahead, behind, ahead", "as soon as it begins"],
)
def test_where_one_curve_is_ahead_for_good(own: list[tuple[float, float]], expected: float | None) -> None:
    assert ahead_from(own, [(1.0, 0.6), (2.0, 0.7), (4.0, 0.8)]) == expected


def test_the_report_counts_the_pretraining_by_the_tasks_that_share_it(study: Study, tmp_path: Path) -> None:
    write(tmp_path, SCRATCH, {500: 0.6, 1000: 0.7, 2000: 0.702})
    write(tmp_path, MAE, {500: 0.7, 1000: 0.8, 2000: 0.8})
    pretext = {"pretraining": "long/hippocampus_mr/mae", "scale": "long", "dataset": "hippocampus_mr", "images": 290}
    append_rows(tmp_path / PRETEXTS, [pretext])
    write_report(study, tmp_path, tmp_path)
    page = (tmp_path / "README.md").read_text()
    said = (
        "**Hippocampus, T1 MR, 4 labels**: `mae` 0.800 after 2,000 steps and `scratch` 0.702 after 2,000 steps: +0.098"
    )
    assert said in page
    # 80 TFLOP of pretraining for 1, 3 and 10 tasks, and the 4 of the rung that is ahead.
    assert "| Hippocampus, T1 MR, 4 labels | mae | 84.0 | 30.7 | 12.0 |" in page
    assert "| 8.0 | 80.0 | 290 | the end |" in page
    assert (tmp_path / "curves.png").is_file()


def test_every_arm_is_trained_as_its_rung_says_and_searched_alike(study: Study) -> None:
    assert len({run.name for run in study.runs}) == len(study.runs)
    for run in study.runs:
        plan, arm = study.inner.plan(run.scale, run.dataset), study.inner.arm(run.arm)
        assert run_settings(study.inner, plan, arm, run, 1e-3).steps == int(run.arm.partition("@")[2])
        assert {search.arm for search in study.inner.search_runs(run)} == {arm.recipe}
        assert plan.checked
        assert "validation" not in plan.check
        assert plan.pretraining.steps >= 20_000


def test_the_plans_of_every_data_set_make_networks_that_take_their_patches(study: Study) -> None:
    for plan in study.inner.plans:
        image = torch.zeros(1, 1, *plan.preprocessing.patch_size)
        with torch.no_grad():
            network = new_network(plan, study.inner.arm("scratch"), plan.network.out_channels, 0, None).eval()
            assert network(image).shape[2:] == image.shape[2:]
            MaskedAutoencoder(plan.autoencoder).eval()(image)


def test_results_belong_to_runs_of_the_study(study: Study) -> None:
    known = {run.name for run in study.runs}
    assert {name for name in finished_runs(HERE / "results") if "/lr" not in name} <= known
