"""Draw images of any contrast and resolution from maps of tissues, so that a network can learn without images.

After SynthSeg: Billot et al., Medical Image Analysis 86:102789 (2023). A map is deformed, every tissue gets a grey
value and a spread of its own, and the image is made as blurred, biased, coarse and noisy as scanners make them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...preprocessing.intensity import IntensityRecipe
from ...preprocessing.plan import Preprocessing
from ..settings import LoopSettings, Synthesis
from .augment import rotation
from .prepared import PreparedCase, places_of

#: Tissue 0 is what surrounds the body.
OUTSIDE = 0
_TISSUES = 256
#: Seeds of images that are drawn once, to be held out.
_HELD_OUT = 13


@dataclass(frozen=True)
class Drawing:
    """Draws cases whose `image` is a map of tissues, uint8 (1, D, H, W), as a scanner and `intensity` make them."""

    synthesis: Synthesis
    intensity: IntensityRecipe

    @classmethod
    def of(cls, settings: LoopSettings, preprocessing: Preprocessing) -> Drawing | None:
        """None unless `settings` ask for images that are drawn."""
        return None if settings.synthesis is None else cls(settings.synthesis, preprocessing.intensity)

    def draw(self, case: PreparedCase, seed: Sequence[int]) -> PreparedCase:
        """`case` with an image float32 (1, D, H, W), and classes that lie where the tissues were moved to."""
        rng = np.random.default_rng(tuple(seed))
        tissues = torch.from_numpy(case.image[0])
        labels = None if case.classes is None else torch.from_numpy(case.classes)
        grey, moved = draw(self.synthesis, tissues, labels, case.spacing, rng)
        image = self.intensity.apply(self._on_scale(grey.numpy())[None])
        if moved is None:
            return replace(case, image=image)
        classes = moved.numpy()
        return replace(case, image=image, classes=classes, places=places_of(classes))

    def _on_scale(self, grey: np.ndarray) -> np.ndarray:
        """Grey values from 0 to 1 as HU within the window where CT is expected, which would take them for one value."""
        lower, upper = self.intensity.lower, self.intensity.upper
        return lower + (upper - lower) * grey if self.intensity.kind == "ct" else grey

    def held_out(self, cases: Sequence[PreparedCase], settings: LoopSettings) -> list[PreparedCase]:
        """One image of each case, the same whenever it is asked for."""
        return [self.draw(case, (settings.seed, _HELD_OUT, number)) for number, case in enumerate(cases)]


def draw(
    synthesis: Synthesis,
    tissues: Tensor,
    classes: Tensor | None,
    spacing: Sequence[float],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor | None]:
    """An image float32 (D, H, W) with grey values of 0 and more, and its classes, moved as the tissues were.

    `tissues` and `classes` are uint8 (D, H, W) of voxels of `spacing` mm. Every random choice is drawn from `rng`.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    grid = _deformation(synthesis, tissues.shape, spacing, rng, generator)
    tissues = _nearest(tissues, grid)
    classes = None if classes is None else _nearest(classes, grid)
    if synthesis.strip and rng.random() < synthesis.strip:
        keep = torch.zeros(_TISSUES, dtype=torch.bool)
        keep[list(synthesis.inner)] = True
        tissues = torch.where(keep[tissues.long()], tissues, OUTSIDE)
    image = _grey_values(synthesis, tissues, rng, generator)
    image = _blurred(image, [rng.uniform(*synthesis.blur_mm) / mm for mm in spacing])
    image = image * _smooth(tissues.shape, spacing, synthesis.bias_distance_mm, generator).mul(
        rng.uniform(0, synthesis.bias)
    ).exp_().squeeze(0)
    if rng.random() < synthesis.thick_slices:
        image = _with_thick_slices(synthesis, image, spacing, rng)
    image = image + rng.uniform(*synthesis.noise) * torch.randn(image.shape, generator=generator)
    image = (image / image.max().clamp(min=1e-6)).clamp(min=0)
    return image.pow(math.exp(rng.uniform(-synthesis.gamma, synthesis.gamma))), classes


