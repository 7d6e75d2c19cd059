"""What 1, 8 and 64 GPUs would give for 1,000 and 100,000 volumes: `python -m model_training.benchmarks.scaling`.

`--measure` first takes what can be measured without a GPU: operations and gradients of a step, the processor time of a
step here, what reading and preparing one scan costs, and what two processes need to agree on a step. Everything else is
assumed, all of it in `Assumptions`. Writes results/scaling.csv and the tables of scaling.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from MAESegmentLib.images.archive import ArchivedScan
from MAESegmentLib.networks import MaeConfig, MaskedAutoencoder, NnFormerConfig
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.streaming import prepare_scan

from .measurements import RESULTS, machine, read_rows, replace_rows
from .scaling_report import write_report
from .timing import load

MEASURED, PREDICTED = RESULTS / "scaling_measured.csv", RESULTS / "scaling.csv"
PRESETS = ("small", "synapse")
#: The other one is for two processor cores.
PREDICTED_PRESET = "synapse"
#: What is streamed: a CT of the chest and abdomen, as it is stored, and the voxel size it is prepared to.
CT_SHAPE, CT_SPACING, TARGET = (512, 512, 300), (0.8, 0.8, 1.5), (1.5, 1.5, 1.5)
_AGREEING = """
import time
from MAESegmentLib.training.distributed import joined
with joined("cpu") as team:
    for _ in range(20):
        team.any(False)
    started = time.perf_counter()
    for _ in range(200):
        team.any(False); team.sum([1.0]); team.sum([1.0])
    if team.is_first:
        print((time.perf_counter() - started) / 200)
"""


@dataclass(frozen=True)
class Assumptions:
    """Not measured here. A cluster of nodes with eight data-centre GPUs each, whose cores are like those of the machine
    that was measured; agreeing on a step takes longer with the logarithm of the number of processes."""

    #: Operations a GPU really does in a second: a tenth of what a maker states for bf16 (312e12), since window
    #: attention and norms move more than they compute.
    gpu_flops: float = 31e12
    gpus_per_node: int = 8
    cores_per_gpu: int = 12
    #: Bytes a second that a GPU sends to others in its node, and to those in other nodes.
    node_bandwidth: float = 200e9
    network_bandwidth: float = 20e9
    #: Share of a step (the backward pass) during which gradients are exchanged at no cost.
    overlap: float = 0.6
    #: Bytes a second of the file system that all nodes share.
    storage: float = 10e9
    #: Patches a step on each GPU, and patches cut from a scan each time it is read.
    patches_per_gpu: int = 2
    patches_per_volume: int = 4


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step and of its parts, for one preset on `gpus`."""

    compute: float
    exchange: float
    data: float
    agree: float

    @property
    def step(self) -> float:
        """Reading goes on beside computing, so the slower of the two counts."""
        return max(self.compute + self.exchange, self.data) + self.agree

    @property
    def limit(self) -> str:
        """What a faster machine would have to be faster at."""
        if self.data > self.compute + self.exchange:
            return "reading and preparing scans"
        return "computing" if self.compute > self.exchange + self.agree else "exchanging gradients"


def predict(measured: Mapping[str, float], preset: str, gpus: int, assumed: Assumptions) -> Prediction:
    """From what was measured (a row of scaling_measured.csv for each name) and assumed."""
    patches = assumed.patches_per_gpu
    compute = measured[f"{preset}: operations a patch"] * patches / assumed.gpu_flops
    volume = measured["CT: core seconds a volume"] / assumed.cores_per_gpu
    volumes = patches / assumed.patches_per_volume
    stored = measured["CT: bytes a volume"] * volumes * gpus / assumed.storage
    exchange = 0.0
    if gpus > 1:
        bandwidth = assumed.node_bandwidth if gpus <= assumed.gpus_per_node else assumed.network_bandwidth
        exchange = 2 * (gpus - 1) / gpus * measured[f"{preset}: bytes of gradients"] / bandwidth
    hidden = assumed.overlap * compute
    agree = measured["seconds to agree, two processes"] * np.log2(gpus) if gpus > 1 else 0.0
    return Prediction(compute, max(0.0, exchange - hidden), max(volume * volumes, stored), float(agree))


