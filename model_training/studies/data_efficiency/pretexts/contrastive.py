"""Telling views of the same patch from those of others (SimCLR, arXiv 2002.05709)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import NnFormerConfig
from MAESegmentLib.networks.nnformer import Encoder, _initialise

from .deepest import pooled
from .task import PretextTask, Pretraining
from .views import ViewSamples, split_views


@dataclass(frozen=True)
class SimClrSettings:
    """`batch_size` in patches, the study's own if None; each gives `views` views, which all count as positives."""

    batch_size: int | None = None
    views: int = 2
    temperature: float = 0.5
    projection: int = 128

    def __post_init__(self) -> None:
        if self.views < 2 or self.temperature <= 0:
            raise ConfigurationError("Contrast needs at least 2 views and a temperature above 0.")


SIMCLR_OPTIONS = tuple(f.name for f in fields(SimClrSettings))


class ProjectedEncoder(nn.Module):
    """Encoder, mean of the deepest tokens, two-layer projection (B, C, D, H, W) -> (B, projection).

    Layer norm stands where the papers have batch norm, whose statistics over a few views are noise.
    """

    def __init__(self, config: NnFormerConfig, projection: int) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.projector = mlp(config.dims[-1], 2 * config.dims[-1], projection)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        return self.projector(pooled(self.encoder(image)[-1]))


def mlp(dim_in: int, hidden: int, dim_out: int) -> nn.Sequential:
    """A head for pooled features."""
    return nn.Sequential(nn.Linear(dim_in, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, dim_out))


def nt_xent(embeddings: Tensor, views: int, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy of (B * views, E), the views of an image next to each other.

    The mean over an anchor's positives; with two views it is the loss of the paper.
    """
    unit = F.normalize(embeddings.float(), dim=1)
    count = len(unit)
    itself = torch.eye(count, dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    image = torch.arange(count, device=unit.device) // views
    positive = (image[:, None] == image[None, :]) & ~itself
    log_share = logits.log_softmax(dim=1).masked_fill(~positive, 0.0)
    return -log_share.sum() / positive.sum()


def with_batch_size(what: Pretraining, batch_size: int | None) -> Pretraining:
    """The same pretraining on more or fewer patches a step."""
    return what if batch_size is None else replace(what, settings=replace(what.settings, batch_size=batch_size))


class SimClrTask(PretextTask):
    """Weak by construction at the study's batch of two patches: each view then has two negatives, not thousands.

    `batch_size` and `views` make it stronger, at a cost that the count of operations shows.
    """

    def __init__(self, what: Pretraining) -> None:
        self._options = SimClrSettings(**what.options)
        what = with_batch_size(what, self._options.batch_size)
        if what.settings.batch_size < 2:
            raise ConfigurationError("SimCLR needs at least 2 patches a step: others to tell a view from.")
        model = ProjectedEncoder(what.autoencoder.encoder, self._options.projection)
        super().__init__(model, what, partial(ViewSamples, views=self._options.views))

    def question(self, model: nn.Module, image: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        embeddings = model(split_views(image, self._options.views))
        return nt_xent(embeddings, self._options.views, self._options.temperature)
