"""The label map that goes to the worker beside a case's scan."""

from __future__ import annotations

import numpy as np
import pytest

from MAESegmentLib.errors import OutputError, VolumeReadError
from MAESegmentLib.worker.job_folder import JobFolder
from Testing.children import limit_file_size, run

MATRIX = np.array([[-0.8, 0.1, 0, 7], [0.1, 0.8, 0, -3], [0, 0, 2.5, 11], [0, 0, 0, 1.0]])


@pytest.fixture
def folder(tmp_path) -> JobFolder:
    """With a scan of (K, J, I) = (4, 5, 6) voxels."""
    folder = JobFolder.create(tmp_path / "work")
    assert [*folder.write_volume([np.arange(120, dtype=np.int16).reshape(4, 5, 6)], MATRIX)][-1] == 1.0
    return folder


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_map_comes_back_on_the_grid_of_its_scan(folder: JobFolder, dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    assert [*folder.write_label_map(array)][-1] == 1.0
    label_map = folder.read_label_map(folder.read_volume())
    assert label_map.array.dtype == dtype
    assert np.array_equal(label_map.array, array.T)
    assert np.array_equal(label_map.ijk_to_ras, MATRIX)


def test_large_label_map_is_written_in_steps_and_half_of_it_is_none(folder: JobFolder) -> None:
    array = np.zeros((40, 1024, 1024), np.uint8)
    steps = folder.write_label_map(array)
    first = next(steps)
    assert 0 < first < 1
    with pytest.raises(VolumeReadError, match="Add the case again"):
        folder.read_label_map(folder.read_volume())
    shares = [first, *steps]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert folder.read_label_map(folder.read_volume()).array.shape == (1024, 1024, 40)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 5, 6), np.float32), np.zeros((4, 30), np.uint8), np.array([[["a"]]], dtype=object)]
)
def test_what_is_no_label_map_is_refused(folder: JobFolder, array: np.ndarray) -> None:
    np.save(folder.path / "labels_in.npy", array, allow_pickle=True)
    with pytest.raises(VolumeReadError):
        folder.read_label_map(folder.read_volume())


def test_full_disk_is_named(folder: JobFolder) -> None:
    def work() -> None:
        limit_file_size(2**20)
        with pytest.raises(OutputError, match="The label map cannot be handed over"):
            list(folder.write_label_map(np.zeros((2, 1024, 1024), np.uint8)))

    run(work)
