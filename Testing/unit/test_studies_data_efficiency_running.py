"""The study of data efficiency on phantoms: searched, pretrained once, measured along the way, resumed, repeated."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.errors import DatasetError
from MAESegmentLib.images.volume import Grid
from MAESegmentLib.networks import NnFormer
from model_training.studies.data_efficiency.cases import StudyCases
from model_training.studies.data_efficiency.compute import step_flops
from model_training.studies.data_efficiency.measuring import middle_part, middle_roi
from model_training.studies.data_efficiency.pretraining import make_task, pretrain, transfer
from model_training.studies.data_efficiency.repetition import repeat
from model_training.studies.data_efficiency.result_files import CHECK_GRID, METRICS, PRETEXTS, RUNS, read_rows
from model_training.studies.data_efficiency.study import Study, read_study
from model_training.studies.data_efficiency.training import Workplace, new_network, perform, weights_file
from Testing.datasets import prepared_case, write_dataset

STUDY = """
[[plans]]
scale = "tiny"
dataset = "data"
title = "Phantoms"
test = "validation"
pool = "pool"
check = "pool:2:3"
search_labels = 1
learning_rates = [1e-3, 1e-2]
curve_points = 2
overlap = 0.0
autoencoder = { unit = [4, 4, 4], decoder_dim = 8, decoder_depth = 1, decoder_heads = 1 }
pretraining = { steps = 3, batch_size = 1, threads = 1, device = "cpu", checkpoint_every = 1 }
finetuning = { steps = 4, batch_size = 1, threads = 1, device = "cpu", checkpoint_every = 1 }

[plans.network]
name = "small"
out_channels = 3
crop_size = [16, 16, 16]
embed_dim = 8
heads = [1, 1, 2]
windows = [[2, 2, 2], [2, 2, 2], [2, 2, 2]]

[plans.preprocessing]
orientation = "RAS"
spacing = [2.0, 2.0, 2.0]
patch_size = [16, 16, 16]
intensity = { kind = "zscore" }

[[arms]]
name = "scratch"
title = "from scratch"
group = "primary"

[[arms]]
name = "mae"
title = "MAE"
group = "primary"
pretext = "mae"

[[arms]]
name = "mae-decoder"
title = "MAE, both"
group = "primary"
pretext = "mae-decoder"
transfer = "encoder+decoder"
recipe = "mae"

[[arms]]
name = "scratch-equal"
title = "equal"
group = "primary"
recipe = "scratch"
equal_compute_to = "mae"

[[arms]]
name = "mae-data50"
title = "half"
group = "ablation"
pretext = "mae"
recipe = "mae"
data = 0.5

[[experiments]]
name = "primary"
title = "Does it help?"
scale = "tiny"
datasets = ["data"]
arms = ["scratch", "mae", "scratch-equal"]
labels = [1]
seeds = [0]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    splits = {"pool": ["case_0", "case_1", "case_2"], "validation": ["case_3", "case_4"]}
    write_dataset(root / "data", 5, splits=splits)
    (root / "study.toml").write_text(STUDY)
    return root


@pytest.fixture(scope="module")
def place(root: Path) -> Workplace:
    return Workplace(read_study(root / "study.toml"), root, root / "work", root / "results", keep=True)


@pytest.fixture(scope="module")
def study(place: Workplace) -> Study:
    return place.study


@pytest.fixture(scope="module")
def done(place: Workplace) -> Path:
    """The result folder after every run of the experiment."""
    for run in place.study.runs():
        perform(run, place)
    return place.results


def test_the_search_comes_first_and_is_measured_on_cases_of_the_pool_alone(done: Path) -> None:
    rows = {row["run"]: row for row in read_rows(done / RUNS)}
    assert list(rows)[:3] == [
        "tiny/data/scratch/n1/s0/lr0.001",
        "tiny/data/scratch/n1/s0/lr0.01",
        "tiny/data/scratch/n1/s0",
    ]
    measured = {(rows[row["run"]]["measured_on"], row["case"]) for row in read_rows(done / METRICS)}
    assert measured == {("check", "case_2"), ("validation", "case_3"), ("validation", "case_4")}