def _deformation(
    synthesis: Synthesis,
    shape: Sequence[int],
    spacing: Sequence[float],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Tensor:
    """(1, D, H, W, 3) for `grid_sample` with aligned corners: an affine map about the centre, and a smooth one."""
    mm = np.asarray(spacing, dtype=float)
    factors = np.exp(rng.uniform(math.log(synthesis.scale[0]), math.log(synthesis.scale[1]), 3))
    angles = np.radians(rng.uniform(-1, 1, 3) * synthesis.rotation_degrees)
    linear = np.diag(1 / mm) @ rotation(angles) @ np.diag(factors * mm)
    half = (np.asarray(shape) - 1).clip(min=1) / 2
    # In grid_sample's units, half the extent of an axis is 1, and axes come in the order W, H, D.
    theta = np.diag(1 / half) @ linear @ np.diag(half)
    affine = np.hstack([theta[::-1, ::-1], np.zeros((3, 1))]).astype(np.float32)
    grid = F.affine_grid(torch.from_numpy(affine)[None], [1, 1, *shape], align_corners=True)
    deviation = rng.uniform(*synthesis.elastic_mm)
    if deviation > 0:
        moved = _smooth(shape, spacing, synthesis.elastic_distance_mm, generator, channels=3)
        scale = torch.from_numpy((deviation / mm / half).astype(np.float32))
        grid = grid + (moved * scale[:, None, None, None]).flip(0).movedim(0, -1)[None]
    return grid


def _smooth(
    shape: Sequence[int], spacing: Sequence[float], distance: float, generator: torch.Generator, channels: int = 1
) -> Tensor:
    """Normal noise (channels, D, H, W) that changes over `distance` mm."""
    d, h, w = (max(2, round(n * mm / distance) + 1) for n, mm in zip(shape, spacing, strict=True))
    coarse = torch.randn(1, channels, d, h, w, generator=generator)
    return F.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0]


def _nearest(volume: Tensor, grid: Tensor) -> Tensor:
    moved = F.grid_sample(volume[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True)
    return moved[0, 0].to(volume.dtype)


def _grey_values(synthesis: Synthesis, tissues: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    means, spreads = rng.uniform(0, 1, _TISSUES), rng.uniform(*synthesis.spread, _TISSUES)
    if rng.random() < synthesis.black_outside:
        means[OUTSIDE] = spreads[OUTSIDE] = 0.0
    index = tissues.long()
    mean, spread = (torch.from_numpy(table.astype(np.float32))[index] for table in (means, spreads))
    return (mean + spread * torch.randn(mean.shape, generator=generator)).clamp_(min=0)


def _blurred(image: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Gaussian of `sigmas` voxels along D, H and W."""
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.1:
            continue
        reach = max(1, round(3 * sigma))
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        padding = [0, 0, 0]
        padding[axis] = reach
        # Beyond the border the image is black, as it does outside the body.
        image = F.conv3d(image[None, None], (kernel / kernel.sum()).view(shape), padding=padding)[0, 0]
    return image


def _with_thick_slices(
    synthesis: Synthesis, image: Tensor, spacing: Sequence[float], rng: np.random.Generator
) -> Tensor:
    """As if it had been scanned in slices across one axis and resampled to its grid."""
    axis, thickness = int(rng.integers(3)), float(rng.uniform(*synthesis.slice_mm))
    if thickness <= spacing[axis]:
        return image
    sigmas = [0.0, 0.0, 0.0]
    # A slice's profile of half height `thickness`, somewhat narrower, since profiles are steeper than a Gaussian.
    sigmas[axis] = 0.75 * thickness / spacing[axis] / (2 * math.sqrt(2 * math.log(2)))
    coarse = list(image.shape)
    coarse[axis] = max(2, round(image.shape[axis] * spacing[axis] / thickness))
    slices = F.interpolate(_blurred(image, sigmas)[None, None], size=coarse, mode="trilinear", align_corners=False)
    return F.interpolate(slices, size=tuple(image.shape), mode="trilinear", align_corners=False)[0, 0]
