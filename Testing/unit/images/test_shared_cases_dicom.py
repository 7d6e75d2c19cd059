"""Each DICOM input that went wrong once gives its right value, or is refused for the true reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.cli.main import main
from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images import (
    LabelMap,
    Volume,
    check_label_map_destination,
    read_label_map,
    read_volume,
    write_label_map,
)
from MAESegmentLib.images.labels import Label


def _check_values(volume: Volume, file: Path, tolerance_mm: float = 1e-3) -> None:
    """Voxels and world positions of every corner, whatever the order of the axes."""
    with np.load(file) as right:
        np.testing.assert_array_equal(volume.array[0], right["voxels"])
        affine = right["affine"]
    for corner in np.ndindex(2, 2, 2):
        index = [*(np.array(volume.array.shape[1:]) - 1) * corner, 1]
        np.testing.assert_allclose(volume.ijk_to_ras @ index, affine @ index, atol=tolerance_mm)


def _labelled(volume: Volume) -> LabelMap:
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[2:5, 2:6, 1:] = 1
    array[6, 6, 0] = 2
    return LabelMap(array, volume.ijk_to_ras)


LABELS = [Label(1, "海馬"), Label(2, "α 😀")]


def _check_seg(volume: Volume, folder: Path) -> None:
    """A DICOM SEG of the scan is found possible beforehand, is written, and comes back voxel for voxel."""
    label_map = _labelled(volume)
    check_label_map_destination(folder / "out.dcm", source=volume, labels=LABELS)
    written = write_label_map(folder / "out.dcm", label_map, LABELS, source=volume)
    np.testing.assert_array_equal(read_label_map(written).on_grid(volume.grid).array, label_map.array)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_uid_no_frame__two_folders", "2 series, which differ in PatientID and StudyInstanceUID"),
        ("same_uid_same_frame__two_folders", "mixes images of different patients: PatientID"),
    ],
)
def test_two_patients_of_one_series_uid_are_no_volume_but_each_is(shared_cases: Path, name: str, said: str) -> None:
    folder = shared_cases / "01_two_patients_same_series_uid" / name
    with pytest.raises(VolumeReadError, match=said):
        read_volume(folder)
    assert [read_volume(folder / patient).array.shape for patient in ("p1", "p2")] == [(1, 16, 14, 6)] * 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Study_differs_within_the_series", "different studies: StudyInstanceUID"),
        ("modality_differs_within_the_series", "different modalities: Modality"),
        ("two_patients_in_one_series_UID", "different patients: PatientID"),
    ],
)
def test_patients_studies_and_modalities_in_one_series_are_refused(shared_cases: Path, name: str, said: str) -> None:
    with pytest.raises(VolumeReadError, match=said):
        read_volume(shared_cases / "47_two_patients_or_studies_in_one_series" / name)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("03_ct_rescale_slope_only/ct_only_slope", "RescaleIntercept is missing"),
        ("05_dicom_two_slices_share_sop_uid/pairs_of_one_sop_uid", "SOPInstanceUID of another"),
        ("17_rescale_slope_empty_or_zero/ct_slope_empty", "RescaleSlope is missing or empty"),
        ("17_rescale_slope_empty_or_zero/ct_slope_zero", "RescaleSlope is 0"),
    ],
)
def test_what_a_header_leaves_open_is_read_as_the_field_does_and_said(
    shared_cases: Path, folder: str, said: str
) -> None:
    volume = read_volume(shared_cases / folder)
    _check_values(volume, (shared_cases / folder).with_suffix(".npz"))
    assert any(said in note for note in volume.notes)


def test_noisy_positions_are_read_within_one_tolerance_by_scan_and_seg(shared_cases: Path, tmp_path: Path) -> None:
    folder = shared_cases / "11_seg_of_noisy_positions"
    volume = read_volume(folder / "ipp_noise_004")
    _check_values(volume, folder / "ipp_noise_004.npz", tolerance_mm=0.05)
    _check_seg(volume, tmp_path)
    stored = read_label_map(folder / "ipp_noise_004.dcm").on_grid(volume.grid)
    assert np.unique(stored.array, return_counts=True)[1].tolist() == [1224, 72, 48]


@pytest.mark.parametrize(
    "folder",
    [
        "09_enhanced_per_frame_pixel_measures/per_frame_measures",
        "43_dicom_seg_of_another_series/ct_plain",
        "45_enhanced_jpeg_lossless/mf_jpeg_lossless",
    ],
)
def test_dicom_seg_is_written_whatever_the_layout_of_the_scan(shared_cases: Path, folder: str, tmp_path: Path) -> None:
    _check_seg(read_volume(shared_cases / folder), tmp_path)


def test_enhanced_lossless_jpeg_equals_the_uncompressed_file(shared_cases: Path) -> None:
    compressed = read_volume(shared_cases / "45_enhanced_jpeg_lossless" / "mf_jpeg_lossless")
    plain = read_volume(shared_cases / "09_enhanced_per_frame_pixel_measures" / "per_frame_measures")
    np.testing.assert_array_equal(compressed.array, plain.array)


def test_jpeg_of_12_bits_is_decoded(shared_cases: Path) -> None:
    volume = read_volume(shared_cases / "13_jpeg_extended_12bit" / "real_12bit_JPGExtended")
    assert volume.array.shape == (1, 256, 1024, 3)
    assert (volume.array.min(), volume.array.max()) == (0, 264)


def test_enhanced_file_without_frame_of_reference_is_read(shared_cases: Path) -> None:
    volume = read_volume(shared_cases / "15_enhanced_without_frame_of_reference" / "no_frame_of_reference")
    twin = read_volume(shared_cases / "09_enhanced_per_frame_pixel_measures" / "per_frame_measures")
    np.testing.assert_array_equal(volume.array, twin.array)
    assert volume.grid.matches(twin.grid, 1e-6)


def test_dicom_seg_of_another_series_is_no_case(
    shared_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_cases / "43_dicom_seg_of_another_series"
    shutil.copytree(folder / "ct_plain", tmp_path / "scan")
    code = main(["cases", "add", "--store", str(tmp_path / "store"), str(tmp_path / "scan"), str(folder / "uint8.dcm")])
    assert code != 0
    assert "uint8.dcm belongs to another scan" in capsys.readouterr().err
    assert not list(tmp_path.glob("store/**/*.nii*"))
