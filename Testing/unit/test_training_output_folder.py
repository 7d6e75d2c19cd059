"""One run at a time in an output folder, and a finished one is never taken for that of other data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.errors import ConfigurationError, DatasetError, OutputError
from MAESegmentLib.networks import MaeConfig
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop.output_folder import claimed
from MAESegmentLib.training.pretrain import pretrain
from MAESegmentLib.training.recipe import Description
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings, PretrainSettings
from Testing.bundles import save_tiny, tiny_network_config, tiny_spec
from Testing.datasets import change, write_dataset
from Testing.phantoms import LABELS

QUICK = FineTuneSettings(steps=1, validate_every=1, device="cpu", threads=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, base: Bundle) -> Path:
    """Cases in `data`, and a finished run on them in `run`."""
    folder = tmp_path_factory.mktemp("finished")
    finetune(load_dataset(write_dataset(folder / "data", 3)), base, folder / "run", QUICK, validation="none")
    return folder


@pytest.fixture
def data(tmp_path: Path, finished: Path) -> Path:
    return Path(shutil.copytree(finished / "data", tmp_path / "data"))


@pytest.fixture
def out(tmp_path: Path, finished: Path) -> Path:
    """A finished run."""
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


def brighter(array: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array + 1, matrix


def coarser(array: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array, matrix @ np.diag([2.0, 2.0, 2.0, 1.0])


def corrected(array: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    array[tuple(np.argwhere(array == 1)[0])] = 2
    return array, matrix


CHANGES: dict[str, Callable[[Path], object]] = {
    "other voxels": lambda data: change(data / "images" / "case_1.nii.gz", brighter),
    "other label map": lambda data: change(data / "labels" / "case_1.nii.gz", corrected),
    "other voxel size": lambda data: [
        change(data / folder / "case_1.nii.gz", coarser) for folder in ("images", "labels")
    ],
    "a case less": lambda data: [(data / folder / "case_1.nii.gz").unlink() for folder in ("images", "labels")],
    "a case more": lambda data: [
        (data / folder / "case_9.nii.gz").write_bytes((data / folder / "case_1.nii.gz").read_bytes())
        for folder in ("images", "labels")
    ],
}


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_data_under_a_finished_run_is_refused(base: Bundle, data: Path, out: Path, kind: str) -> None:
    CHANGES[kind](data)
    with pytest.raises(ConfigurationError, match=r"other data: case case_[19]"):
        finetune(load_dataset(data), base, out, QUICK, validation="none")


def test_other_held_out_cases_labels_or_names_are_refused(base: Bundle, data: Path, out: Path) -> None:
    dataset = load_dataset(data)
    with pytest.raises(ConfigurationError, match="case case_2 is no longer to learn from"):
        finetune(dataset, base, out, QUICK, validation="case_2")
    with pytest.raises(ConfigurationError, match="the labels were front, back and are front"):
        finetune(dataset, base, out, QUICK, validation="none", labels=["front"])
    with pytest.raises(ConfigurationError, match="called tiny-mr, not other"):
        finetune(dataset, base, out, QUICK, validation="none", description=Description(name="other"))


def test_a_finished_run_of_another_base_names_both(base: Bundle, data: Path, out: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", tiny_spec(labels=LABELS, name="other", version="2.0.0"))
    said = (
        rf"made from tiny-mr@1\.0\.0 \({base.content_hash[:8]}\), not from other@2\.0\.0 \({other.content_hash[:8]}\)"
    )
    with pytest.raises(ConfigurationError, match=said):
        finetune(load_dataset(data), other, out, QUICK, validation="none")


def test_a_finished_run_that_does_not_say_its_data_is_told_as_such(base: Bundle, data: Path, out: Path) -> None:
    (out / "data.json").unlink()
    said: list[Progress] = []
    finetune(load_dataset(data), base, out, QUICK, validation="none", context=RunContext(said.append))
    assert "was not noted" in said[0].message


def test_changed_data_under_a_run_that_is_not_finished_is_refused(base: Bundle, data: Path, out: Path) -> None:
    (out / "model").rename(out / "not yet")
    CHANGES["other voxel size"](data)
    with pytest.raises(ConfigurationError, match="case case_1 was changed"):
        finetune(load_dataset(data), base, out, QUICK, validation="none")


def test_data_may_change_before_the_first_checkpoint(base: Bundle, data: Path, out: Path) -> None:
    for name in ("model", "checkpoint.pt"):
        (out / name).rename(out / f"{name} not yet")
    CHANGES["other voxels"](data)
    assert finetune(load_dataset(data), base, out, QUICK, validation="none").version


def _pretrain(dataset: CaseDataset, out: Path, **changes: object) -> Bundle:
    spec = tiny_spec()
    settings = PretrainSettings(steps=1, validate_every=1, device="cpu", threads=1, held_out=0.0)
    options = {
        "autoencoder": MaeConfig(tiny_network_config(), unit=(8, 8, 8), decoder_dim=16),
        "preprocessing": spec.preprocessing,
    }
    return pretrain(dataset.cases, out, settings, **{**options, **changes})  # type: ignore[arg-type]


def test_a_finished_pretraining_is_that_of_its_data_and_network(data: Path, tmp_path: Path) -> None:
    first = _pretrain(load_dataset(data), tmp_path / "mae")
    CHANGES["other label map"](data)  # which is not read
    assert _pretrain(load_dataset(data), tmp_path / "mae").content_hash == first.content_hash
    other = replace(tiny_spec().preprocessing, spacing=(2.0, 2.0, 2.0))
    with pytest.raises(ConfigurationError, match="another network or preprocessing"):
        _pretrain(load_dataset(data), tmp_path / "mae", preprocessing=other)
    CHANGES["other voxels"](data)
    with pytest.raises(ConfigurationError, match="case case_1 was changed"):
        _pretrain(load_dataset(data), tmp_path / "mae")


def test_the_second_run_in_one_folder_is_told_at_once_and_damages_nothing(
    base: Bundle, data: Path, out: Path, tmp_path: Path
) -> None:
    (out / "model").rename(out / "not yet")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with claimed(out):
        with pytest.raises(OutputError, match="Another process is training in"):
            finetune(load_dataset(data), base, out, QUICK, validation="none")
        with pytest.raises(OutputError, match="Another process is training in"):
            _pretrain(load_dataset(data), out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert finetune(load_dataset(data), base, out, QUICK, validation="none").version
    with claimed(tmp_path / "run2"):
        pass


def test_a_pipe_in_place_of_a_scan_is_refused_and_not_waited_for(base: Bundle, data: Path, out: Path) -> None:
    dataset = load_dataset(data)
    (data / "images" / "case_1.nii.gz").unlink()
    os.mkfifo(data / "images" / "case_1.nii.gz")
    with pytest.raises(DatasetError, match="Case case_1 cannot be read: it is not a file"):
        finetune(dataset, base, out, QUICK, validation="none")
