"""A pretext as a task of the training loop: what all of them share."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MAESegmentLib.networks import MaeConfig
from MAESegmentLib.training.data.patches import Batch, PatchSamples, batches
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.loop.optimiser import parameter_groups
from MAESegmentLib.training.settings import LoopSettings, PretrainSettings
from MAESegmentLib.training.tasks.masked import MAX_FOLLOWED


@dataclass(frozen=True)
class Pretraining:
    """What every pretext is made from. `options` are those that the study gives to this one alone."""

    autoencoder: MaeConfig
    training: Sequence[PreparedCase]
    held_out: Sequence[PreparedCase]
    patch_size: tuple[int, ...]
    settings: PretrainSettings
    identity: str
    options: Mapping[str, Any]


Sampling = Callable[[Sequence[PreparedCase], Sequence[int], LoopSettings], PatchSamples]


class PretextTask(ABC):
    """Train `model` by one number a batch, `question`, and follow the same number on held-out images."""

    def __init__(self, model: nn.Module, what: Pretraining, sampling: Sampling = PatchSamples) -> None:
        self.model = model
        self.identity = what.identity
        self.settings = what.settings
        self._samples = sampling(what.training, what.patch_size, what.settings)
        followed = what.held_out[:MAX_FOLLOWED]
        self._followed = sampling(followed, what.patch_size, what.settings) if followed else None
        self._followed_batches = -(-len(followed) // what.settings.batch_size)

    @abstractmethod
    def question(self, model: nn.Module, image: Tensor, generator: torch.Generator) -> Tensor:
        """Scalar loss of `image` (B, C, D, H, W); every random choice is drawn from `generator`, on the CPU."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.model, self.settings)

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        return batches(self._samples, first_step, device)

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        return self.question(model, batch.image, generator)

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        """The same patches and the same random choices every time."""
        if self._followed is None:
            return {}
        generator = torch.Generator().manual_seed(self.settings.seed)
        with contextlib.closing(batches(self._followed, 0, device)) as made:  # type: ignore[type-var]
            losses = [
                float(self.question(model, batch.image, generator)) for batch in islice(made, self._followed_batches)
            ]
        loss = float(np.mean(losses))
        return {"pretext loss": loss, "score": -loss}
