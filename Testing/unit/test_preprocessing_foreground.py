"""Grey values over the body alone, and the crop to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.preprocessing import foreground
from MAESegmentLib.preprocessing.foreground import find_background
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Prepared, Preprocessing

MR = IntensityRecipe("zscore", foreground=True)
CT = IntensityRecipe("ct", foreground=True)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def head(seed: int = 0, size: int = 14) -> np.ndarray:
    """float (I, J, K): a ball of tissue that touches every face of its box; 0 around it."""
    place = np.indices((size,) * 3) - (size - 1) / 2
    tissue = np.random.default_rng(seed).gamma(9.0, 40.0, (size,) * 3)
    return np.where((place**2).sum(axis=0) <= (size / 2) ** 2, tissue, 0.0)


def in_air(seed: int = 0) -> np.ndarray:
    """float (I, J, K): a cube of tissue amid the noise of a magnitude image."""
    rng = np.random.default_rng(seed)
    scan = rng.rayleigh(10.0, (48, 44, 40))
    scan[12:36, 14:30, 10:30] = rng.normal(500.0, 120.0, (24, 16, 20))
    return scan


def prepared(array: np.ndarray, recipe: IntensityRecipe = MR, spacing: float = 1.0) -> Prepared:
    plan = Preprocessing("RAS", (spacing,) * 3, (8, 8, 8), recipe)
    return plan.prepare(Volume(array[None], np.eye(4)))


def spans(found: Prepared) -> list[tuple[int, int]]:
    return [(part.start, part.stop) for part in found.region]


@few
@given(
    amounts=st.lists(st.integers(1, 9), min_size=6, max_size=6),
    value=st.sampled_from([0.0, -1024.0, 7.5, -0.25, math.nan]),
    spacing=st.sampled_from([1.0, 1.3]),
)
def test_how_much_background_lies_around_a_head_changes_nothing(
    amounts: list[int], value: float, spacing: float
) -> None:
    body = head()
    expected = prepared(np.pad(np.where(body == 0, value, body), 1, constant_values=value), spacing=spacing)
    around = list(zip(amounts[::2], amounts[1::2], strict=True))
    found = prepared(np.pad(np.where(body == 0, value, body), around, constant_values=value), spacing=spacing)
    torch.testing.assert_close(found.image, expected.image, atol=0, rtol=0)
    assert spans(found) == [(before, before + 14) for before, _ in around]


@few
@given(
    gain=st.floats(1e-3, 1e4),
    shift=st.floats(-2e3, 2e3),  # float32 resolves no tissue on top of much more
    scan=st.sampled_from(["stripped", "air", "tissue"]),
)
def test_the_scale_and_offset_of_grey_values_change_nothing(gain: float, shift: float, scan: str) -> None:
    array = {"stripped": np.pad(head(), 3), "air": in_air(), "tissue": head()[4:10, 4:10, 4:10]}[scan]
    found, expected = prepared((array + shift) * gain), prepared(array)
    assert spans(found) == spans(expected)
    torch.testing.assert_close(found.image, expected.image, atol=2e-3, rtol=2e-3)


def test_the_body_has_mean_zero_and_deviation_one_and_a_plain_background_is_zero() -> None:
    body = head(size=30)
    image = prepared(np.pad(body, 5)).image[0]
    assert abs(image[body > 0].mean()) < 1e-4
    assert abs(image[body > 0].std() - 1) < 1e-4
    assert np.all(image[body == 0] == 0)
    np.testing.assert_allclose(MR.apply(np.pad(body, 5)[None])[0, 5:-5, 5:-5, 5:-5], image, atol=1e-6)


def test_noise_around_a_body_counts_neither_in_its_statistics_nor_in_its_box() -> None:
    found = prepared(in_air())
    assert spans(found) == [(7, 41), (9, 35), (5, 35)]  # 5 mm around it
    inner = found.image[0, 5:-5, 5:-5, 5:-5]
    assert abs(float(inner.mean())) < 0.02
    assert abs(float(inner.std()) - 1) < 0.05
    assert float(found.image[0, 0].mean()) < -2  # air stays dark


def test_plain_edges_around_noise_do_not_hide_the_noise() -> None:
    inside = prepared(in_air())
    padded = prepared(np.pad(in_air(), ((3, 0), (0, 2), (1, 1))))
    assert spans(padded) == [(a + first, b + first) for (a, b), first in zip(spans(inside), (3, 0, 1), strict=True)]
    torch.testing.assert_close(padded.image, inside.image, atol=0, rtol=0)


def test_a_crop_in_tissue_is_taken_whole_as_if_there_were_no_choice() -> None:
    array = np.random.default_rng(0).gamma(9.0, 40.0, (12, 13, 14))
    array[3:6, 2:9, 4:8] = 0.0  # a hole is no background around a body
    found = prepared(array)
    assert spans(found) == [(0, 12), (0, 13), (0, 14)]
    torch.testing.assert_close(found.image, prepared(array, IntensityRecipe("zscore")).image, atol=0, rtol=0)


def test_ct_is_cropped_to_what_is_denser_than_air_and_its_values_stay() -> None:
    hounsfield = np.random.default_rng(0).normal(-1000.0, 20.0, (40, 40, 30))
    hounsfield[10:30, 12:28, :] = 40.0
    hounsfield[:2] = -3024.0  # what lies outside the scanner's circle
    found = prepared(hounsfield, CT)
    assert spans(found) == [(5, 35), (7, 33), (0, 30)]
    assert float(found.image[0, 15, 13, 15]) == pytest.approx(0.08)


def test_a_region_keeps_the_background_of_the_whole_scan() -> None:
    scan = Volume(np.pad(head(size=20), 6)[None], np.eye(4))
    plan = Preprocessing("RAS", (1.0, 1.0, 1.0), (8, 8, 8), MR)
    within = (slice(2, 16), slice(16, 32), slice(10, 22))
    found = plan.prepare(scan, within)
    assert found.region[0].start == 6
    assert found.region[0].stop == 16
    body = scan.array[0][found.region] > 0
    assert np.all(found.image[0][~body] == 0)
    assert abs(float(found.image[0][body].mean())) < 1e-4


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((6, 6, 6)),
        np.full((6, 6, 6), np.nan),
        np.full((2, 2, 2), 5.0),
        np.arange(8.0).reshape(2, 2, 2),
        np.pad(np.full((1, 1, 1), 9.0), 4),
        np.pad(np.full((2, 2, 2), np.inf), 4),
        np.full((4, 4, 4), -2000, np.int16),
    ],
    ids=["zeros", "nan", "tiny and plain", "tiny", "one voxel", "infinite body", "all below air"],
)
@pytest.mark.parametrize("recipe", [MR, CT])
def test_odd_scans_become_finite_input_of_some_size(array: np.ndarray, recipe: IntensityRecipe) -> None:
    found = prepared(array, recipe)
    assert found.image.size > 0
    assert bool(np.isfinite(found.image).all())


def test_voxels_that_are_not_finite_count_as_background() -> None:
    array = np.pad(head(size=20), 4)
    holes = array.copy()
    holes[13, 13, 13] = np.nan
    image = prepared(holes).image
    assert float(image[0, 9, 9, 9]) == 0
    assert float(abs(image - prepared(array).image).max()) == pytest.approx(
        float(abs(prepared(array).image[0, 9, 9, 9])), rel=0.1
    )


def test_the_box_holds_the_bodies_of_all_channels() -> None:
    first, second = np.zeros((2, 20, 20, 20))
    first[5:9, 5:9, 5:9] = np.random.default_rng(0).normal(50.0, 5.0, (4, 4, 4))
    second[7:12, 4:8, 6:7] = np.random.default_rng(1).normal(50.0, 5.0, (5, 4, 1))
    plan = Preprocessing("RAS", (1.0, 1.0, 1.0), (8, 8, 8), MR)
    found = plan.prepare(Volume(np.stack([first, second]), np.eye(4)))
    assert spans(found) == [(5, 12), (4, 9), (5, 9)]
    whole = (np.stack([first, second[::1]]) + 0.0).copy()
    whole[1] = np.random.default_rng(2).normal(50.0, 5.0, (20, 20, 20))  # tissue everywhere
    assert spans(plan.prepare(Volume(whole, np.eye(4)))) == [(0, 20)] * 3


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_storage_changes_nothing(order: str, dtype: type) -> None:
    array = np.round(np.pad(head() / 6, 3)).clip(0, 255)
    expected = prepared(array)
    found = prepared(np.asarray(array.astype(dtype), order=order))  # type: ignore[call-overload]
    torch.testing.assert_close(found.image, expected.image, atol=1e-5, rtol=1e-5)
    assert spans(found) == spans(expected)


def test_a_small_body_in_a_large_volume_is_found_though_the_sample_misses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "MAX_SAMPLE_VOXELS", 50)
    array = np.zeros((30, 30, 30))
    array[0 + 4, 4, 4], array[21, 20, 19] = 100.0, 300.0
    image = prepared(array).image[0]
    assert float(image[0, 0, 0]) == pytest.approx(-1.0, abs=0.01)
    assert float(image[-1, -1, -1]) == pytest.approx(1.0, abs=0.01)


def test_labels_are_cut_to_the_same_box() -> None:
    body = np.pad(head(size=16), 5)
    plan = Preprocessing("RAS", (1.3, 1.0, 0.8), (8, 8, 8), MR)
    image = plan.prepare(Volume(body[None], np.eye(4)))
    labels = LabelMap((body > 300).astype(np.uint8), np.eye(4)).crop(image.region)
    classes = plan.prepare_labels(labels, image.grid)
    assert tuple(classes.shape) == tuple(image.image.shape[1:])


def test_a_plan_without_the_choice_reads_and_is_written_as_before() -> None:
    before = {
        "kind": "zscore",
        "lower_percentile": 0.5,
        "upper_percentile": 99.5,
        "lower": -1000.0,
        "upper": 1000.0,
        "mean": 0.0,
        "std": 500.0,
    }
    assert IntensityRecipe.from_dict(before).to_dict() == before
    assert IntensityRecipe.from_dict(before).background(np.pad(head(), 4)) is None
    assert IntensityRecipe.from_dict(MR.to_dict()) == MR
    plan = Preprocessing("RAS", (1.0, 1.0, 1.0), (8, 8, 8), MR)
    assert Preprocessing.from_dict(plan.to_dict()) == plan


def test_a_small_image_of_one_kind_of_voxel_has_no_noise() -> None:
    assert find_background(np.random.default_rng(0).normal(100.0, 20.0, (8, 8, 8))) is None
