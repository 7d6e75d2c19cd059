"""Restoring a spoilt volume (Models Genesis, arXiv 1908.06912) with nnFormer's own decoder."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MAESegmentLib.networks import NnFormer

from .corruptions import bend_intensities, boxes, draw, draw_whole, noise_like, shuffle_locally
from .task import PretextTask, Pretraining


@dataclass(frozen=True)
class Spoiling:
    """Chances of each change, as published; in-painting and out-painting exclude each other."""

    intensity: float = 0.9
    shuffling: float = 0.5
    painting: float = 0.9
    #: Share of painted images in which boxes are hidden; in the others all but some boxes is.
    in_painting: float = 0.2

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(C, D, H, W) -> the same, spoilt."""
        if draw(generator) < self.shuffling:
            image = shuffle_locally(image, generator)
        if draw(generator) < self.intensity:
            image = bend_intensities(image, generator)
        if draw(generator) < self.painting:
            image = self._paint(image, generator)
        return image

    def _paint(self, image: Tensor, generator: torch.Generator) -> Tensor:
        size, count = image.shape[1:], draw_whole(generator, 1, 5)
        if draw(generator) < self.in_painting:
            hidden = boxes(size, (1 / 6, 1 / 3), count, generator)
        else:
            hidden = ~boxes(size, (3 / 7, 4 / 7), count, generator)
        return torch.where(hidden.to(image.device), noise_like(image, generator), image)


class GenesisTask(PretextTask):
    """Mean squared error of the restored volume, over all voxels.

    Different from the paper: z-scored grey values take the place of values from 0 to 1, so curves and noise span the
    range of each patch; shuffled windows lie side by side from a random start instead of at 10,000 random places, and
    have one size in a patch; mirroring is left to the study's own augmentation.
    """

    def __init__(self, what: Pretraining) -> None:
        encoder = what.autoencoder.encoder
        network = replace(encoder, out_channels=encoder.in_channels, deep_supervision=False)
        super().__init__(NnFormer(network), what)
        self._spoil = Spoiling(**what.options)

    def question(self, model: nn.Module, image: Tensor, generator: torch.Generator) -> Tensor:
        spoilt = torch.stack([self._spoil(one, generator) for one in image])
        return F.mse_loss(model(spoilt).float(), image)


SPOILING_OPTIONS = tuple(f.name for f in fields(Spoiling))
