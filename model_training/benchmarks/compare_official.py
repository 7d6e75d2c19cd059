"""Compare our nnFormer with the official one on random weights, for each published preset.

    git clone https://github.com/282857341/nnFormer CLONE
    python -m model_training.benchmarks.compare_official --clone CLONE

Builds each official network from the clone, randomises every parameter, imports its state_dict with
`import_official` and prints the largest difference between both forwards (eval mode, float32, the published crop).
Exit status 1 where it exceeds the tolerance.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from MAESegmentLib.networks.official import import_official

from .official_code import OFFICIAL, official_network, use_clone


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
    try:
        missing = use_clone(arguments.clone)
    except FileNotFoundError as error:
        parser.error(str(error))
    for name in missing:
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
