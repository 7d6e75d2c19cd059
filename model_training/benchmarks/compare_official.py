"""Compare our nnFormer with the official one on random weights, for each published preset.

    git clone https://github.com/282857341/nnFormer CLONE
    python model_training/benchmarks/compare_official.py --clone CLONE

Builds each official network from the clone, randomises every parameter, imports its state_dict with
`import_official` and prints the largest difference between both forwards (eval mode, float32, the published crop).
Exit status 1 where it exceeds the tolerance.

The official network files also import packages that their forward does not need. Those are stood in for, only where
they are not installed: timm's `DropPath` (identity in eval mode), `to_3tuple` and `trunc_normal_`, and names of
batchgenerators and scipy that serve the official sliding-window inference.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from MAESegmentLib.networks.official import import_official

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


def provide_missing_modules() -> list[str]:
    """Register a stand-in for each module of `STAND_INS` that cannot be imported; returns their names."""
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


def official_network(preset: str) -> nn.Module:
    """An official network with every parameter random, so that no bias or norm hides a difference by being trivial."""
    arguments = dict(OFFICIAL[preset])
    module = importlib.import_module(f"nnformer.network_architecture.{arguments.pop('module')}")
    network: nn.Module = module.nnFormer(**arguments).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif name.endswith("relative_position_bias_table"):
                parameter.normal_(std=1.0)
    return network


def compare(preset: str, seed: int) -> tuple[float, float, float]:
    """(largest difference over all outputs, standard deviation of the official output, seconds of both forwards)."""
    torch.manual_seed(seed)
    reference = official_network(preset)
    image = torch.randn(1, OFFICIAL[preset]["input_channels"], *OFFICIAL[preset]["crop_size"])
    start = time.perf_counter()
    network = import_official(reference.state_dict(), preset)
    with torch.no_grad():
        expected = _as_list(reference(image))
        outputs = [network(image)]
        if network.config.deep_supervision:
            network.train()  # coarser outputs exist only in training; the dropped branches must not
            _switch_off_stochastic_depth(network)
            outputs = _as_list(network(image))
    seconds = time.perf_counter() - start
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, outputs, strict=True))
    return difference, float(expected[0].std()), seconds


def _as_list(output: Tensor | list[Tensor]) -> list[Tensor]:
    return output if isinstance(output, list) else [output]


def _switch_off_stochastic_depth(network: nn.Module) -> None:
    for module in network.modules():
        if hasattr(module, "drop_path") and hasattr(module.drop_path, "rate"):
            module.drop_path.rate = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clone", type=Path, required=True, help="folder of a clone of the official repository")
    parser.add_argument("--preset", choices=list(OFFICIAL), action="append", help="default: all three")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not (arguments.clone / "nnformer" / "network_architecture").is_dir():
        parser.error(f"{arguments.clone} holds no nnformer/network_architecture")
    sys.path.insert(0, str(arguments.clone))
    for name in provide_missing_modules():
        print(f"stand-in for {name}, which is not installed")
    worst = 0.0
    for preset in arguments.preset or OFFICIAL:
        difference, spread, seconds = compare(preset, arguments.seed)
        worst = max(worst, difference)
        print(f"{preset:8} largest difference {difference:.2e} (output std {spread:.2f}), {seconds:.1f} s", flush=True)
    print("equal within" if worst <= arguments.tolerance else "DIFFERENT by more than", arguments.tolerance)
    return 0 if worst <= arguments.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
