"""Several views of one patch for contrastive pretexts, as a function of the sample number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from MAESegmentLib.training.data.augment import random_geometry, sample_patch
from MAESegmentLib.training.data.patches import PatchSamples
from MAESegmentLib.training.data.perturbation import change_intensities
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.settings import Augmentation, LoopSettings


def view_augmentation(study: Augmentation) -> Augmentation:
    """Stronger than the study's own: views of one patch must not be recognisable as a pair by grey values or place.

    A view shows half to all of the patch's extent; it is mirrored only where the study mirrors.
    """
    return replace(
        study,
        affine=1.0,
        scale=(0.5, 1.0),
        shift=0.2,
        noise=0.5,
        blur=0.5,
        brightness=0.8,
        contrast=0.8,
        low_resolution=0.3,
        gamma=0.5,
    )


class ViewSamples(PatchSamples):
    """Sample n: `views` crops of the patch that every other pretext gets as sample n, stacked along the channels."""

    def __init__(
        self, cases: Sequence[PreparedCase], patch_size: Sequence[int], settings: LoopSettings, views: int = 2
    ) -> None:
        # The patch itself stays as it is, so that a view is resampled once only.
        super().__init__(cases, patch_size, replace(settings, augmentation=Augmentation.none()))
        self.views = views
        self._augmentation = view_augmentation(settings.augmentation)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor | None, str]:
        """Views (views * C, D, H, W), no classes, case id."""
        patch, _, case_id = super().__getitem__(number)
        epoch, position = divmod(number, len(self.cases))
        spacing = self.cases[self._order(epoch)[position]].spacing
        rng = np.random.default_rng((self.settings.seed, 7, number))
        return torch.cat([self._view(patch, spacing, rng) for _ in range(self.views)]), None, case_id

    def _view(self, patch: Tensor, spacing: Sequence[float], rng: np.random.Generator) -> Tensor:
        geometry, _ = random_geometry(self._augmentation, spacing, self.patch_size, rng)
        view, _, inside = sample_patch(patch, None, (0, 0, 0), self.patch_size, geometry)
        return change_intensities(view, self._augmentation, int(rng.integers(2**31))) * inside


def split_views(image: Tensor, views: int) -> Tensor:
    """(B, views * C, D, H, W) -> (B * views, C, D, H, W), the views of an image next to each other."""
    return image.unflatten(1, (views, -1)).flatten(0, 1)
