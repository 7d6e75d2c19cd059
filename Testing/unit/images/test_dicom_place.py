"""Where a DICOM series lies: rounding and noise in its header are no tilt, and what is malformed is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from MAESegmentLib.errors import GeometryError, VolumeReadError
from MAESegmentLib.images import read_volume
from Testing.dicom_series import edit, head


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_rounded_directions_leave_the_voxel_size_alone(tmp_path: Path, decimals: int) -> None:
    row = np.round([np.cos(0.83), np.sin(0.83), 0], decimals)
    recipe = head(row=tuple(row), column=(-row[1], row[0], 0.0))
    volume = read_volume(recipe.write(tmp_path / "series"))
    np.testing.assert_allclose(volume.grid.spacing, [0.7, 0.8, 2.5], rtol=1e-9)
    length = np.linalg.norm(row)
    assert any("ImageOrientationPatient" in note for note in volume.notes) == (abs(length - 1) > 1e-3)


@pytest.mark.parametrize(
    ("orientation", "said"),
    [
        ((2, 0, 0, 0, 2, 0), "2 and 2 long"),
        ((1, 0, 0, 0, 0.5, 0), "1 and 0.5 long"),
        ((0, 0, 0, 0, 0, 0), "0 and 0 long"),
        ((1, 0, 0, 0.1, 0.995, 0), "5.7 degrees off a right angle"),
        ((1, 0, 0, 1, 0, 0), "90 degrees off a right angle"),
    ],
)
def test_directions_that_are_none_are_refused(tmp_path: Path, orientation: tuple[float, ...], said: str) -> None:
    with pytest.raises(VolumeReadError, match=f"ImageOrientationPatient is malformed.*{said}"):
        read_volume(head().write(tmp_path / "s", edit(ImageOrientationPatient=list(orientation))))


@pytest.mark.parametrize("slices", [3, 4, 8, 30])
def test_noise_of_positions_within_the_slices_is_no_tilt(tmp_path: Path, slices: int) -> None:
    recipe = head(slices, slice_step=(0.0, 0.0, 1.0))
    noise = np.random.default_rng(slices).uniform(-0.02, 0.02, (slices, 2))
    change = edit(ImagePositionPatient=lambda k: [*np.round(np.add([-20, 30], noise[k]), 6), -100.0 + k])
    volume = read_volume(recipe.write(tmp_path / "series", change))
    np.testing.assert_allclose(volume.ijk_to_ras, recipe.ijk_to_ras, atol=0.03)
    axes = volume.ijk_to_ras[:3, :3] / volume.grid.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(("degrees", "is_refused"), [(0.01, False), (0.05, True), (1.0, True)])
def test_tilt_is_judged_by_what_it_moves_over_the_stack(tmp_path: Path, degrees: float, is_refused: bool) -> None:
    recipe = head(40, slice_step=(0.0, 3 * float(np.tan(np.radians(degrees))), 3.0))
    folder = recipe.write(tmp_path / "series", _with_short_decimals)
    if is_refused:
        with pytest.raises(GeometryError, match=f"sheared by {degrees} degrees"):
            read_volume(folder)
    else:
        assert read_volume(folder).array.shape == (1, 5, 6, 40)


@pytest.mark.parametrize("decimals", [2, 3, 4, 6])
def test_directions_of_few_decimals_are_no_tilt(tmp_path: Path, decimals: int) -> None:
    rotation = Rotation.from_euler("xyz", (7, 11, 23), degrees=True).as_matrix()
    row, column = (tuple(np.round(rotation[:, axis], decimals)) for axis in (0, 1))
    recipe = head(60, row=row, column=column, slice_step=tuple(3 * rotation[:, 2]))
    volume = read_volume(recipe.write(tmp_path / "series", _with_short_decimals))
    axes = volume.ijk_to_ras[:3, :3] / volume.grid.spacing
    np.testing.assert_allclose(axes, np.diag([-1, -1, 1]) @ rotation, atol=2 * 10.0**-decimals)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-3)
    np.testing.assert_allclose(volume.grid.spacing, [0.7, 0.8, 3], rtol=1e-4)
    assert bool(volume.notes) == (decimals < 4)


def _with_short_decimals(_: int, dataset: Dataset) -> None:
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in dataset.ImagePositionPatient]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ImagePositionPatient", b"1\\2\\3\\4 ", "ImagePositionPatient has 4 value"),
        ("ImagePositionPatient", b"a\\2\\3 ", "ImagePositionPatient is not"),
        ("ImageOrientationPatient", b"1\\0\\0 ", "ImageOrientationPatient has 3 value"),
        ("PixelSpacing", b"0.7 ", "PixelSpacing has 1 value"),
        ("PixelSpacing", b"-0.7\\0.7 ", "PixelSpacing is -0.7 x 0.7 mm"),
        ("PixelSpacing", b"0\\0 ", "PixelSpacing is 0 x 0 mm"),
        ("NumberOfFrames", b"many", "NumberOfFrames is not a whole number"),
        ("NumberOfFrames", b"-3", "NumberOfFrames is not a whole number"),
    ],
)
def test_malformed_place_is_refused_by_its_attribute(tmp_path: Path, name: str, text: bytes, said: str) -> None:
    folder = head().write(tmp_path / "series", edit(**{name: text}))
    with pytest.raises(VolumeReadError, match=said) as refusal:
        read_volume(folder)
    assert "screenshot" not in str(refusal.value)
