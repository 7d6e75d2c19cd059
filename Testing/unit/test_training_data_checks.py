"""What a fine-tuning cannot learn, or learnt from other data, is said before anybody relies on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.bundle import Bundle, ModelStore, open_bundle
from MAESegmentLib.bundle.suitability import ScanFacts, mismatch
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.recipe import Description
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings
from Testing.bundles import save_taught
from Testing.datasets import LABELS as VALUES
from Testing.datasets import change, write_dataset

QUICK = FineTuneSettings(steps=1, validate_every=1, device="cpu", threads=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", 2)


class Said:
    """A `Report` that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "log":
            self.lines.append(progress.message)

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if line.startswith("Warning: ")]


def train(data: Path | CaseDataset, base: Bundle, out: Path, **how) -> list[str]:
    said = Said()
    how = {"validation": "none", "description": Description(name="mine"), **how}
    dataset = data if isinstance(data, CaseDataset) else load_dataset(data)
    finetune(dataset, base, out, QUICK, context=RunContext(said), **how)
    return said.warnings


def without(value: int) -> Callable:
    return lambda array, matrix: (np.where(array == value, 0, array), matrix)


def test_a_label_that_no_case_has_is_a_warning_in_the_log_the_report_and_the_model(
    data: Path, base: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        change(data / "labels" / f"case_{number}.nii.gz", without(2))
    warnings = train(data, base, tmp_path / "out")
    assert warnings[0].startswith("Warning: No case has a voxel of back")
    assert len(warnings) == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any("back" in note for note in report["label_notes"])
    child = open_bundle(tmp_path / "out" / "model")
    assert [label.name for label in child.labels] == ["front", "back"]
    assert any("No case has a voxel of back" in note for note in child.spec.training["notes"])
    # The command says it too.
    words = ["finetune", "--cases", str(data), "-m", str(base.path), "-o", str(tmp_path / "cli"), "--name", "mine"]
    assert main([*words, "--steps", "1", "--device", "cpu", "--validation", "none"]) == 0
    assert "No case has a voxel of back" in " ".join(capsys.readouterr().err.split())


def test_a_label_that_only_held_out_cases_have_is_a_warning(data: Path, base: Bundle, tmp_path: Path) -> None:
    change(data / "labels" / "case_0.nii.gz", without(2))
    (warning, *_) = train(data, base, tmp_path / "out", validation="case_1")
    assert "Only held-out cases have a voxel of back" in warning


def test_cases_of_another_kind_than_the_base_was_trained_on_are_a_warning(data: Path, tmp_path: Path) -> None:
    scans = [read_volume(file) for file in sorted((data / "images").iterdir())]
    taught = save_taught(tmp_path / "taught", scans * 8)  # enough to set a limit
    said = "cases are nothing like the MR scans that tiny-mr was trained on."
    assert not any(said in warning for warning in train(data, taught, tmp_path / "alike"))
    for file in (data / "images").iterdir():
        change(file, lambda array, matrix: (-array, matrix))
    assert any(said in warning for warning in train(data, taught, tmp_path / "other"))
    alike, other = (open_bundle(tmp_path / name / "model") for name in ("alike", "other"))
    facts = ScanFacts.of(read_volume(file))
    assert [mismatch(other, replace(facts, modality=modality)) for modality in ("CT", "MR", "")] == ["", "", ""]
    assert "was trained on MR" in mismatch(alike, replace(facts, modality="CT"))


def test_two_cases_with_the_same_image_are_a_warning(data: Path, base: Bundle, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (data / kind / "case_1.nii.gz").write_bytes((data / kind / "case_0.nii.gz").read_bytes())
    assert "case_0 and case_1 have the same image" in train(data, base, tmp_path / "out")[0]


def test_what_dataset_json_says_in_vain_is_a_warning(data: Path, base: Bundle, tmp_path: Path) -> None:
    (data / "dataset.json").write_text(json.dumps({"labels": VALUES, "regions_class_order": [1, 2]}))
    assert "regions_class_order" in train(data, base, tmp_path / "out")[0]


def test_cases_of_another_number_of_channels_do_not_become_a_version(base: Bundle, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "two", 2, channels=2)
    with pytest.raises(ConfigurationError, match="2 channel"):
        train(data, base, tmp_path / "out", description=Description(name=base.name))
    train(data, base, tmp_path / "other", description=None)
    report = json.loads((tmp_path / "other" / "report.json").read_text())
    assert report["model"]["name"] == "two"


def test_a_name_that_stands_for_models_of_other_channels_is_refused_before_training(
    base: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "two", 2, channels=2)
    monkeypatch.setattr(ModelStore, "list", lambda _self: [base])
    words = ["finetune", "--cases", str(data), "-m", str(base.path), "-o", str(tmp_path / "out"), "--name", base.name]
    assert main([*words, "--steps", "1", "--device", "cpu"]) == 2
    assert "takes 1 channel(s); the cases have 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
