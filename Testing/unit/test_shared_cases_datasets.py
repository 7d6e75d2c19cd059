"""Data sets that were once read otherwise than they were meant, each with its right value or refusal."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.cases.checks import read_image, read_labels
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import DatasetError


def sizes(dataset: CaseDataset, name: str) -> dict[str, int]:
    """Voxels of each label, as training sees them."""
    (case,) = dataset.select(name)
    array = read_labels(case, read_image(case), dataset.labels, list(dataset.labels)).array
    return {label: int(np.count_nonzero(array == value)) for label, value in dataset.labels.items()}


def test_a_background_that_is_not_0_is_refused(shared_cases: Path) -> None:
    with pytest.raises(DatasetError, match=r'"background" of the dataset has the value 1'):
        load_dataset(shared_cases / "23_dataset_background_not_0" / "bg1")


def test_cases_of_nnunets_dataset_section_are_those_that_it_lists(shared_cases: Path) -> None:
    folder = shared_cases / "25_dataset_nnunet_v2_section" / "nnv2ds"
    dataset = load_dataset(folder)
    (case,) = dataset.cases
    assert case.id == "k"
    assert case.image == (folder / "images" / "c0.nii.gz",)
    assert case.label == folder / "labels" / "c1.nii.gz"


def test_grids_that_differ_in_their_origins_are_refused_with_the_distance(shared_cases: Path) -> None:
    dataset = load_dataset(shared_cases / "27_dataset_label_grid_text" / "origin")
    said = []
    for case in dataset.cases:
        try:
            read_labels(case, read_image(case), dataset.labels, list(dataset.labels))
        except DatasetError as error:
            said.append(error.message)
    assert said
    assert all("origins differ by 0.02 mm" in message for message in said)


def test_segments_of_a_data_set_are_read_by_name_in_training_and_evaluation(shared_cases: Path, tmp_path: Path) -> None:
    folder = shared_cases / "41_dataset_segnrrd_read_by_value" / "swapped"
    dataset = load_dataset(folder)
    assert sizes(dataset, "c1") == {"liver": 500, "spleen": 200}
    # The same numbering on the other side of an evaluation changes nothing.
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name in ("c0", "c1"):
        shutil.copy(folder / "labels" / "c1.seg.nrrd", predictions / f"{name}.seg.nrrd")
    out = tmp_path / "out"
    words = ["--data", str(folder), "--predictions", str(predictions), "--split", "c1", "-o", str(out)]
    assert main(["evaluate", *words]) == 0
    with (out / "metrics.csv").open(newline="") as stream:
        rows = {row["label"]: row for row in csv.DictReader(stream)}
    assert {name: row["dice"] for name, row in rows.items()} == {"liver": "1", "spleen": "1"}
    scores = json.loads((out / "evaluation.jsonl").read_text().splitlines()[1])["scores"]
    assert [score["reference_ml"] for score in scores] == [pytest.approx(0.5), pytest.approx(0.2)]
