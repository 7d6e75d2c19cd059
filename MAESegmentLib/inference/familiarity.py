"""How well a model's masked autoencoder knows a scan: high reconstruction error means unlike the training scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..transforms.preprocessing import pad_to
from .windows import WindowPlan

if TYPE_CHECKING:
    from ..networks.mae import MaskedAutoencoder


class HasAutoencoder(Protocol):
    """The part of a bundle used here."""

    @property
    def spec(self) -> Any: ...

    def load_autoencoder(self) -> MaskedAutoencoder | None: ...


@dataclass(frozen=True)
class Familiarity:
    """`error` is the masked autoencoder's on this scan; `message` tells a person if the scan is unusual, else None."""

    error: float
    message: str | None


class FamiliarityCheck:
    """Compares prepared images with the training scans of one bundle; its autoencoder is loaded once, when needed."""

    def __init__(self, bundle: HasAutoencoder) -> None:
        self._bundle = bundle
        self._percentiles: Mapping[str, float] = (bundle.spec.reconstruction_error or {}).get("percentiles") or {}

    @cached_property
    def _autoencoder(self) -> MaskedAutoencoder | None:
        return self._bundle.load_autoencoder() if self._percentiles else None

    def __call__(self, image: torch.Tensor, *, device: torch.device | str = "cpu") -> Familiarity | None:
        """`image` is (C, D, H, W); None if the bundle keeps no autoencoder or no errors to compare with."""
        if self._autoencoder is None:
            return None
        patch_size = self._bundle.spec.preprocessing.patch_size
        error = reconstruction_error(self._autoencoder.to(device), image, patch_size, device=device)
        return Familiarity(error, _judge(error, self._percentiles))


@torch.no_grad()  # not inference mode, in which autocast casts the weights for every window again
def reconstruction_error(
    autoencoder: MaskedAutoencoder,
    image: torch.Tensor,
    patch_size: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    windows: int = 4,
    masks: int = 2,
    seed: int = 0,
) -> float:
    """Mean masked error over the `windows` most varied windows of a prepared image and `masks` random masks each.

    Deterministic, and the same on every device: training computes its percentiles with this very function.
    """
    from ..networks.masking import random_unit_mask, unit_grid

    generator = torch.Generator().manual_seed(seed)
    autoencoder.eval()
    ratio = sum(autoencoder.config.ratio_range) / 2  # one ratio, as the error grows with it
    total = 0.0
    patches = _most_varied(image, patch_size, windows)
    for patch in patches:
        batch = patch.expand(masks, *patch.shape)
        d, h, w = patch.shape[1:]
        grid = unit_grid((d, h, w), autoencoder.config.unit)
        mask = random_unit_mask(masks, grid, (ratio, ratio), torch.device("cpu"), generator)
        total += float(autoencoder(batch.to(device), mask.to(device)).loss)
    return total / len(patches)


def _most_varied(image: torch.Tensor, patch_size: Sequence[int], count: int) -> list[torch.Tensor]:
    """The `count` windows (C, d, h, w) without overlap whose intensities vary most: not the air around a patient."""
    image, _ = pad_to(image, patch_size)
    d, h, w = (int(n) for n in image.shape[1:])
    pd, ph, pw = patch_size
    patches = [image[(slice(None), *block)] for block in WindowPlan((d, h, w), (pd, ph, pw), overlap=0.0).blocks()]
    return sorted(patches, key=lambda patch: float(patch.var()), reverse=True)[:count]


def _judge(error: float, percentiles: Mapping[str, float]) -> str | None:
    limit = percentiles.get("99")
    if limit is None or error <= limit:
        return None
    return (
        f"This scan is unlike the training scans: its reconstruction error {error:.3g} is above their 99th percentile "
        f"({limit:.3g}). Check the result with care."
    )
