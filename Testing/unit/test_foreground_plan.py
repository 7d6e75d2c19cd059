"""Training and inference look at the same box of a scan, and what comes out lies on the scan's own grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.dataset import CaseDataset, load_dataset
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.segmenter import Segmenter
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.inference.uncertainty import uncertainty_of
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.prepared import CaseCache
from MAESegmentLib.training.data.preparing import prepare_cases
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings
from Testing.datasets import LABELS as VALUES
from Testing.datasets import change, save
from Testing.phantoms import Phantom, PhantomFactory

QUICK = FineTuneSettings(steps=2, validate_every=2, device="cpu", threads=1, foreground=True)
PLAN = Preprocessing("RAS", (1.0, 1.0, 1.0), (12, 12, 12), IntensityRecipe("zscore", foreground=True))
PADDING = ((9, 2), (3, 17), (11, 6))


def stripped(phantom: Phantom) -> Phantom:
    """The phantom with exactly 0 around its head."""
    array = phantom.volume.array.copy()
    array[array < 150] = 0
    return replace(phantom, volume=Volume(array, phantom.volume.ijk_to_ras))


def padded(phantom: Phantom) -> Phantom:
    shift = np.eye(4)
    shift[:3, 3] = [-before for before, _ in PADDING]
    matrix = phantom.volume.ijk_to_ras @ shift
    array = np.pad(phantom.volume.array, ((0, 0), *PADDING))
    return replace(
        phantom,
        volume=Volume(array, matrix),
        label_map=LabelMap(np.pad(phantom.label_map.array, PADDING), matrix),
    )


class Brightness(torch.nn.Module):
    """Class 1 where a voxel is brighter than the body's mean by one deviation; counts the windows it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.windows += len(image)
        return torch.cat([torch.zeros_like(image), image - 1.0], dim=1)


@pytest.mark.parametrize("orientation", ["RAS", "PIL", "LSA"])
def test_background_around_a_body_costs_no_window_and_moves_no_label(orientation: str) -> None:
    scan = stripped(PhantomFactory()(orientation, shape=(30, 28, 26)))
    found = []
    for each in (scan, padded(scan)):
        network = Brightness()
        segmenter = Segmenter(network, PLAN, (0, 1), InferenceSettings(device="cpu", precision="fp32"))
        prediction = segmenter.predict(each.volume, want_probabilities=True, want_entropy=True)
        assert prediction.label_map.grid.matches(each.volume.grid)
        assert prediction.probabilities is not None
        assert prediction.entropy is not None
        np.testing.assert_allclose(prediction.probabilities.array.sum(axis=0), 1.0, atol=1e-5)
        found.append((network.windows, prediction))
    (windows, plain), (windows_around, around) = found
    inner = tuple(slice(before, before + n) for (before, _), n in zip(PADDING, scan.volume.grid.shape, strict=True))
    assert windows == windows_around
    assert plain.label_map.array.any()
    np.testing.assert_array_equal(around.label_map.array[inner], plain.label_map.array)
    assert around.label_map.array.sum() == plain.label_map.array.sum()
    assert plain.probabilities is not None
    assert np.all(plain.probabilities.array[0][scan.volume.array[0] == 0] > 0.7)


def test_a_roi_sees_grey_values_against_the_background_of_the_whole_scan() -> None:
    scan = padded(stripped(PhantomFactory()(shape=(30, 28, 26))))
    segmenter = Segmenter(Brightness(), PLAN, (0, 1), InferenceSettings(device="cpu", precision="fp32"))
    roi = Roi((-20.0, -12.0, -12.0), (6.0, 12.0, 12.0))
    prediction = segmenter.predict(scan.volume, roi=roi)
    assert prediction.label_map.grid.matches(scan.volume.grid)
    outside = np.ones(scan.volume.grid.shape, bool)
    outside[roi.voxels(scan.volume.grid)] = False
    assert not prediction.label_map.array[outside].any()
    assert not prediction.label_map.array[scan.volume.array[0] == 0].any()
    assert prediction.label_map.array.any()


@pytest.fixture
def dataset(tmp_path: Path) -> CaseDataset:
    return load_dataset(write_heads(tmp_path / "data"))


def write_heads(folder: Path) -> Path:
    for number in range(3):
        scan = padded(stripped(PhantomFactory()(shape=(30 + number, 28, 26), noise=20.0, seed=number)))
        save(folder / "images" / f"case_{number}.nii.gz", scan.volume.array[0], scan.volume.ijk_to_ras)
        save(folder / "labels" / f"case_{number}.nii.gz", scan.label_map.array, scan.volume.ijk_to_ras)
    (folder / "dataset.json").write_text(f'{{"labels": {str(dict(VALUES)).replace(chr(39), chr(34))}}}')
    return folder


def test_training_leave_one_out_and_inference_share_the_plan(
    base: Bundle, dataset: CaseDataset, tmp_path: Path
) -> None:
    child = finetune(dataset, base, tmp_path / "run", QUICK, validation="loo")
    assert child.spec.preprocessing == replace(
        base.spec.preprocessing, intensity=replace(base.spec.preprocessing.intensity, foreground=True)
    )
    assert set(child.spec.metrics["validation"]["dice_after"]) == {"front", "back"}
    again = finetune(dataset, child, tmp_path / "again", replace(QUICK, foreground=None), validation="none")
    assert again.spec.preprocessing == child.spec.preprocessing
    volume = padded(stripped(PhantomFactory()(shape=(30, 28, 26), noise=20.0))).volume
    settings = InferenceSettings(device="cpu", precision="fp32", check_familiarity=False)
    predictor = Predictor(child, settings)
    assert predictor.predict(volume).label_map.grid.matches(volume.grid)
    assert 0 <= uncertainty_of(predictor, volume).entropy <= 1


def test_a_base_keeps_its_plan_where_nothing_else_is_said(base: Bundle, dataset: CaseDataset, tmp_path: Path) -> None:
    child = finetune(dataset, base, tmp_path / "run", replace(QUICK, foreground=None), validation="none")
    assert child.spec.preprocessing == base.spec.preprocessing
    assert "foreground" not in child.metadata["maesegment"]["preprocessing"]["intensity"]
    assert replace(QUICK, foreground=None).fingerprint() == FineTuneSettings(steps=2).fingerprint()


def test_labels_in_the_background_are_named(base: Bundle, dataset: CaseDataset, tmp_path: Path) -> None:
    def draw_outside(array: np.ndarray, matrix: np.ndarray) -> Any:
        array[0, 0, :5] = 1
        return array, matrix

    assert dataset.cases[1].label is not None
    change(dataset.cases[1].label, draw_outside)
    said: list[Progress] = []
    finetune(dataset, base, tmp_path / "run", QUICK, validation="none", context=RunContext(said.append))
    assert [p.message for p in said if "in the background" in p.message and "case_1: 5 of" in p.message]


def test_patches_for_pretraining_come_from_the_body(dataset: CaseDataset, tmp_path: Path) -> None:
    cache = CaseCache(1.0, tmp_path / "cache")
    prepare_cases(dataset.cases, PLAN, cache)
    body = [int(axis.stop - axis.start) for axis in PLAN.region(stripped(PhantomFactory()(shape=(30, 28, 26))).volume)]
    assert np.abs(np.subtract(cache[0].shape, body)).max() <= 1
