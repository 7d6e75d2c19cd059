"""The network that fine-tuning starts from: a bundle's weights, with head and stem re-made where they must differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...bundle import Bundle
from ...errors import BundleError
from ...networks import NnFormer, NnFormerConfig, transfer_encoder, transfer_matching
from ..data.labelling import LabelPlan
from ..settings import FineTuneSettings

#: First convolutions of an image.
_STEMS = ("encoder.embedding.pair1.conv1.weight", "detail.image.weight")


def initial_network(
    base: Bundle, plan: LabelPlan, channels: int, settings: FineTuneSettings
) -> tuple[NnFormer, tuple[str, ...]]:
    """A network for the plan's labels and `channels` input channels, and what was re-made, in sentences."""
    torch.manual_seed(settings.seed)
    network = NnFormer(_config(base, plan, channels, settings))
    if settings.initial_weights == "random":
        return network, ("From scratch: random initial weights, as a control.",)
    from_autoencoder = base.kind == "autoencoder" or settings.initial_weights == "autoencoder"
    if from_autoencoder:
        plan = replace(plan, origins=(None,) * len(plan.labels))
    notes = [plan.describe(base.labels)]
    if from_autoencoder:
        autoencoder = base.load_autoencoder()
        if autoencoder is None:
            raise BundleError(
                f"Model {base.name!r} holds no masked autoencoder to start from.", "Start from its own weights."
            )
        report = transfer_encoder(_fit_stem(autoencoder.state_dict(), channels, notes), network)
        notes.append(f"Encoder of the masked autoencoder {base.name!r}, new decoder: {report}.")
    else:
        state = base.load_network().state_dict()
        has_detail = _has_its_detail(state, network)
        fitted = _fit_stem(_fit_head(state, network, plan, with_detail=has_detail), channels, notes)
        report = transfer_matching(fitted, network, fresh=() if has_detail else ("detail.",))
        notes.append(f"Weights of {base.name!r} {base.version}: {report}.")
    return network, tuple(notes)


def _config(base: Bundle, plan: LabelPlan, channels: int, settings: FineTuneSettings) -> NnFormerConfig:
    spec = base.spec
    config = spec.network or (spec.autoencoder.encoder if spec.autoencoder else None)
    if config is None:
        raise BundleError(f"Model {base.name!r} does not describe its network.")
    config = replace(config, in_channels=channels, out_channels=len(plan.labels) + 1)
    if settings.drop_path is not None:
        config = replace(config, drop_path=settings.drop_path)
    if settings.deep_supervision is not None:
        config = replace(config, deep_supervision=settings.deep_supervision)
    if settings.detail_channels is not None:
        config = replace(config, detail_channels=settings.detail_channels)
    return config


def _has_its_detail(state: Mapping[str, Tensor], network: NnFormer) -> bool:
    """Whether the base has a detail head as wide as the network's."""
    own = network.state_dict()
    width = "detail.norm1.weight"
    return width in state and width in own and state[width].shape == own[width].shape


def _fit_head(
    state: Mapping[str, Tensor], network: NnFormer, plan: LabelPlan, *, with_detail: bool
) -> dict[str, Tensor]:
    """Rows of the base's heads in the order of the new labels; a new label keeps the network's new row."""
    fitted = dict(state)
    heads = ("heads.", "detail.out.") if with_detail else ("heads.",)
    for key, fresh in network.state_dict().items():
        if not key.startswith(heads):
            continue
        fitted[key] = fresh.clone()
        if key not in state:
            continue  # deep supervision that the base lacked
        # Transposed convolutions have (in, out, d, h, w).
        axis = 1 if key.startswith("heads.") and key.endswith("weight") else 0
        for target, origin in enumerate((0, *plan.origins)):
            if origin is not None:
                fitted[key].select(axis, target).copy_(state[key].select(axis, origin))
    return fitted


def _fit_stem(state: Mapping[str, Tensor], channels: int, notes: list[str]) -> dict[str, Tensor]:
    """Give the first convolutions `channels` inputs that together respond like the old ones."""
    fitted = dict(state)
    for key in _STEMS:
        weight = state.get(key)  # (out, in, d, h, w)
        if weight is None or weight.shape[1] == channels:
            continue
        mean = weight.mean(dim=1, keepdim=True) * (weight.shape[1] / channels)
        if key == _STEMS[0]:
            notes.append(
                f"The first convolution is re-made for {channels} input channels instead of {weight.shape[1]}."
            )
        fitted[key] = mean.expand(-1, channels, -1, -1, -1).clone()
    return fitted
