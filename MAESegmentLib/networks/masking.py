"""Random masking of an image in units of several voxels. Mask convention everywhere: 1 = masked, 0 = visible."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .cpu_kernels import Triple


def unit_grid(size: Triple, unit: Triple) -> Triple:
    """Units needed to cover `size` voxels; the last one along an axis may reach beyond the image."""
    return tuple(-(-s // u) for s, u in zip(size, unit, strict=True))  # type: ignore[return-value]


def random_unit_mask(
    batch: int, grid: Triple, ratio: tuple[float, float], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """(B, 1, units d, h, w) float; each image has `round(ratio * units)` masked units, its ratio drawn from the range.

    At least one unit is masked and one visible. The draw is made on the CPU, so that a seed gives the same mask on
    every device.
    """
    count = grid[0] * grid[1] * grid[2]
    low, high = ratio
    ratios = low + (high - low) * torch.rand(batch, generator=generator)
    masked = (ratios * count).round().long().clamp(1, max(1, count - 1))
    rank = torch.rand(batch, count, generator=generator).argsort(dim=1).argsort(dim=1)
    return (rank < masked[:, None]).float().view(batch, 1, *grid).to(device)


def expand_mask(mask: Tensor, factor: Triple, size: Triple) -> Tensor:
    """Repeat each unit `factor` times along each axis and cut to `size`: (B, 1, units) -> (B, 1, *size)."""
    for axis, repeats in enumerate(factor):
        mask = mask.repeat_interleave(repeats, dim=2 + axis)
    return mask[:, :, : size[0], : size[1], : size[2]]


def count_masked_voxels(mask: Tensor, unit: Sequence[int], size: Sequence[int]) -> float:
    """Voxels of an image of `size` that lie in masked units of `mask` (B, 1, units), the whole batch together."""
    d, h, w = (
        torch.tensor([min(u, s - first) for first in range(0, s, u)], dtype=torch.float64)
        for s, u in zip(size, unit, strict=True)
    )
    return float(torch.einsum("bcdhw,d,h,w->", mask.double(), d, h, w))


def split_units(volume: Tensor, unit: Triple) -> Tensor:
    """(B, C, D, H, W), sizes multiples of `unit` -> (B, C, units, voxels of a unit)."""
    batch, channels, d, h, w = volume.shape
    ud, uh, uw = unit
    volume = volume.view(batch, channels, d // ud, ud, h // uh, uh, w // uw, uw)
    return volume.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(batch, channels, -1, ud * uh * uw)


def join_units(units: Tensor, unit: Triple, size: Triple) -> Tensor:
    """(B, C, units, voxels) -> (B, C, *size): the inverse of `split_units`."""
    (d, h, w), (ud, uh, uw) = size, unit
    volume = units.view(*units.shape[:2], d // ud, h // uh, w // uw, ud, uh, uw)
    return volume.permute(0, 1, 2, 5, 3, 6, 4, 7).reshape(*units.shape[:2], d, h, w)


def pad_to_units(volume: Tensor, unit: Triple) -> Tensor:
    """Zero-pad (B, C, D, H, W) on the far side to whole units."""
    d, h, w = (-size % u for size, u in zip(volume.shape[2:], unit, strict=True))
    return F.pad(volume, (0, w, 0, h, 0, d)) if d or h or w else volume
