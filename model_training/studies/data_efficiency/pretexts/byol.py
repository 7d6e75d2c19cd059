"""Predicting what a slowly following copy makes of another view (BYOL, arXiv 2006.07733)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import NnFormerConfig
from MAESegmentLib.networks.nnformer import _initialise
from MAESegmentLib.training.data.patches import Batch

from .contrastive import ProjectedEncoder, mlp, with_batch_size
from .deepest import pooled
from .task import PretextTask, Pretraining
from .views import ViewSamples, split_views


@dataclass(frozen=True)
class ByolSettings:
    """`momentum` of the target at the start; it rises to 1 along a cosine.

    The paper starts at 0.996 for 300 epochs of ImageNet; within a few thousand steps that target would hardly move.
    """

    batch_size: int | None = None
    views: int = 2
    momentum: float = 0.99
    projection: int = 128

    def __post_init__(self) -> None:
        if self.views < 2 or not 0 <= self.momentum <= 1:
            raise ConfigurationError("BYOL needs at least 2 views and a momentum from 0 to 1.")


BYOL_OPTIONS = tuple(f.name for f in fields(ByolSettings))


class Byol(nn.Module):
    """`encoder`, `projector` and `predictor` learn; `target` is the moving average of the first two.

    The target is part of the state dict, so that a resumed run continues with the one it had.
    """

    def __init__(self, config: NnFormerConfig, projection: int) -> None:
        super().__init__()
        online = ProjectedEncoder(config, projection)
        self.encoder, self.projector = online.encoder, online.projector
        self.predictor = mlp(projection, 2 * projection, projection)
        self.predictor.apply(_initialise)
        self.target = copy.deepcopy(online).requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, D, H, W) -> predictions and the target's projections, each (N, projection)."""
        prediction = self.predictor(self.projector(pooled(self.encoder(image)[-1])))
        with torch.no_grad():
            return prediction, self.target(image)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the target towards the online weights."""
        followed: list[Tensor] = [*self.encoder.parameters(), *self.projector.parameters()]
        own: list[Tensor] = [*self.target.encoder.parameters(), *self.target.projector.parameters()]
        torch._foreach_lerp_(own, followed, 1 - momentum)


def disagreement(predictions: Tensor, targets: Tensor, views: int) -> Tensor:
    """Mean squared distance on the unit sphere over all ordered pairs of different views of an image; 0 to 4."""
    predicted = F.normalize(predictions.float(), dim=1).unflatten(0, (-1, views))
    wanted = F.normalize(targets.float(), dim=1).unflatten(0, (-1, views))
    cosine = predicted @ wanted.transpose(1, 2)  # (B, views, views)
    other = ~torch.eye(views, dtype=torch.bool, device=cosine.device)
    return (2 - 2 * cosine[:, other]).mean()


class ByolTask(PretextTask):
    """Needs no negatives, so a small batch costs it less than SimCLR; the papers' thousands it was never given here.

    Different from the paper: layer norm for batch norm (that BYOL does without batch statistics: arXiv 2010.10241).
    """

    def __init__(self, what: Pretraining) -> None:
        self._options = ByolSettings(**what.options)
        what = with_batch_size(what, self._options.batch_size)
        model = Byol(what.autoencoder.encoder, self._options.projection)
        super().__init__(model, what, partial(ViewSamples, views=self._options.views))

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        # The last update of the online weights is followed now: the loop calls nothing after it.
        if step > 0:
            assert isinstance(model, Byol)
            model.follow(self.momentum(step))
        return super().loss(model, batch, step)

    def momentum(self, step: int) -> float:
        """From the option's to 1 along a cosine."""
        done = step / self.settings.steps
        return 1 - (1 - self._options.momentum) * (1 + math.cos(math.pi * done)) / 2

    def question(self, model: nn.Module, image: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        predictions, targets = model(split_views(image, self._options.views))
        return disagreement(predictions, targets, self._options.views)
