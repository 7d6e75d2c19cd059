"""Grey values in, network input out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.preprocessing import plan as preprocessing
from MAESegmentLib.preprocessing.foreground import MAX_SAMPLE_VOXELS
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from Testing.phantoms import PhantomFactory


def test_zscore_gives_mean_zero_and_deviation_one() -> None:
    image = np.random.default_rng(0).normal(400, 30, (1, 20, 20, 20))
    normalised = IntensityRecipe("zscore").apply(image)
    assert normalised.dtype == np.float32
    assert abs(normalised.mean()) < 1e-4
    assert abs(normalised.std() - 1) < 1e-4


def test_zscore_does_not_depend_on_the_scanners_grey_scale() -> None:
    image = np.random.default_rng(0).gamma(2.0, 10.0, (1, 12, 12, 12))
    recipe = IntensityRecipe("zscore")
    np.testing.assert_allclose(recipe.apply(image * 10_000), recipe.apply(image), atol=1e-4)


def test_zscore_clips_a_hot_voxel() -> None:
    image = np.random.default_rng(0).normal(0, 1, (1, 12, 12, 12))
    image[0, 0, 0, 0] = 1e6
    assert IntensityRecipe("zscore").apply(image).max() < 4


def test_each_channel_is_normalised_by_itself() -> None:
    one = np.random.default_rng(0).normal(5, 2, (1, 10, 10, 10))
    recipe = IntensityRecipe("zscore")
    both = recipe.apply(np.concatenate([one, one * 100 + 7]))
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-7, 41.3, -30_000.0])
def test_a_flat_volume_stays_finite(value: float) -> None:
    flat = IntensityRecipe("zscore").apply(np.full((1, 5, 5, 5), value))
    assert np.all(np.abs(flat) < 1e-2)


def test_ct_uses_the_fixed_window_and_statistics() -> None:
    recipe = IntensityRecipe("ct", lower=-200, upper=300, mean=50, std=100)
    image = np.array([[[[-1024, -200, 50, 300, 3000]]]], dtype=np.int16)
    np.testing.assert_allclose(recipe.apply(image).ravel(), [-2.5, -2.5, 0, 2.5, 2.5])


def test_missing_voxels_become_the_mean_and_do_not_spoil_the_rest() -> None:
    image = np.random.default_rng(0).normal(100, 10, (1, 10, 10, 10))
    image[0, 3] = np.nan
    normalised = IntensityRecipe("zscore").apply(image)
    assert np.all(normalised[0, 3] == 0)
    assert abs(normalised[0, 4:].std() - 1) < 0.1


def test_the_input_array_is_left_alone() -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4)
    before = image.copy()
    IntensityRecipe("zscore").apply(image)
    np.testing.assert_array_equal(image, before)


def test_statistics_of_a_large_volume_come_from_an_even_sample() -> None:
    image = np.random.default_rng(0).normal(60, 5, (1, 2, 2100, 2100)).astype(np.float32)
    assert image[0].size > 2 * MAX_SAMPLE_VOXELS
    normalised = IntensityRecipe("zscore").apply(image)
    assert abs(normalised.mean()) < 0.01
    assert abs(normalised.std() - 1) < 0.01


def test_a_recipe_survives_being_written_as_a_dictionary() -> None:
    recipe = IntensityRecipe("ct", lower=-150, upper=250, mean=40, std=70)
    assert IntensityRecipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "minmax"},
        {"kind": "ct", "std": 0.0},
        {"kind": "ct", "lower": 5, "upper": 5},
        {"lower_percentile": 99.9},
    ],
)
def test_a_recipe_that_cannot_work_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigurationError):
        IntensityRecipe(**{"kind": "zscore", **wrong})


@pytest.mark.parametrize("make", ["las", "oblique", "anisotropic"])
def test_how_many_planes_are_prepared_at_a_time_changes_nothing(
    make: str, phantom: PhantomFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = getattr(phantom, make)(noise=50.0, channels=2).volume
    recipe = Preprocessing("RAS", (1.3, 0.8, 2.0), (8, 8, 8), IntensityRecipe("zscore"))
    expected = recipe.prepare(volume).image
    monkeypatch.setattr(preprocessing, "_PLANES", 3)
    torch.testing.assert_close(recipe.prepare(volume).image, expected, atol=0, rtol=0)
