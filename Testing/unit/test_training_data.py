"""Patches depend on the seed and the sample number alone, hold what they should, and stay within the memory budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MAESegmentLib.training.data.augment import random_geometry, sample_patch
from MAESegmentLib.training.data.patches import PatchSamples, ahead, batches
from MAESegmentLib.training.data.prepared import CaseCache
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings
from Testing.datasets import prepared_case

PATCH = (12, 12, 12)
CPU = torch.device("cpu")


def samples(augmentation: Augmentation | None = None, foreground: float = 0.5, **changes: object) -> PatchSamples:
    settings = FineTuneSettings(steps=8, augmentation=augmentation or Augmentation(), **changes)  # type: ignore[arg-type]
    return PatchSamples([prepared_case(f"case{n}", seed=n) for n in range(3)], PATCH, settings, foreground)


def test_sample_is_the_same_whatever_came_before() -> None:
    first, second = samples(), samples()
    for number in (0, 1, 2, 3):
        first[number]
    image, classes, name = first[5]
    again, classes_again, name_again = second[5]
    assert torch.equal(image, again)
    assert torch.equal(classes, classes_again)
    assert name == name_again


def test_patches_are_plain_tensors() -> None:
    """MONAI's own class would come along through every operation of the network and slow it."""
    image, classes, _ = samples()[0]
    assert type(image) is type(classes) is torch.Tensor


def test_worker_processes_make_the_same_batches_as_the_background_thread() -> None:
    threaded = list(batches(samples(), 3, CPU))
    processed = list(batches(samples(num_workers=1), 3, CPU))
    assert len(threaded) == len(processed) == 5
    for a, b in zip(threaded, processed, strict=True):
        assert torch.equal(a.image, b.image)
        assert a.case_ids == b.case_ids


def test_every_case_comes_once_before_any_comes_again() -> None:
    made = samples()
    names = [made[number][2] for number in range(6)]
    assert sorted(names[:3]) == sorted(names[3:]) == ["case0", "case1", "case2"]


def test_foreground_patches_hold_a_label() -> None:
    made = samples(Augmentation.none(), foreground=1.0)
    assert all(int(made[number][1].max()) > 0 for number in range(12))


def test_both_labels_are_drawn_equally_often_as_centres() -> None:
    made = samples(Augmentation.none(), foreground=1.0)
    middles = [int(made[number][1][0, 6, 6, 6]) for number in range(60)]
    assert 10 < middles.count(1) < 50
    assert 10 < middles.count(2) < 50


def test_small_volume_lies_in_the_middle_of_the_patch_as_in_inference() -> None:
    case = prepared_case(shape=(20, 24, 18))
    made = PatchSamples([case], (24, 24, 21), FineTuneSettings(steps=1, augmentation=Augmentation.none()), 1.0)
    image, classes, _ = made[0]
    assert torch.equal(image[:, 2:22, :, 1:19], torch.from_numpy(case.image))
    assert image[:, :2].abs().sum() == 0
    assert image[:, 22:].abs().sum() == 0
    assert int((classes > 0).sum()) == int((case.classes > 0).sum())


def test_intensity_changes_leave_the_outside_of_the_volume_at_zero() -> None:
    always = Augmentation(affine=0, noise=1, blur=1, brightness=1, contrast=1, low_resolution=1, gamma=1)
    made = PatchSamples([prepared_case()], (24, 24, 24), FineTuneSettings(steps=1, augmentation=always))
    image = made[0][0]
    assert image[:, :2].abs().sum() == 0
    assert torch.isfinite(image).all()


def test_default_augmentation_never_mirrors() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        geometry, _ = random_geometry(Augmentation(affine=1.0), (1, 1, 1), PATCH, rng)
        assert np.linalg.det(geometry[:, :3]) > 0


def test_allowed_axes_are_mirrored_about_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    settings = Augmentation(affine=0.0, flip_axes=(1,))
    drawn = [random_geometry(settings, (1, 1, 1), PATCH, rng) for _ in range(100)]
    assert all((geometry[1, 1] < 0) == (mirrored == {1}) for geometry, mirrored in drawn)
    assert 30 < sum(bool(mirrored) for _, mirrored in drawn) < 70


def test_rotation_keeps_lengths_in_mm_on_anisotropic_voxels() -> None:
    spacing = np.array([1.0, 1.5, 2.5])
    settings = Augmentation(affine=1.0, scale=(1.0, 1.0), rotation_degrees=30.0)
    geometry, _ = random_geometry(settings, spacing, PATCH, np.random.default_rng(1))
    in_mm = np.diag(spacing) @ geometry[:, :3] @ np.diag(1 / spacing)
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-9)


def test_axes_are_stretched_against_each_other() -> None:
    settings = Augmentation(affine=1.0, scale=(1.0, 1.0), rotation_degrees=0.0, stretch=1.2)
    rng = np.random.default_rng(3)
    factors = np.array([np.diag(random_geometry(settings, (1.0, 1.5, 2.5), PATCH, rng)[0][:, :3]) for _ in range(200)])
    assert 1 / 1.2 <= factors.min() < 0.86
    assert 1.17 < factors.max() <= 1.2
    assert abs(np.corrcoef(factors.T)[~np.eye(3, dtype=bool)]).max() < 0.3


def test_thick_slices_are_not_mixed() -> None:
    settings = Augmentation(affine=1.0, stretch=1.2)
    geometry, _ = random_geometry(settings, (10.0, 1.4, 1.4), PATCH, np.random.default_rng(2))
    np.testing.assert_allclose(geometry[0, :3], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(geometry[1:, 0], 0, atol=1e-12)


@pytest.mark.parametrize("start", [(3, 4, 2), (-4, -2, 0), (10, 15, 9)])
def test_identity_geometry_samples_the_plain_crop(start: tuple[int, int, int]) -> None:
    case = prepared_case()
    volume, classes = torch.from_numpy(case.image), torch.from_numpy(case.classes)
    plain = sample_patch(volume, classes, start, PATCH, None)
    moved = sample_patch(volume, classes, start, PATCH, np.hstack([np.eye(3), np.zeros((3, 1))]))
    torch.testing.assert_close(plain[0], moved[0], atol=1e-4, rtol=0)
    assert torch.equal(plain[1], moved[1])


def test_image_and_classes_move_together() -> None:
    case = prepared_case()
    made = PatchSamples(
        [case], PATCH, FineTuneSettings(steps=1, augmentation=replace(Augmentation.none(), affine=1)), 1
    )
    for number in range(8):
        image, classes, _ = made[number]
        if int((classes == 1).sum()) > 20:
            assert float(image[classes == 1].mean()) > 1.0


def test_cases_beyond_the_budget_are_read_from_disk_and_said_so(tmp_path: Path) -> None:
    cases = [prepared_case(f"case{n}", seed=n) for n in range(3)]
    cache = CaseCache(1.5 * cases[0].bytes / 1e9, tmp_path)
    for case in cases:
        cache.add(case)
    assert cache.in_memory <= cache.budget
    assert "exceed the budget" in cache.describe()
    for kept, case in zip(cache, cases, strict=True):
        np.testing.assert_array_equal(kept.image, case.image)
        np.testing.assert_array_equal(kept.classes, case.classes)
    on_disk = PatchSamples(list(cache), PATCH, FineTuneSettings(steps=1))
    in_memory = PatchSamples(cases, PATCH, FineTuneSettings(steps=1))
    assert torch.equal(on_disk[1][0], in_memory[1][0])


def test_error_on_the_background_thread_reaches_the_consumer() -> None:
    def broken():
        yield 1
        raise ValueError("from the thread")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="from the thread"):
        next(items)
