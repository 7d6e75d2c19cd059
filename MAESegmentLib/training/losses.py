"""Dice + cross-entropy over every output of a deeply supervised network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from .prepared import IGNORED


class SegmentationLoss(nn.Module):
    """Soft Dice over the foreground, pooled over the batch, plus cross-entropy; ignored voxels count in neither.

    Outputs coarser than the target are compared with the nearest of its voxels; `weights` are per output, finest first.
    """

    def __init__(self, weights: Sequence[float] = (4 / 7, 2 / 7, 1 / 7)) -> None:
        super().__init__()
        self.weights = tuple(weights)
        # Pooled over the batch, because a patch often lacks a label, whose own Dice would be all or nothing.
        self.dice = DiceLoss(include_background=False, batch=True)

    def forward(self, outputs: Tensor | Sequence[Tensor], classes: Tensor) -> Tensor:
        """Logits (B, K, D, H, W), one or several sizes; `classes` int64 (B, 1, D, H, W) -> scalar."""
        levels = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        weights = self.weights[: len(levels)]
        losses = [w * self._one(logits.float(), classes) for w, logits in zip(weights, levels, strict=True)]
        return torch.stack(losses).sum() / sum(weights)

    def _one(self, logits: Tensor, classes: Tensor) -> Tensor:
        if logits.shape[2:] != classes.shape[2:]:
            classes = F.interpolate(classes.float(), size=logits.shape[2:], mode="nearest").long()
        known = classes != IGNORED
        truth = F.one_hot(torch.where(known, classes, 0)[:, 0], logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        dice = self.dice(logits.softmax(1) * known, truth * known)
        entropy = F.cross_entropy(logits, classes[:, 0], ignore_index=IGNORED, reduction="sum")
        return dice + entropy / known.sum().clamp(min=1)
