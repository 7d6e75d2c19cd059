"""Pictures of the data-efficiency study: which cases they show, and on which slice."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder
from MAESegmentLib.training.data.prepared import PreparedCase
from model_training.studies.data_efficiency.pictures import (
    _plane,
    reconstruction_picture,
    worst_cases,
    worst_cases_picture,
)
from model_training.studies.data_efficiency.report import pictures, worst_cases_name
from model_training.studies.data_efficiency.result_files import METRICS, RUNS, append_rows
from model_training.studies.data_efficiency.scores import Cell, Results, read_results
from Testing.bundles import tiny_network_config
from Testing.study_results import DATASET, SCALE, final_row, made_up_study, run_row

CELL = Cell(SCALE, DATASET, "4")


def _pixels(image: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(image)))


def _cube(start: int) -> np.ndarray:
    labels = np.zeros((6, 20, 24), np.uint8)
    labels[1:5, start : start + 8, 8:16] = 1
    return labels


def test_worst_cases_are_the_worst_of_all_arms_together(tmp_path: Path) -> None:
    dice = {"scratch": (0.9, 0.1, 0.5), "mae": (0.2, 0.3, 0.6)}
    for arm, values in dice.items():
        run = f"{SCALE}/{DATASET}/{arm}/n4/s0"
        rows = [final_row(run, case, "front", value) for case, value in zip("abc", values, strict=True)]
        append_rows(tmp_path / METRICS, rows)
        append_rows(tmp_path / RUNS, [run_row(run)])
    assert worst_cases(read_results(tmp_path), CELL, ["scratch", "mae"], 2) == ["b", "a"]
    assert worst_cases(read_results(tmp_path), CELL, ["scratch", "genesis"], 2) == []
    assert worst_cases(Results([], []), CELL, ["scratch"], 2) == []


def test_the_slice_is_the_one_with_most_wrong_voxels() -> None:
    reference, prediction = _cube(2), _cube(2)
    prediction[3, 5:15, 8:16] = 1
    axis, place, box = _plane(reference, [reference, prediction])
    assert (axis, place) == (0, 3)
    assert all(box[0].start <= edge < box[0].stop for edge in (2, 14))


def test_an_arm_that_is_right_looks_like_the_reference_and_one_that_is_wrong_does_not() -> None:
    image = np.random.default_rng(0).normal(size=(6, 20, 24))
    right, wrong = (
        _pixels(worst_cases_picture([image], [_cube(2)], {"arm": [prediction]}, ["case"]))
        for prediction in (_cube(2), _cube(9))
    )
    coloured = [np.ptp(pixels[..., :3], axis=-1) > 0.1 for pixels in (right, wrong)]
    halves = [[half.sum() for half in np.array_split(found, 2, axis=1)] for found in coloured]
    assert halves[0][0] == pytest.approx(halves[0][1], rel=0.05)
    assert halves[0][0] > 100
    assert right.shape == wrong.shape
    assert (right != wrong).any()


def test_pixels_have_the_shape_that_the_spacing_gives_them() -> None:
    image, labels = np.zeros((4, 20, 20)), np.zeros((4, 20, 20), np.uint8)
    labels[:, 8:12, 8:12] = 1
    flat, tall = (
        _pixels(worst_cases_picture([image], [labels], {"arm": [labels]}, ["case"], [(1.0, 1.0, height)]))
        for height in (0.25, 1.0)
    )
    coloured = [(np.ptp(pixels[..., :3], axis=-1) > 0.1).any(axis=1).sum() for pixels in (flat, tall)]
    assert coloured[0] < 0.5 * coloured[1]


def test_reconstructions_have_a_row_for_each_case() -> None:
    torch.set_num_threads(1)
    model = MaskedAutoencoder(
        MaeConfig(tiny_network_config(), unit=(4, 4, 4), decoder_dim=8, decoder_depth=1, decoder_heads=1)
    )
    random = np.random.default_rng(0)
    cases = [PreparedCase(name, random.normal(size=(1, 18, 20, 16)).astype("f4"), (1.0, 1.0, 1.0)) for name in "ab"]
    one, two = (_pixels(reconstruction_picture(model, cases[:count], [16, 16, 16])) for count in (1, 2))
    assert two.shape[0] == 2 * one.shape[0]


def test_the_report_shows_the_pictures_that_are_there(tmp_path: Path) -> None:
    study = made_up_study()
    plan = study.plan(SCALE, DATASET)
    (tmp_path / worst_cases_name(plan)).write_bytes(b"")
    blocks = pictures(study, tmp_path)
    assert f"]({worst_cases_name(plan)})" in blocks["pictures worst cases"]
    assert blocks["pictures reconstructions"] == "No picture has been made yet."
