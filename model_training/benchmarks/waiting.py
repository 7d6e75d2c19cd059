"""How threads should wait for each other: `python -m model_training.benchmarks.waiting`.

OpenMP's threads spin for a while before they sleep, which wastes the cores that other programs want. Each contender is
a warm process of its own with its own environment; they segment the same volume in turn, round by round, with and
without three busy processes beside them. Rows go to results/waiting.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from .measurements import RESULTS, machine, replace_rows
from .timing import Timing, load
from .volumes_report import write_report

CSV = RESULTS / "waiting.csv"
DEFAULT = "as OpenMP does"
CONTENDERS: Mapping[str, Mapping[str, str]] = {
    DEFAULT: {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
}
#: Model and the volume's voxels (I, J, K), each of the model's own size: a window or two.
CASES = {"hippocampus-mr": (40, 56, 40), "headneck-ct": (48, 56, 56)}
#: Busy processes beside.
BESIDE = (0, 3)


def main() -> int:
    arguments = _parse()
    if arguments.child:
        return serve(arguments.child)
    if not arguments.report:
        for model in arguments.models:
            for beside in BESIDE:
                replace_rows(CSV, measure(model, beside, arguments.rounds), ("model", "beside", "how"))
    write_report()
    return 0


def measure(model: str, beside: int, rounds: int) -> list[dict[str, object]]:
    """One row a contender."""
    names = list(CONTENDERS)
    wall: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    with _children(model) as children, _busy(beside):
        for number in range(-1, rounds):  # the first is a warm-up
            for name in names[number % len(names) :] + names[: number % len(names)]:
                seconds = _ask(children[name])
                if number >= 0:
                    wall[name].append(seconds[0])
                    processor[name].append(seconds[1])
    timings = {name: Timing(tuple(wall[name]), tuple(processor[name])) for name in names}
    return [_row(model, beside, name, timings[name], timings[DEFAULT]) for name in names]


def serve(model: str) -> int:
    """In a child: segment once for every line of stdin; answers wall and processor seconds."""
    from MAESegmentLib.bundle import ModelStore
    from MAESegmentLib.images.volume import Volume
    from MAESegmentLib.inference.predictor import Predictor
    from MAESegmentLib.inference.settings import InferenceSettings

    bundle = ModelStore().find(model)
    settings = InferenceSettings.of_model(
        bundle.spec.inference, device="cpu", precision="fp32", check_familiarity=False
    )
    predictor = Predictor(bundle, settings)
    voxels = np.random.default_rng(0).normal(0, 300, (1, *CASES[model])).astype(np.float32)
    spacing = [*reversed(bundle.spec.preprocessing.spacing), 1.0]
    volume = Volume(voxels, np.diag(spacing))
    for _ in sys.stdin:
        begun, worked = time.perf_counter(), time.process_time()
        predictor.predict(volume)
        print(json.dumps([time.perf_counter() - begun, time.process_time() - worked]), flush=True)
    return 0


@contextmanager
def _children(model: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    children = {
        name: subprocess.Popen(
            [sys.executable, "-m", "model_training.benchmarks.waiting", "--child", model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**own, **environment},
        )
        for name, environment in CONTENDERS.items()
    }
    try:
        yield children
    finally:
        for child in children.values():
            child.kill()
            child.wait()


@contextmanager
def _busy(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _ask(child: subprocess.Popen[str]) -> tuple[float, float]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    wall, processor = json.loads(child.stdout.readline())
    return wall, processor


def _row(model: str, beside: int, name: str, timing: Timing, default: Timing) -> dict[str, object]:
    low, middle, high = timing.speedup_of(default)
    return {
        "model": model,
        "beside": beside,
        "how": name,
        "rounds": len(timing.wall),
        "wall_s": f"{timing.quartiles[1]:.3f}",
        "least_wall_s": f"{min(timing.wall):.3f}",
        "processor_s": f"{np.median(timing.processor):.3f}",
        "least_processor_s": f"{min(timing.processor):.3f}",
        "wall_ratio": f"{middle:.2f}",
        "wall_ratio_q1": f"{low:.2f}",
        "wall_ratio_q3": f"{high:.2f}",
        "processor_ratio": f"{timing.processor_speedup_of(default):.2f}",
        "machine": machine(),
        "load": f"{load():.1f}",
        "cores": os.cpu_count(),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=12, help="default: 12")
    parser.add_argument("--report", action="store_true", help="only make the table again")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
