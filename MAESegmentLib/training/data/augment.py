"""Random changes to the geometry of a patch, which is sampled straight from the volume, in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..settings import Augmentation

#: Slices this many times thicker than the pixels are not rotated into each other.
ANISOTROPIC = 3.0
#: Variance of a field of B-splines whose coefficients have variance 1, on average along one axis.
_SPLINE_VARIANCE = 151 / 315
#: How much the background's share of a voxel counts beside a structure's. Equal shares would take a tenth of the volume
#: from a cord of 1.3 voxels' radius; like this it keeps 97 %, and one of 4 voxels gains 1 %.
_BACKGROUND = 0.85


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
        if settings.stretch > 1:  # else nothing is drawn, and runs without it stay what they were
            factors = factors * np.exp(rng.uniform(-1, 1, 3) * math.log(settings.stretch))
        thick = _thick_axis(mm)
        if thick is not None:
            angles[np.arange(3) != thick] = 0.0
            factors[thick] = 1.0
        linear = np.diag(factors / mm) @ rotation(angles) @ np.diag(mm)
        shift = rng.uniform(-1, 1, 3) * settings.shift * np.asarray(patch)
    mirrored = frozenset(axis for axis in settings.flip_axes if rng.random() < 0.5)
    linear[:, sorted(mirrored)] *= -1
    return np.hstack([linear, shift[:, None]]), mirrored


def random_displacement(
    settings: Augmentation, spacing: Sequence[float], patch: Sequence[int], rng: np.random.Generator
) -> np.ndarray | None:
    """(3, D, H, W): how far each voxel of a patch is moved, in voxels of the volume; None for not at all.

    A field of cubic B-splines with coefficients every `elastic_distance_mm`, so smooth, and bounded by the largest of
    them. Nothing is moved across thick slices. Draws nothing from `rng` unless the setting is used.
    """
    if not settings.elastic or rng.random() >= settings.elastic:
        return None
    mm = np.asarray(spacing, dtype=float)
    steps = mm / settings.elastic_distance_mm
    splines = [_splines(rng.random() + np.arange(n) * step) for n, step in zip(patch, steps, strict=True)]
    # Uniform, because normal numbers have no bound.
    largest = math.sqrt(3) * settings.elastic_mm / _SPLINE_VARIANCE**1.5
    field = rng.uniform(-largest, largest, (3, *(spline.shape[1] for spline in splines)))
    for spline in splines:  # each turn contracts the first of the axes that are left, and appends it
        field = np.tensordot(field, spline, (1, 1))
    thick = _thick_axis(mm)
    if thick is not None:
        field[thick] = 0.0
    moved: np.ndarray = field / mm[:, None, None, None]
    return moved


def _splines(places: np.ndarray) -> np.ndarray:
    """(n, k): weights of the coefficients at -1, 0, 1, ... for rising `places` of 0 or more."""
    away = np.abs(places[:, None] - np.arange(-1, int(places[-1]) + 3))
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clip(min=0) ** 3 / 6
    weights: np.ndarray = np.where(away < 1, near, far)
    return weights


def _thick_axis(spacing: np.ndarray) -> int | None:
    """Across slices that are too thick to be mixed."""
    thick = int(np.argmax(spacing))
    return thick if spacing[thick] > ANISOTROPIC * spacing.min() else None


def sample_patch(
    image: Tensor,
    classes: Tensor | None,
    start: Sequence[int],
    patch: Sequence[int],
    geometry: np.ndarray | None,
    displacement: np.ndarray | None = None,
    *,
    label_shares: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The patch (C, D, H, W) whose first voxel is `start`, its classes (D, H, W), and where it is inside the volume.

    Voxels outside the volume are 0 (the mean), as in inference, and background. Affine map and displacement come from
    one interpolation.
    """
    if geometry is None and displacement is None:
        inside = _crop(torch.ones(image.shape[1:], dtype=torch.bool), start, patch)
        return _crop(image, start, patch), None if classes is None else _crop(classes, start, patch), inside
    grid = _sampling_grid(image.shape[1:], start, patch, np.eye(3, 4) if geometry is None else geometry)
    if displacement is not None:
        half = (np.asarray(image.shape[1:]) - 1).clip(min=1) / 2
        moved_by = (displacement / half[:, None, None, None])[::-1].astype(np.float32)
        grid = grid + torch.from_numpy(moved_by).movedim(0, -1)
    inside = (grid.abs() <= 1).all(-1)[0]
    moved = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    if classes is None:
        return moved, None, inside
    if label_shares:
        return moved, _largest_shares(classes, grid), inside
    nearest = F.grid_sample(classes[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True)
    return moved, nearest[0, 0].to(classes.dtype), inside


def _largest_shares(classes: Tensor, grid: Tensor) -> Tensor:
    """The class with the largest share of each place of `grid`: as from linear interpolation of every class by itself,
    at a cost that does not grow with their number. The background's counts for less, so that what is thin stays."""
    size = torch.tensor(classes.shape)
    place = ((grid[0].flip(-1) + 1) / 2 * (size - 1)).clamp(-torch.ones(3), size.float()).reshape(-1, 3)
    low = place.floor()
    padded = F.pad(classes, (1, 2) * 3)
    stride, corners = torch.tensor(padded.stride()), torch.tensor(list(product((0, 1), repeat=3)))
    first = ((low.long() + 1) * stride).sum(-1)
    values = padded.flatten()[first + (corners * stride).sum(-1)[:, None]]
    result = values[0].clone()
    # Nearly everywhere all eight voxels around are of one class.
    mixed = (values != result).any(0).nonzero()[:, 0]
    values, upper = values[:, mixed], (place - low)[mixed]
    weights = torch.where(corners[:, None] == 1, upper, 1 - upper).prod(-1)
    weights = torch.where(values == 0, _BACKGROUND * weights, weights)
    shares = torch.stack([(weights * (values == one)).sum(0) for one in values])
    result[mixed] = values.gather(0, shares.argmax(0)[None])[0]
    return result.reshape(grid.shape[1:4])


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
