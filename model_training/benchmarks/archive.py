"""What a volume costs in archives of 1,000 and of 10,000: `python -m model_training.benchmarks.archive`.

Makes both archives of small volumes (32 voxels a side, ten to a folder, one in a hundred cut off) in a temporary
folder, then takes turns between them: a tenth of the one, a tenth of the other. Timed are the search for scans, the
search with an index that is there, and streaming every volume once as `maesegment pretrain --stream` does, without a
network. The files were written just before, so they are read from the system's cache: this times the program, not a
disk. Wall time counts; the processor time of the whole process is kept beside it.
`--report` makes the tables of scaling.md again from the CSV files.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
import psutil
import torch

from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.archive import INDEX, Archive, open_archive
from MAESegmentLib.training.data.patches import Batch
from MAESegmentLib.training.data.streaming import SKIPPED, Stream
from MAESegmentLib.training.loop.distributed import SOLO
from MAESegmentLib.training.loop.loop import ignore, never
from MAESegmentLib.training.settings import PretrainSettings

from .measurements import RESULTS, machine, replace_rows
from .scaling_report import write_report
from .timing import load, quartiles

CSV = RESULTS / "archive.csv"
EDGE = 32
PER_FOLDER = 10
#: One volume in so many is cut off in the middle.
DAMAGED = 100
ROUNDS = 10
#: (volumes, what) -> (wall, processor) ms a volume, a pair for each round.
Times = dict[tuple[int, str], list[tuple[float, float]]]
SETTINGS = PretrainSettings(batch_size=8, micro_batch=4, patches_per_volume=4, open_volumes=16, device="cpu")
PREPROCESSING = Preprocessing("RAS", (1.0, 1.0, 1.0), (24, 24, 24), IntensityRecipe("zscore"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--volumes", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--results", type=Path, default=CSV, help="CSV file that gets the rows")
    parser.add_argument("--report", action="store_true", help="only make the tables again")
    arguments = parser.parse_args()
    if not arguments.report:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(prefix="archive-") as folder:
            rows = measure(Path(folder), arguments.volumes)
        replace_rows(arguments.results, rows, ("volumes", "what"))
    if arguments.results == CSV:
        write_report()
    return 0


def measure(folder: Path, sizes: list[int]) -> list[dict[str, object]]:
    """A row for each archive and each thing that is timed."""
    for size in sizes:
        make_archive(folder / str(size), size)
    times: Times = {}
    for _ in range(3):
        for size in sizes:
            out = folder / f"run {size}"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            for what in ("search", "search again"):
                spent = _timed(lambda s=size, o=out: _open(folder / str(s), o), size)
                times.setdefault((size, what), []).append(spent)
    archives = {size: _open(folder / str(size), folder / f"run {size}") for size in sizes}
    memory = _stream(archives, folder, times)
    return [
        {
            "volumes": size,
            "what": what,
            "ms_per_volume": f"{median(wall for wall, _ in found):.3f}",
            "q1_ms": f"{quartiles([wall for wall, _ in found])[0]:.3f}",
            "q3_ms": f"{quartiles([wall for wall, _ in found])[2]:.3f}",
            "processor_ms": f"{median(processor for _, processor in found):.3f}",
            "rounds": len(found),
            "index_mb": f"{(folder / f'run {size}' / INDEX).stat().st_size / 1e6:.2f}",
            "memory_mb": f"{memory[size]:.0f}",
            "skipped": _skipped(folder / f"run {size}"),
            "load": f"{load():.1f}",
            "machine": machine(),
        }
        for (size, what), found in times.items()
    ]


def _stream(archives: dict[int, Archive], folder: Path, times: Times) -> dict[int, float]:
    """Every volume of each archive once, in `ROUNDS` turns; returns the process's memory (MB) after each's last."""
    memory: dict[int, float] = {}
    running: dict[int, Iterator[Batch]] = {}
    per_step = SETTINGS.batch_size / (SETTINGS.patches_per_volume or 1)
    for size, archive in archives.items():
        settings = replace(SETTINGS, steps=int(size / per_step))
        stream = Stream(archive.training, PREPROCESSING, settings, folder / f"run {size}", SOLO)
        running[size] = stream.batches(0, torch.device("cpu"))
    for _ in range(ROUNDS):
        for size, batches in running.items():
            parts = int(size / ROUNDS / per_step) * len(SETTINGS.parts())
            spent = _timed(lambda b=batches, n=parts: [None for _ in islice(b, n)], size / ROUNDS)
            times.setdefault((size, "stream"), []).append(spent)
            memory[size] = psutil.Process().memory_info().rss / 1e6
    for batches in running.values():
        with closing(batches):  # type: ignore[type-var]
            pass
    return memory


def make_archive(folder: Path, volumes: int) -> None:
    """`volumes` NIfTI files of noise in blobs, all different."""
    rng = np.random.default_rng(0)
    for number in range(volumes):
        place = folder / f"patient{number // PER_FOLDER:05d}"
        place.mkdir(parents=True, exist_ok=True)
        blobs = rng.normal(0, 100, (EDGE // 4,) * 3).repeat(4, 0).repeat(4, 1).repeat(4, 2)
        image = (blobs + rng.integers(0, 8, (EDGE,) * 3)).astype(np.int16)
        file = place / f"scan{number:05d}.nii.gz"
        nib.save(nib.Nifti1Image(image, np.eye(4)), file)
        if number % DAMAGED == DAMAGED // 2:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _open(folder: Path, out: Path) -> Archive:
    return open_archive([folder], out, 0.0, report=ignore, should_cancel=never)


def _skipped(out: Path) -> int:
    file = out / SKIPPED
    return len(file.read_text(encoding="utf-8").splitlines()) - 1 if file.exists() else 0


def _timed(work: Callable[[], object], volumes: float) -> tuple[float, float]:
    """Milliseconds a volume: wall, processor."""
    started, worked = time.perf_counter(), time.process_time()
    work()
    wall, processor = time.perf_counter() - started, time.process_time() - worked
    return 1000 * wall / volumes, 1000 * processor / volumes


if __name__ == "__main__":
    raise SystemExit(main())
