"""What `maesegment batch` costs beside the network: `python -m model_training.benchmarks.batch`.

An archive of 10,000 small NIfTI files goes through the batch with a stand-in for the network that returns at once; so
what is timed is finding, claiming, reading, writing and the table. Then the finished batch is started again. A row for
every thousand scans goes to results/batch.csv.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from MAESegmentLib.images.archive import ArchiveIndex
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap, Volume
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.inference.batch import Batch, BatchPlan
from MAESegmentLib.inference.batch_table import VolumeRow
from MAESegmentLib.inference.settings import Prediction

from .runner import begin, record, where

SIDE = 12  # voxels
PER_FOLDER = 100
PER_ROW = 1000


class Instant:
    """Stands in for a predictor: one voxel of label 1."""

    def predict(self, volume: Volume, **_: object) -> Prediction:
        labels = np.zeros(volume.grid.shape, np.uint8)
        labels[3, 4, 5] = 1
        return Prediction(LabelMap(labels, volume.ijk_to_ras), 0.0, "cpu")


def main() -> None:
    arguments = begin(
        __doc__, lambda parser: parser.add_argument("--scans", type=int, default=10_000, help="default: %(default)s")
    )
    with tempfile.TemporaryDirectory() as folder:
        record("batch", measure(Path(folder), arguments.scans), ("what",))


def measure(folder: Path, count: int) -> list[dict[str, object]]:
    """Milliseconds a scan: for each thousand, for finding them, and for a batch that has nothing left to do."""
    source, out = folder / "archive", folder / "out"
    out.mkdir()
    _make_archive(source, count)
    milliseconds = {}
    for what in ("finding", "finding again"):
        begun = time.process_time()
        scans = ArchiveIndex(out / "index.jsonl").scans([source])
        milliseconds[what] = _each(begun, len(scans))
    labels = (Label(1, "point"),)
    batch = Batch(BatchPlan(out, scans), labels)
    last = time.process_time()

    def on_row(_row: VolumeRow, done: int) -> None:
        nonlocal last
        if done % PER_ROW == 0:
            milliseconds[f"scans {done - PER_ROW + 1} to {done}"] = _each(last, PER_ROW)
            last = time.process_time()

    batch.run(Instant(), on_row=on_row)
    begun = time.process_time()
    assert not Batch(BatchPlan(out, scans), labels).left()
    milliseconds["nothing left to do"] = _each(begun, len(scans))
    here = where()
    fixed = {"scans": count, **{name: here[name] for name in ("machine", "cores", "load")}}
    return [{"what": what, "ms_per_scan": f"{value:.3f}", **fixed} for what, value in milliseconds.items()]


def _make_archive(source: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        folder = source / f"{number // PER_FOLDER:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        array = random.integers(0, 1000, (1, SIDE, SIDE, SIDE), dtype=np.int16)
        write_volume(folder / f"{number:06d}.nii", Volume(array, np.eye(4)))


def _each(begun: float, count: int) -> float:
    return 1000 * (time.process_time() - begun) / count


if __name__ == "__main__":
    main()
