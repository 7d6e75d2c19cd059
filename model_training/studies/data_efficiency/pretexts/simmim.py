"""Masked volume modelling with dense mask tokens and a one-layer head (SimMIM, arXiv 2111.09886)."""

from __future__ import annotations

import torch
from torch import Tensor

from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder

from .deepest import DeepestHead


class SimMim(MaskedAutoencoder):
    """As the paper: mask tokens among the encoder's tokens, a linear layer on the deepest stage, L1 on what is masked.

    Different from it: masked voxels are zeroed too, because nnFormer's overlapping stem would leak them; the mask unit
    and ratio are those of the study's masked autoencoder, so that only decoder and loss tell the two apart. The norms
    of the skips get no gradient, as nothing but the deepest stage is read.
    """

    def __init__(self, config: MaeConfig) -> None:
        super().__init__(config)
        self.decoder = DeepestHead(config.encoder)

    def predict(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Prediction for every voxel of an image of whole units."""
        return self.decoder(self.encode(padded, mask)[-1], (padded.shape[2], padded.shape[3], padded.shape[4]))

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Absolute instead of squared differences."""
        return torch.abs(prediction - target)
