"""A scan in numbers: its grey values before clipping, what an encoder makes of its most varied window, its extent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..bundle.training_statistics import ScanDescription
from ..preprocessing.grey_values import GreyValues
from ..preprocessing.plan import pad_to
from .windows import WindowPlan

#: (B, C, D, H, W) -> tokens (B, d, h, w, K) of every stage, finest first.
Encode = Callable[[torch.Tensor], Sequence[torch.Tensor]]


def describe_scan(
    grey: GreyValues,
    image: torch.Tensor,
    spacing: Sequence[float] | np.ndarray,
    patch_size: Sequence[int],
    encode: Encode,
    *,
    windows: int = 1,
    device: torch.device | str = "cpu",
) -> ScanDescription:
    """Describe a prepared `image` (C, D, H, W) of `spacing` (mm). Deterministic, and alike on every device."""
    extent = np.array(image.shape[1:]) * np.asarray(spacing, dtype=float)
    return ScanDescription(grey, pooled_features(encode, image, patch_size, windows, device=device), extent)


@torch.no_grad()  # not inference mode, in which autocast casts the weights for every window again
def pooled_features(
    encode: Encode, image: torch.Tensor, patch_size: Sequence[int], count: int, *, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, ...]:
    """Per stage, mean and standard deviation of each channel over the tokens of the `count` most varied windows.

    Tokens beyond the image, where it is smaller than a window, do not count. To tell scans apart, more windows than one
    cost more and bring no more (measured on the models that ship: one, two or four).
    """
    _, offset = pad_to(image, patch_size)
    ends = [start + n if n < size else size for start, n, size in zip(offset, image.shape[1:], patch_size, strict=True)]
    inside = [(s / size, e / size) for s, e, size in zip(offset, ends, patch_size, strict=True)]
    found = [
        [_pooled(tokens, inside) for tokens in encode(window[None].to(device))]
        for window in most_varied(image, patch_size, count)
    ]
    return tuple(np.array(stage) for stage in zip(*found, strict=True))


def most_varied(image: torch.Tensor, patch_size: Sequence[int], count: int) -> list[torch.Tensor]:
    """The `count` windows (C, d, h, w) without overlap whose intensities vary most: not the air around a patient."""
    image, _ = pad_to(image, patch_size)
    d, h, w = (int(n) for n in image.shape[1:])
    pd, ph, pw = patch_size
    patches = [image[(slice(None), *block)] for block in WindowPlan((d, h, w), (pd, ph, pw), overlap=0.0).blocks()]
    return sorted(patches, key=lambda patch: float(patch.var()), reverse=True)[:count]


def _between(start: float, end: float, count: int) -> slice:
    first, last = math.ceil(start * count - 0.5), math.ceil(end * count - 0.5)
    return slice(first, last) if first < last else slice(count // 2, count // 2 + 1)


def _pooled(tokens: torch.Tensor, inside: Sequence[tuple[float, float]]) -> np.ndarray:  # (1, d, h, w, K) -> (2 K,)
    """Over the tokens whose middles lie between the fractions `inside` of each axis, or else the middle one."""
    d, h, w = (_between(*ends, count) for ends, count in zip(inside, tokens.shape[1:4], strict=True))
    flat = tokens[0, d, h, w].flatten(0, -2).float()
    pooled = torch.cat([flat.mean(0), flat.std(0, unbiased=False)])
    result: np.ndarray = pooled.cpu().numpy().astype(float)
    return result
