"""Peak host memory of segmenting a large CT on the CPU: `python -m model_training.benchmarks.memory`.

A child process segments a synthetic int16 volume and reports its peak resident set, which includes Python, torch, the
volume itself and the label map. The default network is one 1x1x1 convolution, so that two cores finish in minutes: what
grows with the scan is the slab of class scores. A real network adds its weights and the activations of one window,
whatever the size of the scan: `--network synapse --size 128 128 64` is one window of the largest published nnFormer.

`memory_table` runs it over sizes and numbers of classes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn

from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference import spilled
from MAESegmentLib.inference.segmenter import Segmenter
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.networks import NnFormer, NnFormerConfig
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing

#: mm along I, J, K of the synthetic CT.
SPACING = (0.8, 0.8, 1.0)


def main() -> int:
    arguments = _parse()
    if arguments.child:
        print(json.dumps(measure(arguments)))
        return 0
    command = [sys.executable, "-m", "model_training.benchmarks.memory", *sys.argv[1:], "--child"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = " x ".join(map(str, arguments.size))
    print(f"{size} int16, {arguments.classes} classes, patch {arguments.patch}, network grid {result['network_shape']}")
    print(f"peak RSS {result['peak_gib']:.2f} GiB ({result['before_gib']:.2f} GiB before), {result['seconds']:.0f} s")
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Segment one volume in this process; figures in GiB and seconds."""
    if arguments.sums_in_memory_gib is not None:
        spilled.IN_MEMORY = int(arguments.sums_in_memory_gib * 2**30)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])  # LPS, as CT comes
    volume = Volume(_synthetic_ct(tuple(arguments.size)), affine)
    spacing = SPACING if arguments.spacing is None else (arguments.spacing,) * 3
    preprocessing = Preprocessing("RAS", spacing, tuple(arguments.patch), IntensityRecipe("ct"))
    settings = InferenceSettings(overlap=arguments.overlap, device="cpu", precision="fp32")
    segmenter = Segmenter(_network(arguments), preprocessing, range(arguments.classes), settings)
    before = _peak_gib()
    started, worked = time.perf_counter(), time.process_time()
    segmenter.predict(volume)
    return {
        "before_gib": before,
        "peak_gib": _peak_gib(),
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - worked,
        "network_shape": preprocessing.grid_for(volume).shape,
    }


def _network(arguments: argparse.Namespace) -> nn.Module:
    if arguments.network is None:
        return nn.Conv3d(1, arguments.classes, kernel_size=1)
    return NnFormer(NnFormerConfig.preset(arguments.network, in_channels=1, out_channels=arguments.classes))


def _synthetic_ct(shape: tuple[int, ...]) -> np.ndarray:
    """(1, I, J, K) int16 noise, made plane by plane so that making it does not set the peak."""
    generator = np.random.default_rng(0)
    array = np.empty((1, *shape), np.int16)
    for plane in array[0]:
        plane[:] = generator.integers(-1000, 1000, plane.shape, dtype=np.int16)
    return array


def _peak_gib() -> float:
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte / 2**30


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 600), metavar=("I", "J", "K"))
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--patch", type=int, nargs=3, default=(64, 128, 128), metavar=("D", "H", "W"))
    parser.add_argument(
        "--spacing", type=float, help="network's voxel size in mm (default: the volume's, no resampling)"
    )
    parser.add_argument(
        "--network", help="an nnFormer preset: synapse, acdc, brats or small (default: one convolution)"
    )
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument(
        "--sums-in-memory-gib", type=float, help="sums of class scores up to this size stay in memory (default: 0.25)"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
