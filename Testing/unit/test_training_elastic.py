"""Smooth deformations: bounded, without folds, drawn from seed and step alone, and of labels as of the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.training.data.augment import random_displacement, random_geometry, sample_patch
from MAESegmentLib.training.data.patches import PatchSamples
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings
from Testing.datasets import prepared_case

PATCH = (20, 24, 22)
ELASTIC = replace(Augmentation.none(), elastic=1.0)


def displacement(spacing=(1.0, 1.0, 1.0), patch=PATCH, seed=0, **changes) -> np.ndarray | None:
    return random_displacement(replace(ELASTIC, **changes), spacing, patch, np.random.default_rng(seed))


@settings(deadline=None, max_examples=40)
@given(
    deviation=st.floats(0.1, 8.0),
    ratio=st.floats(8.0, 30.0),
    spacing=st.tuples(*[st.floats(0.5, 1.4)] * 3),
    seed=st.integers(0, 2**32),
)
def test_the_field_is_bounded_and_changes_slowly(deviation, ratio, spacing, seed) -> None:
    field = displacement(spacing, seed=seed, elastic_mm=deviation, elastic_distance_mm=deviation * ratio)
    assert field is not None
    in_mm = field * np.array(spacing)[:, None, None, None]
    assert np.abs(in_mm).max() < 5.3 * deviation
    for axis, step in enumerate(spacing):
        slope = np.diff(in_mm, axis=axis + 1) / step
        assert np.abs(slope).max() < 10.6 / ratio
        # Smooth: what B-splines with such coefficients can bend at most.
        assert np.abs(np.diff(slope, axis=axis + 1) / step).max() < 21.0 / (ratio * deviation * ratio)


def test_its_deviation_is_as_asked_and_tissue_never_folds() -> None:
    fields = [displacement(patch=(40, 40, 40), seed=seed, elastic_distance_mm=16.0) for seed in range(30)]
    assert np.std(fields) == pytest.approx(2.0, rel=0.05)
    for field in fields:
        slopes = np.stack([np.stack(np.gradient(part)) for part in field]) + np.eye(3)[:, :, None, None, None]
        assert np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1))).min() > 0


def test_nothing_is_moved_across_thick_slices() -> None:
    field = displacement(spacing=(10.0, 1.4, 1.4))
    assert field is not None
    assert np.abs(field[0]).max() == 0
    assert np.abs(field[1:]).min() < np.abs(field[1:]).max()


def test_without_the_setting_no_number_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert random_displacement(Augmentation(), (1, 1, 1), PATCH, rng) is None
    assert rng.random() == np.random.default_rng(0).random()


def test_a_deformation_of_zero_is_the_plain_crop() -> None:
    case = prepared_case()
    volume, classes = torch.from_numpy(case.image), torch.from_numpy(case.classes)
    plain = sample_patch(volume, classes, (3, 4, 2), (12, 12, 12), None)
    still = np.zeros((3, 12, 12, 12))
    for shares in (False, True):
        moved = sample_patch(volume, classes, (3, 4, 2), (12, 12, 12), None, still, label_shares=shares)
        torch.testing.assert_close(plain[0], moved[0], atol=1e-4, rtol=0)
        assert torch.equal(plain[1], moved[1])


@pytest.mark.parametrize("shares", [False, True])
def test_samples_are_the_same_again_and_labels_move_with_the_image(shares: bool) -> None:
    chosen = FineTuneSettings(steps=1, augmentation=replace(ELASTIC, label_shares=shares, elastic_distance_mm=16.0))
    first, second = (PatchSamples([prepared_case()], (12, 12, 12), chosen, 1.0) for _ in range(2))
    for number in range(8):
        image, classes, _ = first[number]
        again, classes_again, _ = second[number]
        assert torch.equal(image, again)
        assert torch.equal(classes, classes_again)
        assert set(classes.unique().tolist()) <= {0, 1, 2}
        if int((classes == 1).sum()) > 20:
            assert float(image[classes == 1].mean()) > 1.0


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6), start=st.tuples(*[st.integers(-6, 12)] * 3))
def test_shares_are_those_of_every_label_interpolated_by_itself(seed, count, start) -> None:
    rng = np.random.default_rng(seed)
    classes = torch.from_numpy(rng.integers(0, count + 1, (14, 10, 12)).astype(np.uint8))
    geometry, _ = random_geometry(Augmentation(affine=1.0), (1, 1, 1), (9, 8, 10), rng)
    field = random_displacement(ELASTIC, (1, 1, 1), (9, 8, 10), rng)
    each = torch.stack([classes == value for value in range(count + 1)]).float()
    shares, _, _ = sample_patch(each, None, start, (9, 8, 10), geometry, field)
    shares[0] = 0.85 * (shares[0] + 1 - shares.sum(0))  # outside is background
    _, found, _ = sample_patch(each, classes, start, (9, 8, 10), geometry, field, label_shares=True)
    assert found is not None
    assert torch.all(shares.gather(0, found[None].long())[0] > shares.amax(0) - 1e-4)


@pytest.mark.parametrize("radius", [1.0, 1.3, 4.0])
def test_shares_keep_a_cord_truer_and_in_fewer_pieces_than_the_nearest_voxel(radius: float) -> None:
    """Against the cord that is deformed itself. (A line of a single voxel is kept better by the nearest.)"""
    true, pieces, volume = {False: [], True: []}, {False: 0, True: 0}, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        centre, slope = 32 + rng.uniform(-0.5, 0.5, 2), rng.uniform(-0.3, 0.3, 2)

        def cord(place: np.ndarray, centre=centre, slope=slope) -> np.ndarray:  # (3, ...) -> (...)
            off = place[1:] - (centre[:, None] + slope[:, None] * (place[0].ravel() - 32)).reshape(2, *place[0].shape)
            return (off**2).sum(axis=0) <= radius**2

        places = np.stack(np.meshgrid(*[np.arange(64.0)] * 3, indexing="ij"))
        drawn = torch.from_numpy(cord(places).astype(np.uint8))
        geometry, _ = random_geometry(Augmentation(affine=1.0), (1, 1, 1), (32, 32, 32), rng)
        field = random_displacement(ELASTIC, (1, 1, 1), (32, 32, 32), rng)
        image = torch.from_numpy(places.astype(np.float32))
        for shares in (False, True):
            at, found, inside = sample_patch(
                image, drawn, (16, 16, 16), (32, 32, 32), geometry, field, label_shares=shares
            )
            assert found is not None
            truth, got = cord(at.double().numpy()) & inside.numpy(), found.numpy() > 0
            true[shares].append(2 * (truth & got).sum() / (truth.sum() + got.sum()))
            pieces[shares] += ndimage.label(got)[1]
            volume += [got.sum() / truth.sum()] if shares else []
    assert np.mean(true[True]) > np.mean(true[False]) + 0.015
    assert pieces[True] <= pieces[False]
    assert np.mean(volume) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("wrong", [{"elastic": 1.5}, {"elastic_mm": -1.0}, {"elastic_distance_mm": 10.0}])
def test_what_would_fold_or_is_no_chance_is_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match=r"augmentation\.elastic"):
        Augmentation(**wrong)
