"""The declared study: what study.toml says is what is run, by names that anyone can give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from MAESegmentLib.errors import ConfigurationError, DatasetError
from MAESegmentLib.networks.config import MaeConfig
from model_training.studies.data_efficiency.__main__ import HERE
from model_training.studies.data_efficiency.networks import build_network
from model_training.studies.data_efficiency.pretexts import PRETEXTS
from model_training.studies.data_efficiency.pretraining import pretraining_steps
from model_training.studies.data_efficiency.result_files import (
    METRICS,
    RUNS,
    append_rows,
    merge,
    read_rows,
)
from model_training.studies.data_efficiency.study import NNUNET, Run, Study, read_study
from model_training.studies.data_efficiency.training import ranked_rates, run_settings


@pytest.fixture(scope="module")
def study() -> Study:
    return read_study(HERE / "study.toml")


def test_every_run_is_found_by_its_name(study: Study) -> None:
    runs = study.runs()
    assert len({run.name for run in runs}) == len(runs) > 500
    for run in runs:
        assert study.run(run.name) == run
        for search in study.search_runs(run):
            assert study.run(search.name) == search


@pytest.mark.parametrize(
    "name", ["small/hippocampus_mr/mae/n4", "small/x/mae/n4/s0", "small/hippocampus_mr/mae/4/s0", ""]
)
def test_a_name_that_is_no_run_is_refused_with_what_to_write(study: Study, name: str) -> None:
    with pytest.raises(ConfigurationError):
        study.run(name)


def test_every_arm_can_be_made(study: Study) -> None:
    for arm in study.arms:
        if arm.pretext:
            assert set(arm.options) <= set(PRETEXTS[arm.pretext].options)
            for plan in study.plans:
                assert pretraining_steps(plan, arm) > 0
        elif arm.network not in ("nnformer", NNUNET):
            build_network(arm.network, 1, 3, study.plans[0].preprocessing.patch_size, "small")


def test_ablations_of_the_autoencoder_fit_the_networks_they_are_run_on(study: Study) -> None:
    for run in study.runs():
        arm, plan = study.arm(run.arm), study.plan(run.scale, run.dataset)
        if arm.pretext == "mae":
            MaeConfig.from_dict({**plan.autoencoder.to_dict(), **arm.options})


def test_matched_compute_gets_the_steps_of_pretraining_on_top(study: Study) -> None:
    plan = study.plan("small", "hippocampus_mr")
    equal, scratch = study.arm("scratch-equal"), study.arm("scratch")
    settings = [
        run_settings(study, plan, arm, study.run(f"small/hippocampus_mr/{arm.name}/n4/s1"), 2e-3)
        for arm in (scratch, equal)
    ]
    assert settings[1].steps == settings[0].steps + pretraining_steps(plan, study.arm("mae"))
    assert settings[0].seed == settings[1].seed == 1
    assert settings[1].layer_decay == settings[0].layer_decay == 1.0


def test_a_longer_training_is_as_long_as_its_control_and_has_a_control_of_its_own(study: Study) -> None:
    plan = study.plan("small", "headneck_ct")
    steps = {
        name: run_settings(study, plan, study.arm(name), study.run(f"small/headneck_ct/{name}/n4/s0"), 2e-3).steps
        for name in ("scratch", "scratch-equal", "mae-long", "scratch-long-equal")
    }
    pretraining = pretraining_steps(plan, study.arm("mae"))
    assert steps["mae-long"] == steps["scratch-equal"] == steps["scratch"] + pretraining
    assert steps["scratch-long-equal"] == steps["mae-long"] + pretraining


def test_the_control_with_random_weights_differs_from_mae_in_nothing_else(study: Study) -> None:
    plan = study.plan("small", "headneck_ct")
    mae, control = (
        run_settings(study, plan, study.arm(arm), study.run(f"small/headneck_ct/{arm}/n2/s0"), 1e-3)
        for arm in ("mae", "random-mae-recipe")
    )
    assert mae == control
    assert study.search_runs(study.run("small/headneck_ct/random-mae-recipe/n2/s0"))[0].arm == "mae"


def test_pretext_and_control_search_the_same_rates(study: Study) -> None:
    for arm in ("scratch", "mae", "simclr"):
        searched = study.search_runs(study.run(f"small/hippocampus_mr/{arm}/n8/s2"))
        assert [run.learning_rate for run in searched] == [1e-3, 2e-3, 4e-3, 8e-3, 16e-3]
        assert {(run.arm, run.labels, run.measured_on) for run in searched} == {(arm, 4, "check")}


def _rows(run: Run, *dices: str) -> list[dict[str, str]]:
    return [
        {"run": run.name, "case": case, "label": label, "dice": dice}
        for case, dice in zip("ab", dices, strict=True)
        for label in ("front", "back")
    ]


def test_rates_are_ranked_by_the_mean_over_cases_and_seeds() -> None:
    one, two, three = (Run("small", "hippocampus_mr", "mae", 4, 0, rate) for rate in (1e-3, 2e-3, 4e-3))
    rows = [*_rows(one, "0.5", ""), *_rows(two, "0.6", "0.8"), *_rows(three, "0.65", "0.6")]
    assert ranked_rates([one, two, three], rows) == [2e-3, 4e-3, 1e-3]
    unlucky = replace(two, seed=1)
    assert ranked_rates([two, three, unlucky], [*rows, *_rows(unlucky, "0.1", "0.2")]) == [4e-3, 2e-3]
    with pytest.raises(DatasetError, match="no figures"):
        ranked_rates([one, replace(one, seed=7)], rows)


def test_the_two_best_rates_are_tried_with_more_seeds(study: Study) -> None:
    searched = study.search_runs(study.run("small/hippocampus_mr/scratch/n8/s2"))
    names = [run.name for run in study.confirming_runs(searched[:1])]
    assert names == [f"small/hippocampus_mr/scratch/n4/s{seed}/lr0.001" for seed in (1, 2)]


def _write(folder: Path, run: str, dice: float, *, ended: bool = True) -> None:
    row = {"run": run, "step": 3, "grid": "scan", "case": "a", "label": "front", "dice": dice}
    append_rows(folder / METRICS, [row])
    if ended:
        append_rows(folder / RUNS, [{"run": run}])


def test_results_of_two_machines_are_joined_run_by_run(tmp_path: Path) -> None:
    _write(tmp_path / "one", "x", 0.1)
    _write(tmp_path / "one", "cut off", 0.2, ended=False)
    _write(tmp_path / "two", "x", 0.9)
    _write(tmp_path / "two", "y", 0.3)
    counts = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "one")
    assert counts[RUNS] == counts[METRICS] == 2
    assert [(row["run"], row["dice"]) for row in read_rows(tmp_path / "one" / METRICS)] == [("x", "0.1"), ("y", "0.3")]


def test_rows_of_a_run_that_was_killed_while_they_were_written_count_once(tmp_path: Path) -> None:
    _write(tmp_path, "x", 0.4, ended=False)
    _write(tmp_path, "x", 0.4)
    assert len(read_rows(tmp_path / METRICS)) == 1
