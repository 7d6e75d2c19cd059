"""nnU-Net as the reference of the study: its data set, its programs and its rows, without nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from MAESegmentLib.errors import ConfigurationError, DatasetError, MAESegmentError
from model_training.studies.data_efficiency import nnunet
from model_training.studies.data_efficiency.cases import StudyCases
from model_training.studies.data_efficiency.nnunet import (
    Cost,
    Layout,
    parse,
    perform,
    require_nnunet,
    run_program,
    trainer_of,
    write_raw_data,
)
from model_training.studies.data_efficiency.result_files import METRICS, RUNS, read_rows
from model_training.studies.data_efficiency.study import Run, read_study

STUDY = Path(nnunet.__file__).with_name("study.toml")
COST = Cost(parameters=1000, step_flops=500)
POOL, TEST = [f"p{n}" for n in range(170)], ["v0", "v1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the name and the splits of the study's: cubes, a different one per case."""
    folder = tmp_path_factory.mktemp("data") / "hippocampus_mr"
    entries = []
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number, name in enumerate([*POOL[:3], *TEST]):
        values = np.zeros((8, 9, 10), np.uint8)
        values[2:5, 2:6, 2:5] = 1
        values[2:5, 2:6, 6 : 8 + number % 2] = 2
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(values * 100.0 + number, affine), folder / "images" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, affine), folder / "labels" / f"{name}.nii.gz")
    for name in [*POOL, *TEST]:
        paths = [folder / kind / f"{name}.nii.gz" for kind in ("images", "labels")]
        for path in paths:  # of those that no test learns from, the content is all the same
            if not path.exists():
                path.hardlink_to(path.with_name(f"{POOL[0]}.nii.gz"))
        image, label = (str(path.relative_to(folder)) for path in paths)
        entries.append({"id": name, "image": image, "label": label})
    description = {"labels": {"background": 0, "anterior": 1, "posterior": 2}, "cases": entries}
    description["splits"] = {"pool": POOL, "validation": TEST}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


class FakeNnUnet:
    """Does what nnU-Net's programs leave behind: a training of 3 x 5 steps, and predictions with one structure."""

    def __init__(self, layout: Layout, reference: Path) -> None:
        self.layout = layout
        self.reference = reference
        self.ran: list[list[str]] = []
        self.environment: dict[str, str] = {}
        self.fails_at = ""

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.ran.append(list(command))
        self.environment = dict(environment)
        if command[0] == self.fails_at:
            raise RuntimeError(command[0])
        if command[0] == "nnUNetv2_train":
            trained = self.layout.trained
            trained.mkdir(parents=True)
            facts = {"num_epochs": "3", "num_iterations_per_epoch": "5", "initial_lr": "0.01"}
            (trained / "debug.json").write_text(json.dumps(facts))
            (trained / "training_log_1.txt").write_text("...: Epoch time: 1.5 s\n")
            (trained / "training_log_2.txt").write_text("...: Epoch time: 2.25 s\n...: Epoch time: 0.75 s\n")
            (trained / "checkpoint_final.pth").touch()
        if command[0] == "nnUNetv2_predict":
            self.layout.predictions.mkdir(exist_ok=True)
            for image in (self.layout.raw / "imagesTs").iterdir():
                name = image.name.replace("_0000", "")
                reference = nib.Nifti1Image.from_filename(self.reference / name)
                values = np.asarray(reference.dataobj)
                nib.save(
                    nib.Nifti1Image(np.where(values == 1, values, 0).astype(np.uint8), reference.affine),
                    self.layout.predictions / name,
                )
            (self.layout.predictions / "plans.json").write_text("{}")

    @property
    def programs(self) -> list[str]:
        return [command[0] for command in self.ran]


class Place:
    def __init__(self, data: Path, folder: Path) -> None:
        plan = read_study(STUDY).plan("small", "hippocampus_mr")
        self.run = Run("small", "hippocampus_mr", "nnunet", 2, 1)
        self.cases = StudyCases.load(plan, data.parent, folder)
        self.layout = Layout(folder / "work", "hippocampus_mr", "nnUNetTrainer_5epochs")
        self.results = folder / "results"
        self.nnunet = FakeNnUnet(self.layout, data / "labels")

    def perform(self) -> None:
        perform(
            *(self.run, self.cases, self.layout, self.results),
            device="cpu",
            processes=1,
            runner=self.nnunet,
            cost=lambda _: COST,
        )


@pytest.fixture
def place(data: Path, tmp_path: Path) -> Place:
    return Place(data, tmp_path)


