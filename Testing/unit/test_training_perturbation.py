"""Changes of grey values and the Dice loss are MONAI's, which trainings do without because its import takes long."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai import transforms
from monai.losses import DiceLoss

from MAESegmentLib.training.data.perturbation import change_intensities
from MAESegmentLib.training.settings import Augmentation
from MAESegmentLib.training.tasks.losses import SegmentationLoss

USUAL = Augmentation()
ALL = replace(USUAL, noise=1.0, blur=1.0, brightness=1.0, contrast=1.0, low_resolution=1.0, gamma=1.0)


def of_monai(settings: Augmentation) -> transforms.Compose:
    sigma = settings.blur_sigma
    return transforms.Compose(
        [
            transforms.RandGaussianNoise(prob=settings.noise, std=settings.noise_std),
            transforms.RandGaussianSmooth(sigma_x=sigma, sigma_y=sigma, sigma_z=sigma, prob=settings.blur),
            transforms.RandShiftIntensity(offsets=0.25, prob=settings.brightness),
            transforms.RandScaleIntensityFixedMean(factors=0.3, fixed_mean=True, prob=settings.contrast),
            transforms.RandSimulateLowResolution(prob=settings.low_resolution, zoom_range=(0.5, 1.0)),
            transforms.RandAdjustContrast(prob=settings.gamma, gamma=(0.7, 1.5), retain_stats=True),
        ]
    )


@pytest.mark.parametrize("settings", [USUAL, ALL], ids=["usual", "all"])
def test_changes_are_those_of_monai_to_the_bit(settings: Augmentation) -> None:
    reference = of_monai(settings)
    changed = 0
    for seed in range(60):
        patch = torch.randn(1 + seed % 2, 9 + seed % 3, 12, 10, generator=torch.Generator().manual_seed(seed))
        reference.set_random_state(seed=seed)
        found = change_intensities(patch, settings, seed)
        assert torch.equal(found, torch.as_tensor(reference(patch)).as_subclass(torch.Tensor)), seed
        changed += not torch.equal(found, patch)
    assert changed > 20


def test_nothing_is_changed_where_that_is_chosen() -> None:
    patch = torch.randn(1, 8, 8, 8)
    assert change_intensities(patch, Augmentation.none(), 1) is patch


def test_dice_is_that_of_monai_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (2, 1, 8, 9, 7), generator=generator)
    scores = torch.randn(2, 3, 8, 9, 7, generator=generator).log_softmax(1)
    truth = torch.nn.functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float()
    dice = DiceLoss(include_background=False, batch=True)(scores.log_softmax(1).exp(), truth)
    assert float(SegmentationLoss()(scores, classes, share=(1.0, 0.0))) == float(dice)
