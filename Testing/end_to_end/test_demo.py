"""`maesegment demo`, and what the shipped models do to scans that they have never seen."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cli.main import main
from MAESegmentLib.evaluation.cases import Measure, ModelPredictions, evaluate_cases
from MAESegmentLib.evaluation.report import mean_dice, summarise
from MAESegmentLib.images.formats.seg_nrrd import read_seg_nrrd
from MAESegmentLib.images.labels import Label
from MAESegmentLib.inference.predictor import Predictor
from Testing.documentation import REPOSITORY

#: Well below the figure of each model card (a few cases are a small sample), well above a broken model.
WORTH_SHIPPING = {"hippocampus-mr": ("hippocampus_mr", 6, 0.82), "headneck-ct": ("headneck_ct", 2, 0.6)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "printed.txt").open("w", encoding="utf-8") as printed, redirect_stdout(printed):
        assert main(["demo", "--out", str(folder), "--device", "cpu"]) == 0
    return folder


def test_the_readme_shows_what_it_prints(demo: Path) -> None:
    """But for figures, and the space that they take; the tests have OpenVINO, which `make run` does not install."""
    shown, printed = (
        re.sub(r"[\d.]+|\s+|─+|, OpenVINO", " ", text[text.index("hippocampus-mr 2.") :])
        for text in ((REPOSITORY / "README.md").read_text("utf-8"), (demo / "printed.txt").read_text("utf-8"))
    )
    table = shown.partition("```")[0].split()
    assert table == printed.split()[: len(table)]
    assert "Volume" in table


def test_demo_finds_a_hippocampus_of_plausible_size_on_each_side(demo: Path) -> None:
    label_map, labels = read_seg_nrrd(demo / "MNI152_T1_hippocampi.seg.nrrd")
    assert len(labels) == 4
    for side, sign in (("Left", -1), ("Right", 1)):
        values = [label.value for label in labels if label.name.startswith(side.lower())]
        voxels = np.argwhere(np.isin(label_map.array, values))
        ras = voxels @ label_map.ijk_to_ras[:3, :3].T + label_map.ijk_to_ras[:3, 3]
        assert (np.sign(ras[:, 0]) == sign).all()
        assert 2.5 < len(voxels) / 1000 < 6.0  # ml; adults have about 3 to 5
        # The centre of the hippocampus in MNI152 space, as atlases have it.
        assert np.linalg.norm(ras.mean(axis=0) - [sign * 27, -22, -14]) < 6


def test_demo_names_codes_and_colours_its_segments(demo: Path) -> None:
    _, labels = read_seg_nrrd(demo / "MNI152_T1_hippocampi.seg.nrrd")
    assert {label.terminology.type.meaning for label in labels} == {"Hippocampus"}
    assert [label.terminology.modifier.meaning for label in labels if label.terminology.modifier] == [
        "Left",
        "Left",
        "Right",
        "Right",
    ]
    assert len({label.colour for label in labels}) == 4


def test_demo_draws_a_picture_with_coloured_contours(demo: Path) -> None:
    picture = imread(demo / "MNI152_T1_hippocampi.png")[..., :3]
    assert (picture.max(axis=2) - picture.min(axis=2) > 0.3).sum() > 500


@pytest.mark.parametrize("name", WORTH_SHIPPING)
def test_shipped_model_segments_cases_it_has_never_seen(name: str, real_data: Path) -> None:
    folder, count, least = WORTH_SHIPPING[name]
    bundle, dataset = ModelStore().find(name), load_dataset(real_data / folder)
    labels = tuple(Label(value, label) for label, value in dataset.labels.items())
    predictions = ModelPredictions(Predictor(bundle), bundle.labels, labels)
    evaluation = evaluate_cases(dataset.select(f"validation:{count}"), predictions, Measure(labels))
    assert not evaluation.failures
    dice = mean_dice(summarise(evaluation.scores))
    assert dice is not None
    assert dice > least