def predictions(measured: Mapping[str, float], assumed: Assumptions) -> list[dict[str, object]]:
    """A row for each archive, number of patches of a scan, and number of GPUs."""
    rows: list[dict[str, object]] = []
    for volumes, patches, gpus in product((1_000, 100_000), (4, 16), (1, 8, 64, 256)):
        here = replace(assumed, patches_per_volume=patches)
        found, alone = predict(measured, PREDICTED_PRESET, gpus, here), predict(measured, PREDICTED_PRESET, 1, here)
        steps = volumes * patches / (gpus * here.patches_per_gpu)
        volumes_a_step = here.patches_per_gpu / patches
        cores = measured["CT: core seconds a volume"] * volumes_a_step / (found.compute + found.exchange)
        rows.append(
            {
                "volumes": volumes,
                "patches_per_volume": patches,
                "gpus": gpus,
                "steps_per_pass": f"{steps:.0f}",
                "minutes_per_pass": f"{steps * found.step / 60:.1f}",
                "volumes_per_second": f"{gpus * volumes_a_step / found.step:.1f}",
                "efficiency": f"{alone.step / found.step:.2f}",
                "gpu_busy": f"{found.compute / found.step:.2f}",
                "compute_ms": f"{1000 * found.compute:.0f}",
                "exchange_ms": f"{1000 * found.exchange:.0f}",
                "data_ms": f"{1000 * found.data:.0f}",
                "agree_ms": f"{1000 * found.agree:.0f}",
                "cores_needed": f"{cores:.0f}",
                "limit": found.limit,
            }
        )
    return rows


def measure() -> list[dict[str, object]]:
    """What can be measured without a GPU, a row each."""
    torch.set_num_threads(1)
    values: dict[str, tuple[float, str]] = {}
    for preset in PRESETS:
        values |= _measure_network(preset)
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        values |= _measure_ct(Path(folder))
        how = "fastest of 3 runs of 200 rounds, gloo, one machine"
        values["seconds to agree, two processes"] = (_measure_agreeing(Path(folder)), how)
    return [
        {"name": name, "value": f"{value:.6g}", "how": how, "load": f"{load():.1f}", "machine": machine()}
        for name, (value, how) in values.items()
    ]


def _measure_network(preset: str) -> dict[str, tuple[float, str]]:
    torch.manual_seed(0)
    encoder = NnFormerConfig.preset(preset, drop_path=0.0)
    unit = tuple(max(8, token) for token in encoder.token_size)
    model = MaskedAutoencoder(MaeConfig(encoder=encoder, unit=unit)).train()  # type: ignore[arg-type]
    image = torch.randn(1, encoder.in_channels, *encoder.crop_size)
    with FlopCounterMode(display=False) as counter:
        model(image).loss.backward()
    seconds = []
    for _ in range(2):
        started = time.process_time()
        model.zero_grad(set_to_none=True)
        model(image).loss.backward()
        seconds.append(time.process_time() - started)
    size = "x".join(map(str, encoder.crop_size))
    parameters = sum(p.numel() for p in model.parameters())
    return {
        f"{preset}: operations a patch": (counter.get_total_flops(), f"counted, forward and backward, {size}, dense"),
        f"{preset}: bytes of gradients": (4 * parameters, f"counted, {parameters / 1e6:.1f} M parameters in fp32"),
        f"{preset}: core seconds a patch": (min(seconds), "least of 2, forward and backward, one thread, fp32"),
    }


def _measure_ct(folder: Path) -> dict[str, tuple[float, str]]:
    rng = np.random.default_rng(0)
    d, h, w = CT_SHAPE
    organs = rng.normal(0, 200, (d // 16, h // 16, w // 10)).repeat(16, 0).repeat(16, 1).repeat(10, 2)
    image = (organs + rng.normal(0, 12, organs.shape)).clip(-1000, 2000).astype(np.int16)
    image[: d // 8] = image[-d // 8 :] = -1000  # air compresses well, as it does around a patient
    file = folder / "ct.nii.gz"
    nib.save(nib.Nifti1Image(image, np.diag([*CT_SPACING, 1.0])), file)
    preprocessing = Preprocessing("RAS", TARGET, (64, 128, 128), IntensityRecipe("ct"))
    seconds = []
    for _ in range(3):
        started = time.process_time()
        prepare_scan(ArchivedScan("ct", file), preprocessing)
        seconds.append(time.process_time() - started)
    size = "x".join(map(str, image.shape))
    return {
        "CT: bytes a volume": (file.stat().st_size, f"a made-up CT of {size} voxels, .nii.gz"),
        "CT: core seconds a volume": (
            min(seconds),
            "least of 3: read, check, hash, resample, normalise; one thread",
        ),
    }


def _measure_agreeing(folder: Path) -> float:
    """Seconds that two processes on this machine need to agree on a step (three small sums)."""
    script = folder / "agreeing.py"
    script.write_text(_AGREEING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, env=environment) for _ in range(3)]
    return min(float(run.stdout.split()[-1]) for run in runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure anew what can be measured here")
    arguments = parser.parse_args()
    if arguments.measure:
        replace_rows(MEASURED, measure(), ("name",))
    measured = {row["name"]: float(row["value"]) for row in read_rows(MEASURED)}
    if not measured:
        parser.error("Nothing has been measured yet: give --measure.")
    replace_rows(PREDICTED, predictions(measured, Assumptions()), ("volumes", "patches_per_volume", "gpus"))
    write_report()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
