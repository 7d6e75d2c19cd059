"""Random changes to the grey values of a patch.

They are MONAI's, tested to be equal; MONAI itself is not imported, because that takes 2.5 s of the 4 s in which a
training starts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import Tensor

from ..settings import Augmentation

#: Of a patch (C, D, H, W).
Change = Callable[[Tensor, RandomState], Tensor]


def change_intensities(patch: Tensor, settings: Augmentation, seed: int) -> Tensor:
    """float32 (C, D, H, W), normalised, to the same; a function of `seed` alone."""
    changes: tuple[tuple[float, Change], ...] = (
        (settings.noise, partial(_noise, most=settings.noise_std)),
        (settings.blur, partial(_blur, sigmas=settings.blur_sigma)),
        (settings.brightness, lambda patch, rng: patch + rng.uniform(-0.25, 0.25)),
        (settings.contrast, _contrast),
        (settings.low_resolution, _low_resolution),
        (settings.gamma, _gamma),
    )
    seeds = RandomState(seed)
    for probability, change in changes:
        rng = RandomState(seeds.randint(2**32, dtype="uint32"))
        if rng.rand() < probability:
            patch = change(patch, rng)
    return patch


def _noise(patch: Tensor, rng: RandomState, most: float) -> Tensor:
    return patch + torch.from_numpy(rng.normal(0.0, rng.uniform(0, most), tuple(patch.shape))).float()


def _blur(patch: Tensor, rng: RandomState, sigmas: tuple[float, float]) -> Tensor:
    kernels = [_gaussian(rng.uniform(*sigmas)) for _axis in range(3)]
    d, h, w = (len(kernel) // 2 for kernel in kernels)
    blurred = F.pad(patch[:, None], (w, w, h, h, d, d))
    for axis, kernel in enumerate(kernels):
        shape = [1] * 5
        shape[2 + axis] = -1
        blurred = F.conv3d(blurred, kernel.reshape(shape))
    return blurred[:, 0]


def _gaussian(sigma: float) -> Tensor:
    """Its share of each voxel of a line, up to four `sigma` away."""
    tail = int(max(4.0 * sigma, 0.5) + 0.5)
    places = torch.arange(-tail, tail + 1, dtype=torch.float)
    scale = 0.70710678 / torch.tensor(sigma)
    return 0.5 * ((scale * (places + 0.5)).erf() - (scale * (places - 0.5)).erf()).clamp(min=0)


def _contrast(patch: Tensor, rng: RandomState) -> Tensor:
    mean = patch.mean()
    return (patch - mean) * (1 + rng.uniform(-0.3, 0.3)) + mean


def _low_resolution(patch: Tensor, rng: RandomState) -> Tensor:
    shape, zoom = patch.shape[1:], rng.uniform(0.5, 1.0)
    coarse = F.interpolate(patch[None], size=[max(1, round(size * zoom)) for size in shape], mode="nearest")
    return F.interpolate(coarse, size=shape, mode="trilinear", align_corners=False)[0]


def _gamma(patch: Tensor, rng: RandomState) -> Tensor:
    """Mean and standard deviation stay."""
    lowest = patch.min()
    extent = patch.max() - lowest
    bent = ((patch - lowest) / float(extent + 1e-7)) ** rng.uniform(0.7, 1.5) * extent + lowest
    bent = bent - bent.mean()
    return patch.std() * (bent / (bent.std() + 1e-8)) + patch.mean()