def test_nnunet_learns_from_the_same_prefix_of_the_pool_and_is_shown_no_reference_of_the_test_cases(
    place: Place,
) -> None:
    place.perform()
    files = {path.relative_to(place.layout.raw).as_posix() for path in place.layout.raw.rglob("*.nii.gz")}
    assert files == {
        *(f"imagesTr/{name}_0000.nii.gz" for name in POOL[:2]),
        *(f"labelsTr/{name}.nii.gz" for name in POOL[:2]),
        *(f"imagesTs/{name}_0000.nii.gz" for name in TEST),
    }
    description = json.loads((place.layout.raw / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "anterior": 1, "posterior": 2}
    assert description["numTraining"] == 2
    assert description["channel_names"] == {"0": "MR"}


def test_ct_is_named_so_because_nnunet_normalises_it_over_the_set(data: Path, tmp_path: Path) -> None:
    place = Place(data, tmp_path)
    ct = read_study(STUDY).plan("small", "headneck_ct").preprocessing
    write_raw_data(replace(place.cases, plan=replace(place.cases.plan, preprocessing=ct)), place.run, place.layout)
    assert json.loads((place.layout.raw / "dataset.json").read_text())["channel_names"] == {"0": "CT"}


def test_the_rows_are_those_of_the_other_arms(place: Place) -> None:
    place.perform()
    (row,) = read_rows(place.results / RUNS)
    expected = {"run": "small/hippocampus_mr/nnunet/n2/s1", "arm": "nnunet", "labels": "2", "measured_on": "validation"}
    expected |= {"steps": "15", "learning_rate": "0.01", "seconds": "4.5", "parameters": "1000", "flops": "7500"}
    assert expected.items() <= row.items()
    metrics = read_rows(place.results / METRICS)
    assert [(m["case"], m["label"], m["dice"]) for m in metrics] == [
        (name, label, dice) for name in TEST for label, dice in (("anterior", "1.0000"), ("posterior", "0.0000"))
    ]
    assert {(m["run"], m["step"], m["grid"]) for m in metrics} == {(row["run"], "15", "scan")}
    assert [m["hd95_mm"] for m in metrics] == ["0.000", "", "0.000", ""]


def test_the_programs_run_in_order_and_only_inside_the_work_folder(place: Place) -> None:
    place.perform()
    assert place.nnunet.programs == ["nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"]
    assert all("nnUNetTrainer_5epochs" in command for command in place.nnunet.ran[1:])
    folders = [place.nnunet.environment[f"nnUNet_{name}"] for name in ("raw", "preprocessed", "results")]
    assert all(Path(folder).is_relative_to(place.layout.folder) for folder in folders)
    assert place.nnunet.environment["nnUNet_n_proc_DA"] == place.nnunet.environment["nnUNet_def_n_proc"] == "1"


def test_a_run_that_ended_is_not_done_again(place: Place) -> None:
    place.perform()
    place.nnunet.ran.clear()
    place.perform()
    assert place.nnunet.ran == []
    assert len(read_rows(place.results / RUNS)) == 1


def test_a_finished_training_is_kept_when_predicting_fails(place: Place) -> None:
    place.nnunet.fails_at = "nnUNetv2_predict"
    with pytest.raises(RuntimeError, match="predict"):
        place.perform()
    assert read_rows(place.results / RUNS) == []
    place.nnunet.fails_at = ""
    place.nnunet.ran.clear()
    place.perform()
    assert place.nnunet.programs == ["nnUNetv2_predict"]
    assert len(read_rows(place.results / RUNS)) == 1


def test_a_case_without_a_prediction_is_an_error_not_a_gap(place: Place) -> None:
    original = FakeNnUnet.__call__

    def forgets_one(command: Sequence[str], environment: Mapping[str, str]) -> None:
        original(place.nnunet, command, environment)
        (place.layout.predictions / "v1.nii.gz").unlink(missing_ok=True)

    with pytest.raises(DatasetError, match="v1"):
        perform(
            *(place.run, place.cases, place.layout, place.results),
            device="cpu",
            runner=forgets_one,
            cost=lambda _: COST,
        )
    assert read_rows(place.results / RUNS) == []


def test_without_nnunet_it_says_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match="pip install"):
        require_nnunet("no_such_package")


def test_a_program_that_fails_is_named_with_its_exit_code() -> None:
    with pytest.raises(MAESegmentError, match="false ended with code 1"):
        run_program(["false"], {})
    with pytest.raises(ConfigurationError, match="was not found"):
        run_program(["no-such-program"], {})


def test_a_run_without_processes_is_refused_because_nnunet_fails_late(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--data", "data", "--work", "work", "--labels", "4", "--processes", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_epochs_name_a_trainer_that_nnunet_ships() -> None:
    assert [trainer_of(epochs) for epochs in (1000, 1, 250)] == [
        "nnUNetTrainer",
        "nnUNetTrainer_1epoch",
        "nnUNetTrainer_250epochs",
    ]
