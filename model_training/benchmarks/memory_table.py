"""Peak memory over the size of the scan and the number of classes: `python -m model_training.benchmarks.memory_table`.

Each cell is a child process (`memory.py`) that segments a synthetic CT whose network grid has 1.5 mm voxels, on one
thread; once as the library does it, once with all sums of class scores kept in memory. A cell that is measured again
replaces its row in results/memory.csv.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys

from .runner import begin, machine, record

SIZES = ((256, 256, 200), (512, 512, 300), (512, 512, 1000))
CLASSES = (2, 14, 61)
SPACING_MM = 1.5
#: Enough for any sum.
_ALL_IN_MEMORY_GIB = 1e6


def main() -> None:
    arguments = begin(__doc__, _options)
    for size, classes in itertools.product(SIZES[: arguments.sizes], arguments.classes):
        for spilled in (True, False):
            row = measure(size, classes, spilled=spilled)
            print(row, flush=True)
            record("memory", [row], ("voxels", "classes", "sums"))


def measure(size: tuple[int, int, int], classes: int, *, spilled: bool) -> dict[str, object]:
    """One cell."""
    command = [sys.executable, "-m", "model_training.benchmarks.memory", "--child", "--size", *map(str, size)]
    command += ["--classes", str(classes), "--spacing", str(SPACING_MM)]
    command += [] if spilled else ["--sums-in-memory-gib", str(_ALL_IN_MEMORY_GIB)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    result = json.loads(output)
    return {
        "voxels": " x ".join(map(str, size)),
        "network_grid": " x ".join(map(str, result["network_shape"])),
        "classes": classes,
        "sums": "bounded" if spilled else "all in memory",
        "peak_gib": f"{result['peak_gib']:.3f}",
        "before_gib": f"{result['before_gib']:.3f}",
        "seconds": f"{result['seconds']:.0f}",
        "processor_s": f"{result['processor_seconds']:.0f}",
        "machine": machine(),
    }


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="so many of the sizes, the smallest first")
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)


if __name__ == "__main__":
    main()
