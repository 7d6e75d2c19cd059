"""Images drawn from maps of tissues: any contrast, the anatomy of the map, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import ConfigurationError, DatasetError
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.training.data.drawing import Drawing, draw
from MAESegmentLib.training.data.patches import PatchSamples
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings, Synthesis
from Testing.bundles import save_tiny
from Testing.datasets import change, write_dataset

SHAPE, SPACING = (24, 28, 20), (2.0, 1.5, 2.5)
STILL = Synthesis(
    rotation_degrees=0, scale=(1, 1), elastic_mm=(0, 0), bias=0, thick_slices=0, blur_mm=(0, 0), noise=(0, 0), gamma=0
)
DRAWING = Drawing(Synthesis(), IntensityRecipe("zscore"))
SETTINGS = FineTuneSettings(
    steps=4, device="cpu", threads=1, validate_every=4, ema_decay=0.0, augmentation=Augmentation.none()
)


def tissues() -> np.ndarray:
    """Two nested boxes, 1 and 2, off the centre, in air."""
    array = np.zeros(SHAPE, np.uint8)
    array[3:20, 4:25, 2:15] = 1
    array[5:11, 6:13, 4:9] = 2
    return array


def drawn(synthesis: Synthesis, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and classes, which here are the tissues themselves."""
    array = torch.from_numpy(tissues())
    image, classes = draw(synthesis, array, array, SPACING, np.random.default_rng(seed))
    assert classes is not None
    return image.numpy(), classes.numpy()


def case(name: str = "case") -> PreparedCase:
    return PreparedCase(name, tissues()[None], SPACING, tissues())


def test_each_tissue_has_its_own_grey_value() -> None:
    for seed in range(5):
        image, classes = drawn(replace(STILL, spread=(0, 0), black_outside=1), seed)
        np.testing.assert_array_equal(classes, tissues())
        values = [np.unique(image[classes == tissue]) for tissue in range(3)]
        assert [len(found) for found in values] == [1, 1, 1]
        assert values[0] == 0
        assert len({float(found[0]) for found in values}) == 3


def test_contrast_is_drawn_anew() -> None:
    brighter = [image[tissues() == 2].mean() > image[tissues() == 1].mean() for image, _ in map(_still, range(30))]
    assert 5 < sum(brighter) < 25


