"""Networks of the official nnFormer code, from a clone that the user names; none of it is part of this repository.

The official network files also import packages that their forward does not need. Those are stood in for, only where
they are not installed: timm's `DropPath` (the identity), `to_3tuple` and `trunc_normal_`, and names of batchgenerators
and scipy that serve the official sliding-window inference.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

#: How the official trainers build their networks; the rest are the constructors' own defaults.
OFFICIAL: dict[str, dict[str, Any]] = {
    "synapse": {
        "module": "nnFormer_synapse",
        "crop_size": [64, 128, 128],
        "embedding_dim": 192,
        "input_channels": 1,
        "num_classes": 14,
        "num_heads": [6, 12, 24, 48],
        "patch_size": [2, 4, 4],
        "window_size": [4, 4, 8, 4],
        "deep_supervision": True,
    },
    "acdc": {
        "module": "nnFormer_acdc",
        "crop_size": [14, 160, 160],
        "embedding_dim": 96,
        "input_channels": 1,
        "num_classes": 4,
        "num_heads": [3, 6, 12, 24],
        "patch_size": [1, 4, 4],
        "window_size": [[3, 5, 5], [3, 5, 5], [7, 10, 10], [3, 5, 5]],
        "down_stride": [[1, 4, 4], [1, 8, 8], [2, 16, 16], [4, 32, 32]],
        "deep_supervision": False,
    },
    "brats": {
        "module": "nnFormer_tumor",
        "crop_size": [128, 128, 128],
        "embedding_dim": 96,
        "input_channels": 4,
        "num_classes": 4,
        "num_heads": [3, 6, 12, 24],
        "patch_size": [4, 4, 4],
        "window_size": [4, 4, 8, 4],
        "deep_supervision": False,
    },
}


class _Identity(nn.Identity):
    """Stands in for timm's DropPath, which is the identity in eval mode."""

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob


def _triple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,) * 3


def _unused(*_: Any, **__: Any) -> None:
    raise NotImplementedError("a stand-in that the official forward was not expected to call")


#: Module -> names to provide where the module is not installed.
STAND_INS: dict[str, dict[str, Any]] = {
    "timm.models.layers": {"DropPath": _Identity, "to_3tuple": _triple, "trunc_normal_": nn.init.trunc_normal_},
    "batchgenerators.augmentations.utils": {"pad_nd_image": _unused},
    "scipy.ndimage.filters": {"gaussian_filter": _unused},
}


def use_clone(clone: Path) -> list[str]:
    """Make the clone importable; returns the packages that are stood in for. `FileNotFoundError` if it is none."""
    if not (clone / "nnformer" / "network_architecture").is_dir():
        raise FileNotFoundError(f"{clone} holds no nnformer/network_architecture")
    sys.path.insert(0, str(clone))
    missing = [name for name in STAND_INS if not _importable(name)]
    for name in missing:
        parts = name.split(".")
        for path in (".".join(parts[: depth + 1]) for depth in range(len(parts))):
            if path not in sys.modules:
                module = ModuleType(path)
                module.__path__ = []
                sys.modules[path] = module
        vars(sys.modules[name]).update(STAND_INS[name])
    return missing


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def official_network(preset: str, **changes: Any) -> nn.Module:
    """An official network, in eval mode and without stochastic depth; `changes` replace arguments of its constructor.

    Every parameter is random, so that no bias or norm hides a difference by being trivial.
    """
    arguments = {**OFFICIAL[preset], **changes}
    module = importlib.import_module(f"nnformer.network_architecture.{arguments.pop('module')}")
    network: nn.Module = module.nnFormer(**arguments).eval()
    for part in network.modules():
        if hasattr(part, "drop_prob"):
            part.drop_prob = 0.0  # type: ignore[assignment]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif name.endswith("relative_position_bias_table"):
                parameter.normal_(std=1.0)
    return network
