"""Dice + cross-entropy over every output of a deeply supervised network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.prepared import IGNORED


class SegmentationLoss(nn.Module):
    """Soft Dice over the foreground, pooled over the batch, plus cross-entropy; ignored voxels count in neither.

    Labels that were not annotated in a case are one with the background there: only their sum is asked for (marginal
    loss; Fang and Yan, IEEE TMI 39:3619, 2020). Outputs coarser than the target are compared with the nearest of its
    voxels; `weights` are per output, finest first.
    """

    def __init__(self, weights: Sequence[float] = (4 / 7, 2 / 7, 1 / 7)) -> None:
        super().__init__()
        self.weights = tuple(weights)

    def forward(
        self,
        outputs: Tensor | Sequence[Tensor],
        classes: Tensor,
        unknown: Tensor | None = None,
        share: tuple[float, float] = (1.0, 1.0),
    ) -> Tensor:
        """Logits (B, K, D, H, W), one or several sizes; `classes` int64 (B, 1, D, H, W) -> scalar.

        `unknown` bool (B, K) marks the channels that were not annotated in a sample. `share` is how much of a larger
        batch this is: of its samples (for Dice) and of its voxels (for cross-entropy).
        """
        levels = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        weights = self.weights[: len(levels)]
        losses = [
            w * self._one(logits.float(), classes, unknown, share) for w, logits in zip(weights, levels, strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)

    def _one(self, logits: Tensor, classes: Tensor, unknown: Tensor | None, share: tuple[float, float]) -> Tensor:
        if logits.shape[2:] != classes.shape[2:]:
            classes = F.interpolate(classes.float(), size=logits.shape[2:], mode="nearest").long()
        known = classes != IGNORED
        truth = F.one_hot(torch.where(known, classes, 0)[:, 0], logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        scores = logits.log_softmax(1)
        if unknown is not None and bool(unknown.any()):
            scores = _merged(scores, unknown)
        dice = _dice_loss(scores.exp() * known, truth * known)
        entropy = F.nll_loss(scores, classes[:, 0], ignore_index=IGNORED, reduction="sum")
        return share[0] * dice + share[1] * (entropy / known.sum().clamp(min=1))


def _dice_loss(chances: Tensor, truth: Tensor) -> Tensor:
    """Both (B, K, D, H, W); without the background. As MONAI has it, which takes seconds to import.

    Pooled over the batch, because a patch often lacks a label, whose own Dice would be all or nothing.
    """
    chances, truth = chances[:, 1:], truth[:, 1:]
    pooled = (0, 2, 3, 4)
    both = (chances * truth).sum(pooled)
    missed, wrong = truth.sum(pooled) - both, chances.sum(pooled) - both
    return (1 - (2 * both + 1e-5) / (2 * (both + 0.5 * wrong + 0.5 * missed) + 1e-5)).mean()


def _merged(scores: Tensor, unknown: Tensor) -> Tensor:
    """Log-probabilities (B, K, D, H, W) with those of the `unknown` channels (B, K) added to the background's."""
    away = unknown[:, :, None, None, None]
    to_background = away.clone()
    to_background[:, 0] = True
    background = scores.masked_fill(~to_background, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, scores[:, 1:].masked_fill(away[:, 1:], -torch.inf)], dim=1)
