"""Steps of pretraining that encode visible units only, beside dense ones.

`python -m model_training.benchmarks.pretraining`

A step is what training does with a batch that lies ready: forward, loss on masked voxels, backward, clipping, AdamW.
Both encodings take turns in one process at each mask ratio; the peak memory of each is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from MAESegmentLib.device import autocast
from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormerConfig

from .runner import add_device, begin, machine, record
from .timing import Timing, alternate, load

BLOCK = ("device", "threads", "case", "precision", "ratio")
RATIOS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
DENSE, VISIBLE = "dense", "visible"
ENCODINGS = (DENSE, VISIBLE)
#: Steps of the process whose memory is measured: the second has the optimiser's state.
MEMORY_STEPS = 2


@dataclass(frozen=True)
class Case:
    """An encoder, its crop, and an autoencoder around it."""

    title: str
    encoder: NnFormerConfig
    autoencoder: dict[str, Any]
    batch: int = 2

    def config(self, ratio: float, encoding: str) -> MaeConfig:
        return MaeConfig(encoder=self.encoder, mask_ratio=ratio, **{**self.autoencoder, "encoding": encoding})


_LIGHT = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 1}
CASES = {
    "hippocampus": Case(
        "the recipe of the shipped hippocampus model: small preset (C = 32), units of 8 voxels",
        NnFormerConfig.preset("small", drop_path=0.0),
        {"unit": (8, 8, 8), **_LIGHT},
    ),
    "wide": Case(
        "the same with C = 96",
        NnFormerConfig.preset("small", drop_path=0.0, embed_dim=96, heads=(3, 6, 12)),
        {"unit": (8, 8, 8), **_LIGHT},
    ),
    "study": Case(
        "the small plan of the study of data efficiency, hippocampus: C = 32, tokens of 4 voxels, units of 8",
        NnFormerConfig.preset(
            "small",
            embed_strides=((2, 2, 2), (2, 2, 2)),
            windows=((5, 7, 5), (5, 7, 5), (3, 4, 3)),
            drop_path=0.0,
        ),
        {"unit": (8, 8, 8), **_LIGHT},
    ),
    "tumor64": Case(
        "the brain tumour encoder (C = 96) on half of its crop, units of 16 voxels",
        NnFormerConfig.preset("brats", crop_size=(64, 64, 64), windows=(4, 4, 4, 2), drop_path=0.0),
        {"unit": (16, 16, 16), **_LIGHT},
    ),
}


def main() -> None:
    arguments = begin(__doc__, _options)
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    if arguments.child is not None:
        print(json.dumps(_peak_of(CASES[arguments.case[0]], arguments.ratio[0], arguments.child)))
        return
    for name in arguments.case or CASES:
        for ratio in arguments.ratio:
            rows = measure(name, ratio, arguments.precision, torch.device(arguments.device), arguments.seconds)
            record("pretraining", rows, BLOCK)


def measure(name: str, ratio: float, precision: str, device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """The two rows of one block."""
    case = CASES[name]
    with autocast(device, precision):
        steps = {encoding: step(case, ratio, encoding, device) for encoding in ENCODINGS}
        timings = alternate(steps, seconds=seconds)
    threads = torch.get_num_threads()
    fixed = {"device": device.type, "threads": threads, "case": name, "precision": precision, "ratio": ratio}
    rows = []
    for encoding in ENCODINGS:
        row: dict[str, Any] = {**fixed, "batch": case.batch, "encoding": encoding, **_figures(timings, encoding)}
        row["peak_mib"] = f"{_child(name, ratio, encoding, threads):.0f}" if device.type == "cpu" else ""
        rows.append(row | {"load": f"{load():.1f}", "machine": machine()})
    _show(rows)
    return rows


def step(case: Case, ratio: float, encoding: str, device: torch.device) -> Callable[[], object]:
    """One optimiser step on random images, with new masks each time."""
    torch.manual_seed(0)
    model = MaskedAutoencoder(case.config(ratio, encoding)).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    image = torch.randn(case.batch, case.encoder.in_channels, *case.encoder.crop_size, device=device)
    masks = torch.Generator().manual_seed(0)

    def run() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = model(image, generator=masks).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return float(loss.detach())

    return run


def _figures(timings: dict[str, Timing], encoding: str) -> dict[str, str]:
    timing = timings[encoding]
    low, middle, high = timing.quartiles
    figures = {"median_s": f"{middle:.4f}", "q1_s": f"{low:.4f}", "q3_s": f"{high:.4f}"}
    low, middle, high = timings[DENSE].speedup_of(timing)
    figures |= {"faster": f"{middle:.3f}", "faster_q1": f"{low:.3f}", "faster_q3": f"{high:.3f}"}
    figures["faster_processor"] = f"{timings[DENSE].processor_speedup_of(timing):.3f}"
    return figures | {"rounds": str(len(timing.wall))}


def _child(name: str, ratio: float, encoding: str, threads: int) -> float:
    command = [sys.executable, "-m", "model_training.benchmarks.pretraining", "--child", encoding]
    command += ["--case", name, "--ratio", str(ratio), "--threads", str(threads)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output))


def _peak_of(case: Case, ratio: float, encoding: str) -> float:
    """MiB by which two steps raise this process's peak, weights and optimiser included."""
    before = _peak_mib()
    run = step(case, ratio, encoding, torch.device("cpu"))
    for _ in range(MEMORY_STEPS):
        run()
    return _peak_mib() - before


def _peak_mib() -> float:
    """Of this process alone; what `getrusage` says begins, on Linux, with the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(
            f"{row['case']:12} ratio {row['ratio']:<5} {row['encoding']:8} {float(row['median_s']):7.3f} s a step, "
            f"{row['faster']} times dense (processor time {row['faster_processor']}), peak {row['peak_mib']} MiB, "
            f"{row['rounds']} rounds",
            flush=True,
        )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", choices=list(CASES), action="append", help="default: all")
    parser.add_argument("--ratio", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    add_device(parser, seconds=20)
    parser.add_argument("--child", choices=ENCODINGS, help=argparse.SUPPRESS)


if __name__ == "__main__":
    main()
