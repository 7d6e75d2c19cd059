"""Random changes to a patch: geometry sampled straight from the volume in mm, intensities by MONAI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
    RandSimulateLowResolution,
)
from torch import Tensor

from ..settings import Augmentation

#: Slices this many times thicker than the pixels are not rotated into each other.
ANISOTROPIC = 3.0


def intensity_transform(settings: Augmentation) -> Compose:
    """Maps float32 (C, D, H, W), normalised, to the same; seeded by `set_random_state`."""
    sigma = settings.blur_sigma
    return Compose(
        [
            RandGaussianNoise(prob=settings.noise, std=settings.noise_std),
            RandGaussianSmooth(sigma_x=sigma, sigma_y=sigma, sigma_z=sigma, prob=settings.blur),
            RandShiftIntensity(offsets=0.25, prob=settings.brightness),
            RandScaleIntensityFixedMean(factors=0.3, fixed_mean=True, prob=settings.contrast),
            RandSimulateLowResolution(prob=settings.low_resolution, zoom_range=(0.5, 1.0)),
            RandAdjustContrast(prob=settings.gamma, gamma=(0.7, 1.5), retain_stats=True),
        ]
    )


def random_geometry(
    settings: Augmentation, spacing: Sequence[float], patch: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray | None, frozenset[int]]:
    """(3, 4) from patch voxels to volume voxels, both relative to the patch centre, and the axes that it mirrors.

    None stands for the identity. Rotation and scaling act in mm. Thick slices are rotated and scaled in their plane
    only.
    """
    drawn = rng.random()
    if drawn >= settings.affine and not settings.flip_axes:
        return None, frozenset()
    linear, shift = np.eye(3), np.zeros(3)
    if drawn < settings.affine:
        mm = np.asarray(spacing, dtype=float)
        angles = np.radians(rng.uniform(-1, 1, 3) * settings.rotation_degrees)
        factors = np.full(3, np.exp(rng.uniform(*np.log(settings.scale))))
        thick = int(np.argmax(mm))
        if mm[thick] > ANISOTROPIC * mm.min():
            angles[np.arange(3) != thick] = 0.0
            factors[thick] = 1.0
        linear = np.diag(factors / mm) @ rotation(angles) @ np.diag(mm)
        shift = rng.uniform(-1, 1, 3) * settings.shift * np.asarray(patch)
    mirrored = frozenset(axis for axis in settings.flip_axes if rng.random() < 0.5)
    linear[:, sorted(mirrored)] *= -1
    return np.hstack([linear, shift[:, None]]), mirrored


def sample_patch(
    image: Tensor, classes: Tensor | None, start: Sequence[int], patch: Sequence[int], geometry: np.ndarray | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The patch (C, D, H, W) whose first voxel is `start`, its classes (D, H, W), and where it is inside the volume.

    Voxels outside the volume are 0 (the mean), as in inference, and background.
    """
    if geometry is None:
        inside = _crop(torch.ones(image.shape[1:], dtype=torch.bool), start, patch)
        return _crop(image, start, patch), None if classes is None else _crop(classes, start, patch), inside
    grid = _sampling_grid(image.shape[1:], start, patch, geometry)
    inside = (grid.abs() <= 1).all(-1)[0]
    moved = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    if classes is None:
        return moved, None, inside
    nearest = F.grid_sample(classes[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True)
    return moved, nearest[0, 0].to(classes.dtype), inside


def _sampling_grid(shape: Sequence[int], start: Sequence[int], patch: Sequence[int], geometry: np.ndarray) -> Tensor:
    """(1, D, H, W, 3) for `grid_sample` with aligned corners."""
    size, out = np.maximum(np.asarray(shape) - 1, 1), np.asarray(patch) - 1
    centre = np.asarray(start) + out / 2 + geometry[:, 3]
    # Voxels run from 0 to size; grid_sample wants -1 to 1 and the axes in the order W, H, D.
    linear = (2 / size)[:, None] * geometry[:, :3] * (out / 2)[None, :]
    theta = np.hstack([linear[::-1, ::-1], (2 * centre / size - 1)[::-1, None]])
    return F.affine_grid(torch.from_numpy(theta.astype(np.float32))[None], [1, 1, *patch], align_corners=True)


def _crop(volume: Tensor, start: Sequence[int], patch: Sequence[int]) -> Tensor:
    """(..., D, H, W) -> (..., *patch), zero outside; a copy."""
    out = volume.new_zeros((*volume.shape[:-3], *patch))
    spans = list(zip(start, patch, volume.shape[-3:], strict=True))
    d, h, w = (slice(max(first, 0), min(first + length, size)) for first, length, size in spans)
    piece = volume[..., d, h, w]
    d, h, w = (
        slice(max(-first, 0), max(-first, 0) + n) for (first, _, _), n in zip(spans, piece.shape[-3:], strict=True)
    )
    out[..., d, h, w] = piece
    return out


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation by `angles` (radians) about the D, H and W axes in turn."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    about_d = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_h = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_w = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_d @ about_h @ about_w
