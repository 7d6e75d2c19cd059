"""Masked reconstruction beside the labels: the encoder also predicts hidden parts of scans that nobody labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BundleError
from ...networks import MaskedAutoencoder, NnFormer
from ..data.patches import Batch, PatchSamples, batches
from ..data.prepared import PreparedCase
from ..loop.distributed import seed_of
from ..settings import FineTuneSettings
from .terms import Ramp, settings_of_scans

#: The decoder was trained before: it follows the encoder at this share of the learning rate.
_DECODER_RATE = 0.1
#: Masks of a step are others than what a part of it draws.
_PART = 1_000_003


class Reconstruction:
    """The bundle's autoencoder around the encoder that is fine-tuned."""

    def __init__(
        self,
        scans: Sequence[PreparedCase],
        model: NnFormer,
        autoencoder: MaskedAutoencoder | None,
        patch_size: Sequence[int],
        settings: FineTuneSettings,
    ) -> None:
        if autoencoder is None or not _same_shapes(autoencoder.encoder, model.encoder):
            raise BundleError(
                "The model that is started from holds no masked autoencoder of its own encoder, so hidden parts of the "
                "scans without labels cannot be predicted.",
                'Set unlabelled_method to "self_training", or fine-tune without these scans.',
            )
        self.ramp = Ramp(settings)
        self._autoencoder = autoencoder.float()
        self._autoencoder.encoder = model.encoder
        self._settings = settings
        self._samples = PatchSamples(scans, patch_size, settings_of_scans(settings))

    def parameter_groups(self) -> list[dict[str, Any]]:
        own = [p for name, p in self._autoencoder.named_parameters() if not _is_of_encoder(name)]
        return [{"params": own, "weight_decay": 0.0, "lr_scale": _DECODER_RATE}]

    def begin(self, average: nn.Module, device: torch.device) -> None:  # noqa: ARG002
        self._autoencoder.to(device)

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in self._autoencoder.state_dict().items() if not _is_of_encoder(name)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._autoencoder.load_state_dict(state, strict=False)

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        return batches(self._samples, first_step, device)

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:  # noqa: ARG002
        generator = torch.Generator().manual_seed(seed_of(self._settings, step, _PART))
        mask = self._autoencoder.draw_mask(batch.image.shape, generator)
        loss: Tensor = self._autoencoder(batch.image, mask.to(batch.image.device)).loss
        return loss


def _is_of_encoder(name: str) -> bool:
    return name.startswith("encoder.")


def _same_shapes(one: nn.Module, other: nn.Module) -> bool:
    shapes = [{name: value.shape for name, value in module.state_dict().items()} for module in (one, other)]
    return shapes[0] == shapes[1]