def _still(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return drawn(STILL, seed)


def test_classes_move_with_the_anatomy() -> None:
    moving = replace(STILL, spread=(0, 0), rotation_degrees=20, scale=(0.8, 1.2), elastic_mm=(2, 4), black_outside=1)
    for seed in range(10):
        image, classes = drawn(moving, seed)
        assert 0.5 < (classes == 2).sum() / (tissues() == 2).sum() < 2
        assert (classes != tissues()).any()
        assert len(np.unique(image[classes == 2])) == 1
        assert len(np.unique(image[classes == 1])) == 1


def test_deformation_is_in_mm_whatever_the_voxels() -> None:
    """A ball stays a ball: turned, in voxels three times as long one way as the other."""
    spacing = np.array([1.0, 3.0, 1.5])
    shape = (61, 21, 41)
    at = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    ball = (sum(axis**2 for axis in np.meshgrid(*at, indexing="ij")) < 20**2).astype(np.uint8)
    turned = replace(STILL, rotation_degrees=40)
    _, moved = draw(turned, torch.from_numpy(ball), torch.from_numpy(ball), spacing, np.random.default_rng(3))
    overlap = 2 * (moved.numpy() & ball).sum() / (moved.numpy().sum() + ball.sum())
    assert overlap > 0.95


def test_stripping_leaves_the_inner_tissues() -> None:
    image, classes = drawn(replace(STILL, strip=1.0, inner=(2,), black_outside=1, spread=(0, 0)), 1)
    assert (image[classes != 2] == 0).all()
    assert (image[classes == 2] > 0).all()
    assert (classes == 1).any()


def test_thick_slices_blur_along_one_axis() -> None:
    thick = replace(STILL, spread=(0.1, 0.1), thick_slices=1, slice_mm=(12, 12))
    noisy = torch.ones(SHAPE, dtype=torch.uint8)
    for seed in range(5):
        image, _ = draw(thick, noisy, None, SPACING, np.random.default_rng(seed))
        inside = image.numpy()[6:-6, 6:-6, 6:-6]
        rough = sorted(np.abs(np.diff(inside, axis=axis)).mean() for axis in range(3))
        assert rough[0] < 0.6 * rough[1]


def test_the_same_seed_draws_the_same_image_and_another_seed_another() -> None:
    first, again, other = (drawn(Synthesis(), seed)[0] for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.isfinite(first).all()
    assert first.min() >= 0


def test_patches_of_a_resumed_run_are_those_of_a_whole_one() -> None:
    whole = PatchSamples([case("a"), case("b")], (16, 16, 16), SETTINGS, 0.5, drawing=DRAWING)
    in_order = [whole[number] for number in range(12)]
    fresh = PatchSamples([case("a"), case("b")], (16, 16, 16), SETTINGS, 0.5, drawing=DRAWING)
    for number in (11, 5, 6):
        image, classes, name = fresh[number]
        assert torch.equal(image, in_order[number][0])
        assert torch.equal(classes, in_order[number][1])
        assert name == in_order[number][2]
    assert {name for _, _, name in in_order[:8]} == {"a", "b"}
    assert not torch.equal(in_order[0][0], in_order[1][0])


def test_a_drawn_image_is_normalised_as_a_scan_is() -> None:
    made = DRAWING.draw(case(), (1, 2, 3))
    assert made.image.dtype == np.float32
    assert abs(float(made.image.mean())) < 0.05
    assert float(made.image.std()) == pytest.approx(1, abs=0.05)
    assert {value for value, _ in made.places} <= {1, 2}


def test_an_image_drawn_for_a_model_of_ct_fills_its_window() -> None:
    """Grey values from 0 to 1 would all be water."""
    soft_tissue = IntensityRecipe("ct", lower=-200, upper=500, mean=150, std=350)
    made = Drawing(replace(STILL, black_outside=1), soft_tissue).draw(case(), (1, 2, 3))
    assert float(made.image.min()) == pytest.approx(-1)
    assert float(made.image.max()) == pytest.approx(1)


def test_a_network_is_trained_on_drawn_images_and_measured_on_held_out_ones(tmp_path: Path) -> None:
    data = load_dataset(_tissue_dataset(tmp_path / "data"))
    settings = replace(SETTINGS, synthesis=Synthesis(patches_per_volume=2))
    model = finetune(data, save_tiny(tmp_path / "base"), tmp_path / "out", settings, validation="case_2")
    assert model.metadata["maesegment"]["metrics"]["validation"]["cases"] == 1
    stored = FineTuneSettings.from_dict(dict(model.spec.training["settings"]))
    assert stored == settings
    assert stored.fingerprint() != SETTINGS.fingerprint()


def test_a_scan_is_not_taken_for_a_map_of_tissues(tmp_path: Path) -> None:
    data = load_dataset(write_dataset(tmp_path / "data", 2))
    settings = replace(SETTINGS, synthesis=Synthesis())
    with pytest.raises(DatasetError, match="not a map of tissues"):
        finetune(data, save_tiny(tmp_path / "base"), tmp_path / "out", settings, validation="none")


def test_pretraining_draws_from_label_maps(tmp_path: Path) -> None:
    folder = _tissue_dataset(tmp_path / "data") / "images"
    small = ["--patch=16,16,16", "--spacing=2,2,2", "--steps=2", "--threads=1", "--device=cpu", "--set=held_out=0.34"]
    out = tmp_path / "out"
    assert main(["pretrain", "--synthesise", str(folder), "--out", str(out), *small]) == 0
    assert (out / "model" / "models" / "model.pt").is_file()
    assert (out / "reconstruction.png").is_file()


@pytest.mark.parametrize(
    "wrong", [{"strip": 0.5}, {"scale": [1.2, 0.8]}, {"thick_slices": 2}, {"noise": [0, float("nan")]}, {"colour": 1}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigurationError):
        FineTuneSettings.from_dict({"synthesis": wrong})


def _tissue_dataset(folder: Path) -> Path:
    """Label maps in the place of images."""
    write_dataset(folder, 3)
    for path in sorted((folder / "images").iterdir()):
        path.write_bytes((folder / "labels" / path.name).read_bytes())
        change(path, lambda array, matrix: (array.astype(np.uint8), matrix))
    return folder
