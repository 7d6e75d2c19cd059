"""No size that a header gives makes anyone take memory for it: it is refused, with its figure, before."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.cases.case import Case
from MAESegmentLib.errors import DatasetError, GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.images import limits, read_label_map, read_volume, write_volume
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.preprocessing.grid import NetworkGrid
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.prepared import CaseCache
from MAESegmentLib.training.data.preparing import prepare_cases

ARRAY = np.random.default_rng(0).integers(0, 99, (1, 12, 10, 8)).astype(np.int16)
PREPROCESSING = Preprocessing("RAS", (1, 1, 1), (8, 8, 8), IntensityRecipe("ct", lower=-1e6, upper=1e6, mean=0, std=1))


def scan(voxel_mm: float) -> Volume:
    return Volume(ARRAY, np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0]))


@pytest.mark.parametrize("voxel_mm", [150.0, 2000.0, 1e6, 1e30])
def test_voxel_size_that_asks_for_a_huge_network_image_is_named(voxel_mm: float) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(GeometryError, match=f"A voxel of {voxel_mm:.6g} x {voxel_mm:.6g}".replace("+", r"\+")):
            PREPROCESSING.prepare(scan(voxel_mm))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_training_names_the_case_of_such_a_voxel_size_with_the_others(tmp_path: Path) -> None:
    cases = [Case(str(mm), (write_volume(tmp_path / f"{mm}.nii.gz", scan(mm)),)) for mm in (1, 2000, 3000)]
    cache = CaseCache(1.0, tmp_path / "cache")
    with pytest.raises(DatasetError, match=r"Case 2000: A voxel of 2000 (?s:.*)Case 3000: A voxel of 3000"):
        prepare_cases(cases, PREPROCESSING, cache)
    assert [case.id for case in cache] == ["1"]


def test_voxel_size_that_leaves_nothing_to_see_is_named() -> None:
    with pytest.raises(GeometryError, match=r"A voxel of 0\.002 x .* would see a single one"):
        PREPROCESSING.prepare(scan(0.002))


def test_network_image_must_fit_into_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    NetworkGrid.fit(scan(10).grid, "RAS", (1, 1, 1))
    monkeypatch.setattr(limits, "_SHARE_OF_MEMORY", 1e-5)
    with pytest.raises(GeometryError, match=r"960,000 voxels of 1 x 1 x 1 mm .* GiB are free"):
        NetworkGrid.fit(scan(10).grid, "RAS", (1, 1, 1))


def test_scan_must_fit_into_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limits.check_size("a.nii", (512, 512, 100), 2)
    monkeypatch.setattr(limits, "_SHARE_OF_MEMORY", 1e-6)
    with pytest.raises(VolumeReadError, match=r"a\.nii is too large for this computer: it needs \d{4,}.* GiB"):
        limits.check_size("a.nii", (512, 512, 100), 2)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.nrrd", "a.nhdr", "a.seg.nrrd", "a.mha", "a.hdr"])
@pytest.mark.parametrize("reader", [read_volume, read_label_map])
def test_pipes_and_devices_are_no_scans(tmp_path: Path, name: str, reader) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(MAESegmentError, match="pipe or a device"):
        reader(tmp_path / name)
    (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
    with pytest.raises(MAESegmentError, match="pipe or a device"):
        reader(tmp_path / f"zero-{name}")
