"""This version beside another checkout of it: `python -m model_training.benchmarks.trees OTHER`.

How long things take to start, the first panel (in the tests' stand-in for Slicer), a segmentation, some steps of
fine-tuning and the hash of an image: in turns, each in a process of its own on one thread, by processor seconds, with
the peak of its memory. A ratio above 1 means that this version needs more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from ..tables import table

HERE = Path(__file__).resolve().parents[2]
#: Prints the processor seconds of its last statement alone.
_TIMED = 'import time\n{before}\nbegun = time.process_time()\n{timed}\nprint("took", time.process_time() - begun)'
_STAND_IN = """
import os, sys, tempfile
from pathlib import Path
os.environ.update(QT_QPA_PLATFORM="offscreen", MAESEGMENT_PYTHON=sys.executable)
from Testing.gui import standin
application = standin.install()
application.temporaryPath = tempfile.mkdtemp()
"""
_LOAD = 'loaded = standin.load_module(Path("MAESegment").resolve(), "MAESegment")'
_CT = """
import numpy as np
from MAESegmentLib.images import Volume
try:
    from MAESegmentLib.images.hashing import voxel_hash
    image_hash = lambda volume: voxel_hash(volume.array)
except ImportError:  # before the identity of an image had a file of its own
    from MAESegmentLib.cases.snapshot import image_hash
voxels = np.random.default_rng(0).integers(-1000, 1000, (300, 512, 512), dtype=np.int16).T[None]
volume = Volume(voxels, np.eye(4))
"""
_CASES = "from pathlib import Path; from Testing.datasets import write_dataset as w; w(Path({folder!r}), 3)"


@dataclass(frozen=True)
class Cost:
    """Processor seconds and peak memory (MiB)."""

    seconds: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of another version, which this Python can run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="only what holds one of these words")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trees-") as folder:
        run([sys.executable, "-c", _CASES.format(folder=f"{folder}/cases")], HERE)
        chosen = {name: work for name, work in measured(Path(folder)).items() if any(w in name for w in arguments.only)}
        found: dict[tuple[str, Path], list[Cost]] = {}
        for number in range(arguments.rounds):
            for name, work in chosen.items():
                trees = [arguments.other.resolve(), HERE]
                for tree in trees if number % 2 else trees[::-1]:
                    found.setdefault((name, tree), []).append(work(tree))
                    print(f"{name}, {tree}: {found[name, tree][-1]}", flush=True)
    lines = []
    for name in chosen:
        then, now = found[name, arguments.other.resolve()], found[name, HERE]
        ratios = [a.seconds / b.seconds for a, b in zip(now, then, strict=True)]
        seconds = [f"{median(cost.seconds for cost in costs):.3f}" for costs in (then, now)]
        peaks = [f"{median(cost.peak for cost in costs):.0f}" for costs in (then, now)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append([name, *seconds, spread, *peaks])
    head = ["what", "other, s", "this, s", "ratio (least to most)", "other, peak MiB", "this, peak MiB"]
    print(table(head, lines))


def measured(folder: Path) -> dict[str, Callable[[Path], Cost]]:
    """What is measured, by name; `folder` holds the training cases."""
    tune = ["--cases", f"{folder}/cases", "--model", "hippocampus-mr", "--steps", "4", "--validation", "none"]
    return {
        "maesegment --help": partial(whole, ["-m", "MAESegmentLib.cli", "--help"]),
        "worker until it is ready": worker,
        "the module loaded by Slicer": partial(part, _STAND_IN, _LOAD),
        "its first panel painted": partial(part, _STAND_IN + _LOAD, "loaded.show(); application.processEvents()"),
        "the demo's segmentation": lambda tree: whole(
            ["-m", "MAESegmentLib.cli", "demo", "--device", "cpu", "-o", tempfile.mkdtemp(dir=folder)], tree
        ),
        "4 steps of fine-tuning": lambda tree: whole(
            ["-m", "MAESegmentLib.cli", "finetune", *tune, "--out", tempfile.mkdtemp(dir=folder)], tree
        ),
        "hash of a CT of 512 x 512 x 300": partial(part, _CT, "image_hash(volume)"),
    }


def whole(arguments: list[str], tree: Path) -> Cost:
    """A process from its start to its end, what it starts included."""
    process = start(arguments, tree)
    assert process.stdout is not None
    return _ended(process, process.stdout.read())


def part(before: str, timed: str, tree: Path) -> Cost:
    """Only the statement `timed`, after `before`."""
    process = start(["-c", _TIMED.format(before=before, timed=timed)], tree)
    assert process.stdout is not None
    text = process.stdout.read()
    peak = _ended(process, text).peak
    return Cost(float(text.rpartition("took ")[2].split()[0]), peak)


def worker(tree: Path) -> Cost:
    """A worker process until it says that it is ready."""
    module = "worker" if (tree / "MAESegmentLib" / "worker").is_dir() else "jobs.worker"
    process = start(["-m", f"MAESegmentLib.{module}"], tree)
    assert process.stdout is not None
    for line in process.stdout:
        if '"ready"' in line:
            break
    times = psutil.Process(process.pid).cpu_times()
    assert process.stdin is not None
    process.stdin.close()
    return Cost(times.user + times.system, _ended(process, "").peak)


def start(arguments: list[str], tree: Path) -> subprocess.Popen[str]:
    """Python with these arguments in a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _ended(process: subprocess.Popen[str], text: str) -> Cost:
    """What a process that ends has cost, with the processes that it waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{text}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def run(command: list[str], tree: Path) -> None:
    """Do a preparation in a checkout."""
    subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - begun:.0f} s in all")
