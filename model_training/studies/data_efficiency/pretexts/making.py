"""From the name of a pretext to a task of the training loop.

Every task trains the same nnFormer encoder, found in the model's state dict under `encoder.` with the keys of
`NnFormer`, on the same patches for the same steps; what differs is the question asked of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormerConfig
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.loop.loop import Task
from MAESegmentLib.training.settings import PretrainSettings
from MAESegmentLib.training.tasks.masked import MaskedTask

from .byol import BYOL_OPTIONS, ByolTask
from .contrastive import SIMCLR_OPTIONS, SimClrTask
from .fusion import FUSION_OPTIONS, FusionTask
from .genesis import SPOILING_OPTIONS, GenesisTask
from .own_decoder import NnFormerAutoencoder
from .simmim import SimMim
from .swin import SWIN_OPTIONS, SwinTask
from .task import Pretraining

_AUTOENCODER_OPTIONS = tuple(f.name for f in fields(MaeConfig) if f.name != "encoder")
_MASKING_OPTIONS = ("unit", "mask_ratio", "normalise_target")


@dataclass(frozen=True)
class Pretext:
    """How a task is made, and the options it takes."""

    make: Callable[[Pretraining], Task]
    options: tuple[str, ...]


def _masked(network: type[MaskedAutoencoder]) -> Callable[[Pretraining], Task]:
    def make(what: Pretraining) -> Task:
        model = network(what.autoencoder)
        return MaskedTask(model, what.training, what.held_out, what.patch_size, what.settings, what.identity)

    return make


PRETEXTS: dict[str, Pretext] = {
    "mae": Pretext(_masked(MaskedAutoencoder), _AUTOENCODER_OPTIONS),
    "mae-decoder": Pretext(_masked(NnFormerAutoencoder), _MASKING_OPTIONS),
    "simmim": Pretext(_masked(SimMim), _MASKING_OPTIONS),
    "genesis": Pretext(GenesisTask, SPOILING_OPTIONS),
    "volume-fusion": Pretext(FusionTask, FUSION_OPTIONS),
    "simclr": Pretext(SimClrTask, SIMCLR_OPTIONS),
    "byol": Pretext(ByolTask, BYOL_OPTIONS),
    "swin-ssl": Pretext(SwinTask, SWIN_OPTIONS),
}


def make_pretext(
    name: str,
    options: Mapping[str, Any],
    network: NnFormerConfig,
    autoencoder: MaeConfig,
    training: Sequence[PreparedCase],
    held_out: Sequence[PreparedCase],
    patch_size: Sequence[int],
    settings: PretrainSettings,
    identity: str,
) -> Task:
    """The task of pretext `name`, with weights that depend on `settings.seed` alone.

    `options` that are fields of `MaeConfig` replace those of `autoencoder`. `identity` must tell the cases; names,
    options and networks are added to it.
    """
    if name not in PRETEXTS:
        raise ConfigurationError(f"There is no pretext {name!r}.", f"Known: {', '.join(PRETEXTS)}.")
    pretext = PRETEXTS[name]
    unknown = set(options) - set(pretext.options)
    if unknown:
        raise ConfigurationError(
            f"Pretext {name!r} does not take {', '.join(sorted(unknown))}.", f"It takes {', '.join(pretext.options)}."
        )
    # Stochastic depth harms masked autoencoding; it is off for every pretext, so that they differ in nothing else.
    changes = {key: value for key, value in options.items() if key in _AUTOENCODER_OPTIONS}
    autoencoder = replace(autoencoder, encoder=replace(network, drop_path=0.0), **changes)
    content = [identity, name, dict(options), autoencoder.to_dict()]
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    torch.manual_seed(settings.seed)
    return pretext.make(
        Pretraining(autoencoder, training, held_out, tuple(patch_size), settings, identity, dict(options))
    )
