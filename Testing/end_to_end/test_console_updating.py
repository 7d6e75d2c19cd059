"""What was drawn on files is handed to a real worker by the console; nothing is left of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib import Console, read_label_map
from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.errors import Cancelled, DrawingError, GeometryError, WorkerError
from MAESegmentLib.images.volume import LabelMap
from Testing.phantoms import LABELS, PhantomFactory


@pytest.fixture
def console(tmp_path: Path):
    with Console(store=ModelStore(tmp_path / "models"), working_folder=tmp_path / "jobs") as console:
        yield console
    assert [*(tmp_path / "jobs").iterdir()] == []


def every_second(array: np.ndarray) -> np.ndarray:
    drawn = np.zeros_like(array)
    for label in LABELS:
        slices = np.flatnonzero((array == label.value).any(axis=(0, 2)))
        slices = sorted({*slices[::2].tolist(), int(slices[-1])})
        drawn[:, slices] += (array[:, slices] == label.value).astype(array.dtype) * label.value
    return drawn


def test_drawn_slices_are_filled_and_saved(console, tmp_path):
    scan = PhantomFactory().oblique(noise=10.0)
    drawn = LabelMap(every_second(scan.label_map.array), scan.volume.ijk_to_ras)
    out = tmp_path / "out.seg.nrrd"
    updated = console.update_scan(scan.volume, drawn, labels=LABELS, out=out)
    assert {one["name"] for one in updated.followed} == {label.name for label in LABELS}
    assert (updated.label_map.array[drawn.array > 0] == drawn.array[drawn.array > 0]).all()
    assert np.count_nonzero(updated.label_map.array) > 1.5 * np.count_nonzero(drawn.array)
    np.testing.assert_array_equal(read_label_map(out).on_grid(scan.volume.grid).array, updated.label_map.array)
    with pytest.raises(DrawingError, match="no correction"):
        console.update_scan(scan.volume, scan.label_map, labels=LABELS)
    with pytest.raises(GeometryError):
        console.update_scan(scan.volume, LabelMap(drawn.array[:-3], scan.volume.ijk_to_ras @ np.diag([1, 1, 1.2, 1])))


def test_cancelled_or_killed_leaves_nothing(console):
    scan = PhantomFactory()(shape=(160, 160, 160), spacing=(0.15, 0.15, 0.15))
    drawn = LabelMap(every_second(scan.label_map.array), scan.volume.ijk_to_ras)
    job = console.update_scan(scan.volume, drawn, labels=LABELS, wait=False)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(60)
    job = console.update_scan(scan.volume, drawn, labels=LABELS, wait=False)
    while job.progress.stage in ("", "send") and not job.is_finished:  # the worker may only just start
        time.sleep(0.01)
    os.kill(console.client._process._pid, signal.SIGKILL)
    with pytest.raises(WorkerError):
        job.result(60)