def test_every_checkpoint_case_and_label_has_a_row(done: Path) -> None:
    rows = [row for row in read_rows(done / METRICS) if row["run"] == "tiny/data/mae/n1/s0"]
    assert {(row["step"], row["grid"]) for row in rows} == {("2", "network"), ("4", "network"), ("4", "scan")}
    assert len(rows) == 3 * 2 * 2
    assert {row["label"] for row in rows} == {"front", "back"}


def test_the_control_is_given_the_steps_and_at_least_the_operations_of_pretraining(done: Path) -> None:
    rows = {row["run"]: row for row in read_rows(done / RUNS)}
    mae, equal = rows["tiny/data/mae/n1/s0"], rows["tiny/data/scratch-equal/n1/s0"]
    assert int(equal["steps"]) == int(mae["steps"]) + int(mae["pretext_steps"]) == 7
    assert float(equal["flops"]) >= float(mae["flops"]) + float(mae["pretext_flops"]) > 0


def test_a_second_go_does_nothing_and_pretraining_is_shared(done: Path, place: Workplace) -> None:
    before = (done / METRICS).read_bytes()
    for run in place.study.runs():
        perform(run, place)
    assert (done / METRICS).read_bytes() == before
    assert [row["pretraining"] for row in read_rows(done / PRETEXTS)] == ["tiny/data/mae"]


def test_pretraining_never_sees_a_test_image(study: Study, root: Path) -> None:
    plan = study.plan("tiny", "data")
    cases = StudyCases.load(plan, root, root / "none")
    assert {case.id for case in cases.unlabelled()} == {"case_0", "case_1", "case_2"}
    assert len(cases.unlabelled(0.5)) == 2
    fewer = StudyCases.load(replace(plan, images="case_1,case_3"), root, root / "none")
    assert [case.id for case in fewer.unlabelled()] == ["case_1"]
    _, images = make_task(plan, study.arm("mae-data50"), cases)
    assert images == 2


def test_a_subset_that_reaches_the_check_cases_is_refused(study: Study, root: Path) -> None:
    cases = StudyCases.load(study.plan("tiny", "data"), root, root / "none")
    assert [case.id for case in cases.training(2)] == ["case_0", "case_1"]
    assert len(cases.training(None)) == 3
    with pytest.raises(DatasetError, match="learnt from"):
        cases.training(3)


def test_a_pool_with_test_cases_is_refused(study: Study, root: Path) -> None:
    plan = replace(study.plan("tiny", "data"), pool="case_2,case_3")
    with pytest.raises(DatasetError, match="learnt from"):
        StudyCases.load(plan, root, root / "none").training(None)


def test_encoder_and_decoder_of_the_pretraining_arrive_in_the_network(place: Workplace, done: Path) -> None:  # noqa: ARG001
    study = place.study
    plan, arm = study.plan("tiny", "data"), study.arm("mae-decoder")
    pretrained = pretrain(study, plan, arm, place.data, place.work, place.work / "other results")
    network = new_network(plan, arm, 3, 0, pretrained)
    fresh = new_network(plan, study.arm("scratch"), 3, 0, None)
    assert isinstance(network, NnFormer)
    taken = [k for k in network.state_dict() if k.startswith(("encoder.", "decoder."))]
    assert all(torch.equal(network.state_dict()[k], pretrained.weights[k]) for k in taken)
    heads = [k for k in network.state_dict() if k not in taken]
    assert heads
    assert all(torch.equal(network.state_dict()[k], fresh.state_dict()[k]) for k in heads)
    transfer(pretrained.weights, fresh, "encoder")  # type: ignore[arg-type]
    assert not torch.equal(fresh.state_dict()[taken[-1]], pretrained.weights[taken[-1]])


