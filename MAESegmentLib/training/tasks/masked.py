"""Masked autoencoding as a task of the loop, and what it learnt as a picture and as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...inference.familiarity import most_varied
from ...networks import MaskedAutoencoder
from ...networks.masking import count_masked_voxels, random_unit_mask, unit_grid
from ...preprocessing.plan import pad_to
from ..data.drawing import Drawing
from ..data.patches import Batch, PatchSamples, batches
from ..data.prepared import PreparedCase
from ..data.streaming import Stream
from ..loop.distributed import SOLO, Team, seed_of
from ..loop.optimiser import parameter_groups
from ..saving import png
from ..settings import PretrainSettings

#: Held-out images whose reconstruction is followed while training.
MAX_FOLLOWED = 16
PERCENTILES = (5, 25, 50, 75, 95, 99)


class MaskedTask:
    """Train a masked autoencoder on `training`, watch its error on `held_out`."""

    def __init__(
        self,
        model: MaskedAutoencoder,
        training: Sequence[PreparedCase],
        held_out: Sequence[PreparedCase],
        patch_size: Sequence[int],
        settings: PretrainSettings,
        identity: str = "",
        team: Team = SOLO,
        drawing: Drawing | None = None,
        stream: Stream | None = None,
    ) -> None:
        """`drawing` says how images are drawn where `training` holds tissues; a `stream` takes the place of both."""
        self.model: nn.Module = model
        self.team = team
        self.held_out = held_out[:MAX_FOLLOWED]
        self.patch_size = tuple(patch_size)
        self.settings = settings
        self.identity = identity
        self._samples = PatchSamples(training, patch_size, settings, drawing=drawing)
        self._stream = stream

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.model, self.settings)

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        if self._stream is not None:
            return self._stream.batches(first_step, device)
        return batches(self._samples, first_step, device, self.team)

    def loss(self, model: nn.Module, batch: Batch, step: int, of: Sequence[float] | None = None) -> Tensor:
        mask = self._mask(batch, step)
        loss: Tensor = model(batch.image, mask.to(batch.image.device)).loss
        return loss if of is None else loss * (self._masked_voxels(batch, mask) / of[0])

    def amounts(self, batch: Batch, step: int) -> list[float]:
        """Masked voxels, over which the error is averaged."""
        return [self._masked_voxels(batch, self._mask(batch, step))]

    def _mask(self, batch: Batch, step: int) -> Tensor:
        assert isinstance(self.model, MaskedAutoencoder)
        generator = torch.Generator().manual_seed(seed_of(self.settings, step, batch.part))
        return self.model.draw_mask(batch.image.shape, generator)

    def _masked_voxels(self, batch: Batch, mask: Tensor) -> float:
        assert isinstance(self.model, MaskedAutoencoder)
        return count_masked_voxels(mask, self.model.config.unit, batch.image.shape[2:])

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        if not self.held_out:
            return {}
        errors = reconstruction_errors(
            model, self.held_out, self.patch_size, device, windows=1, masks=1, team=self.team
        )
        error = float(np.mean(errors))
        return {"reconstruction error": error, "score": -error}


def reconstruction_errors(
    model: nn.Module,
    cases: Sequence[PreparedCase],
    patch_size: Sequence[int],
    device: torch.device,
    *,
    windows: int = 4,
    masks: int = 2,
    team: Team = SOLO,
) -> list[float]:
    """Per case; the `team` shares them out."""

    def error(case: PreparedCase) -> float:
        assert isinstance(model, MaskedAutoencoder)
        image = torch.from_numpy(case.image)
        return reconstruction_error(model, image, patch_size, device=device, windows=windows, masks=masks)

    return team.map(error, cases)


@torch.no_grad()
def reconstruction_error(
    autoencoder: MaskedAutoencoder,
    image: Tensor,
    patch_size: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    windows: int = 4,
    masks: int = 2,
    seed: int = 0,
) -> float:
    """Mean masked error over the `windows` most varied windows of a prepared image and `masks` random masks each.

    Deterministic, and the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    autoencoder.eval()
    ratio = sum(autoencoder.config.ratio_range) / 2  # one ratio, as the error grows with it
    total = 0.0
    patches = most_varied(image, patch_size, windows)
    for patch in patches:
        batch = patch.expand(masks, *patch.shape)
        d, h, w = patch.shape[1:]
        grid = unit_grid((d, h, w), autoencoder.config.unit)
        mask = random_unit_mask(masks, grid, (ratio, ratio), torch.device("cpu"), generator)
        total += float(autoencoder(batch.to(device), mask.to(device)).loss)
    return total / len(patches)


def error_statistics(errors: Sequence[float], of: str) -> dict[str, Any]:
    """For the bundle: mean and percentiles of per-image errors."""
    return {
        "images": len(errors),
        "of": of,
        "mean": float(np.mean(errors)),
        "percentiles": {str(p): float(np.percentile(errors, p)) for p in PERCENTILES},
    }


def reconstruction_figure(
    model: MaskedAutoencoder, cases: Sequence[PreparedCase], patch_size: Sequence[int], device: torch.device
) -> bytes:
    """PNG, one row a case: the middle slice of a central patch, original, masked and reconstructed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.6 * len(cases)), layout="constrained")
    axes = figure.subplots(len(cases), 3, squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        patch = _central_patch(torch.from_numpy(case.image), patch_size)[None].to(device)
        result = model.eval().reconstruct(patch, generator=torch.Generator().manual_seed(0))
        low, high = (float(v) for v in np.percentile(patch.cpu().numpy(), [1, 99]))
        images = (result.original, result.masked, result.reconstructed)
        for ax, image, title in zip(row, images, ("original", "masked", "reconstructed"), strict=True):
            plane = image[0, 0].float().cpu().numpy()
            shown = np.where(result.mask[0, 0].cpu().numpy() > 0, low, plane) if title == "masked" else plane
            ax.imshow(_middle(shown), cmap="gray", vmin=low, vmax=high)
            ax.set_title(title, fontsize=9)
            ax.set_axis_off()
    return png(figure)


def _central_patch(image: Tensor, patch_size: Sequence[int]) -> Tensor:
    padded, _ = pad_to(image, patch_size)
    starts = [(size - patch) // 2 for size, patch in zip(padded.shape[1:], patch_size, strict=True)]
    d, h, w = (slice(start, start + patch) for start, patch in zip(starts, patch_size, strict=True))
    return padded[:, d, h, w]


def _middle(volume: np.ndarray) -> np.ndarray:
    """The slice across the shortest axis, upright for RAS-like orders."""
    axis = int(np.argmin(volume.shape))
    return np.rot90(volume.take(volume.shape[axis] // 2, axis=axis))
