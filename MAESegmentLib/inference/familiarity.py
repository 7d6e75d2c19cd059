"""How well a model's masked autoencoder knows a scan: high reconstruction error means unlike the training scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def familiarity(
    bundle: HasAutoencoder, image: torch.Tensor, *, device: torch.device | str = "cpu", windows: int = 4, masks: int = 2
) -> Familiarity | None:
    """Compare a prepared image (C, D, H, W) with the training scans of `bundle`; None if it keeps no autoencoder."""
    percentiles = (bundle.spec.reconstruction_error or {}).get("percentiles")
    autoencoder = bundle.load_autoencoder() if percentiles else None
    if not percentiles or autoencoder is None:
        return None
    patch_size = bundle.spec.preprocessing.patch_size
    error = reconstruction_error(autoencoder.to(device), image, patch_size, device=device, windows=windows, masks=masks)
    return Familiarity(error, _judge(error, percentiles))


@torch.inference_mode()
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
    limits = sorted((float(name), float(value)) for name, value in percentiles.items())
    exceeded = [(name, value) for name, value in limits if name >= 95 and error > value]
    if not exceeded:
        return None
    name, value = exceeded[-1]
    unlike = "unlike" if name >= 99 else "unusual among"
    return (
        f"This scan is {unlike} the training scans: its reconstruction error {error:.3g} is above their "
        f"{name:g}th percentile ({value:.3g}). Check the result with care."
    )