def test_a_run_that_was_killed_ends_with_the_same_figures(
    place: Workplace, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies at the first measured checkpoint, after the weights were saved."""
    run = place.study.run("tiny/data/scratch/n1/s0")
    again = replace(place, results=tmp_path / "results", work=tmp_path / "work")
    again.results.mkdir()
    for name in (RUNS, METRICS):
        lines = (done / name).read_text().splitlines(keepends=True)
        (again.results / name).write_text("".join(line for line in lines if "run," in line or "/lr" in line))
    import model_training.studies.data_efficiency.training as training

    real = training.network_rows
    calls = 0

    def dying(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "network_rows", dying)
    with pytest.raises(KeyboardInterrupt):
        perform(run, again)
    assert run.name not in {row["run"] for row in read_rows(again.results / RUNS)}
    perform(run, again)
    wanted = [row for row in read_rows(done / METRICS) if row["run"] == run.name]
    assert [row for row in read_rows(again.results / METRICS) if row["run"] == run.name] == wanted


def test_a_run_done_again_is_compared_with_the_results(place: Workplace, done: Path, tmp_path: Path) -> None:
    run = place.study.run("tiny/data/mae/n1/s0")
    before = (done / METRICS).read_bytes()
    shutil.copytree(place.work / "pretraining", tmp_path / "pretraining")
    result = repeat(run, place.study, place.data, tmp_path, done)
    assert result.before == result.again
    assert result.largest == 0.0
    assert "again" in str(result)
    assert (done / METRICS).read_bytes() == before


def test_final_weights_are_kept_where_asked(place: Workplace, done: Path) -> None:  # noqa: ARG001
    run = place.study.run("tiny/data/mae/n1/s0")
    network = new_network(place.study.plan("tiny", "data"), place.study.arm("mae"), 3, 0, None)
    network.load_state_dict(torch.load(weights_file(run, place), weights_only=True))


def test_counting_operations_leaves_the_weights_alone(study: Study, root: Path) -> None:
    plan = study.plan("tiny", "data")
    task, _ = make_task(plan, study.arm("mae"), StudyCases.load(plan, root, root / "none"))
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    assert step_flops(task) > 1e6
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())


def test_the_middle_of_a_scan_is_the_same_box_in_space_for_every_orientation() -> None:
    matrix = np.array([[0, 0, -4.0, 90], [3.0, 0, 0, -60], [0, 2.5, 0, 10], [0, 0, 0, 1]])
    roi = middle_roi(Grid((40, 30, 50), matrix), (100.0, 0.0, 0.0))
    assert roi is not None
    assert np.allclose((roi.minimum[0], roi.maximum[0]), (90 - 4 * 24.5 - 50, 90 - 4 * 24.5 + 50))
    assert roi.voxels(Grid((40, 30, 50), matrix))[:2] == (slice(0, 40), slice(0, 30))
    assert middle_roi(Grid((40, 30, 50), matrix), (0.0, 0.0, 0.0)) is None


def test_a_prepared_case_is_cut_along_the_axis_that_is_meant() -> None:
    case = replace(prepared_case(shape=(20, 24, 18)), spacing=(2.0, 1.0, 1.0))
    cut = middle_part(case, "SAR", (10.0, 0.0, 16.0))
    assert cut.shape == (8, 24, 10)
    assert cut.classes is not None
    assert np.array_equal(cut.image[0], case.image[0, 6:14, :, 4:14])


def test_what_may_choose_is_measured_on_the_check_cases_where_the_plan_asks_for_it(
    done: Path, study: Study, place: Workplace, tmp_path: Path
) -> None:
    (run,) = (run for run in study.runs() if run.arm == "scratch")
    checked = replace(study, plans=tuple(replace(plan, checked=True, learning_rates=(1e-3,)) for plan in study.plans))
    perform(run, replace(place, study=checked, results=tmp_path))
    rows = read_rows(tmp_path / METRICS)
    assert {row["case"] for row in rows if row["grid"] == CHECK_GRID} == {"case_2"}
    assert {row["case"] for row in rows if row["grid"] != CHECK_GRID} == {"case_3", "case_4"}
    assert not [row for row in read_rows(done / METRICS) if row["grid"] == CHECK_GRID]
