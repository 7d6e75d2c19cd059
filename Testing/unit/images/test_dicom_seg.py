"""A DICOM SEG refers to the images it was drawn on and puts every voxel where the scan has it."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from MAESegmentLib.errors import OutputError, VolumeReadError
from MAESegmentLib.images import (
    LabelMap,
    Volume,
    check_label_map_destination,
    read_label_map,
    read_volume,
    write_label_map,
)
from MAESegmentLib.images.formats.dicom.seg_reading import read_dicom_seg
from MAESegmentLib.images.labels import ANATOMICAL_STRUCTURE, Code, Label, Terminology
from Testing.dicom_series import SeriesRecipe, head

LABELS = (
    Label(
        2,
        "Ohrspeicheldrüse",
        (220, 30, 60),
        Terminology(ANATOMICAL_STRUCTURE, Code("SCT", "45289007", "Parotid gland"), Code("SCT", "24028007", "Right")),
    ),
    Label(5, "absent", (10, 200, 30)),
    Label(9, "third"),
)


@pytest.fixture
def recipe() -> SeriesRecipe:
    """Oblique, with slices stored from top to bottom."""
    made = head()
    made.row, made.column = (0.8, 0.6, 0.0), (-0.6, 0.8, 0.0)
    made.slice_step = (0.0, 0.0, -2.5)
    return made


@pytest.fixture
def scan(recipe: SeriesRecipe, tmp_path: Path) -> Volume:
    return read_volume(recipe.write(tmp_path / "series"))


@pytest.fixture
def label_map(scan: Volume) -> LabelMap:
    array = np.zeros(scan.array.shape[1:], np.uint8)
    array[1:3, 2:5, 2:6] = 2
    array[4, 0, 3] = 9
    return LabelMap(array, scan.ijk_to_ras)


def test_labels_come_back_voxel_for_voxel_on_the_grid_of_the_scan(
    scan: Volume, label_map: LabelMap, tmp_path: Path
) -> None:
    written = write_label_map(tmp_path / "out.dcm", label_map, LABELS, source=scan)
    back = read_label_map(written).on_grid(scan.grid)
    numbers = np.zeros(10, np.uint8)
    numbers[[2, 5, 9]] = 1, 2, 3
    np.testing.assert_array_equal(back.array, numbers[label_map.array])


def test_segments_carry_names_codes_and_colours(scan: Volume, label_map: LabelMap, tmp_path: Path) -> None:
    labels = read_dicom_seg(write_label_map(tmp_path / "out.dcm", label_map, LABELS, source=scan))[1]
    assert [label.name for label in labels] == ["Ohrspeicheldrüse", "absent", "third"]
    assert [label.terminology for label in labels] == [label.terminology for label in LABELS]
    np.testing.assert_allclose([label.colour for label in labels], [label.colour for label in LABELS], atol=1)


def test_segmentation_belongs_to_patient_study_and_images_of_the_scan(
    scan: Volume, recipe: SeriesRecipe, label_map: LabelMap, tmp_path: Path
) -> None:
    dataset = pydicom.dcmread(write_label_map(tmp_path / "out.dcm", label_map, LABELS, source=scan, volume_name="CT 1"))
    assert (dataset.Modality, dataset.SegmentationType) == ("SEG", "BINARY")
    assert (dataset.PatientID, dataset.StudyInstanceUID) == ("phantom", recipe.study_uid)
    assert dataset.FrameOfReferenceUID == recipe.frame_of_reference
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == recipe.series_uid
    assert dataset.SeriesInstanceUID != recipe.series_uid
    assert dataset.SeriesDescription == "MAESegment CT 1"
    assert dataset.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


def test_each_frame_refers_to_the_image_at_its_position(scan: Volume, label_map: LabelMap, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write_label_map(tmp_path / "out.dcm", label_map, LABELS, source=scan))
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, scan.source.files)}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        referred = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, images[referred].ImagePositionPatient, atol=1e-6)


def test_nothing_found_is_still_a_valid_segmentation(scan: Volume, label_map: LabelMap, tmp_path: Path) -> None:
    empty = LabelMap(np.zeros_like(label_map.array), scan.ijk_to_ras)
    written = write_label_map(tmp_path / "out.dcm", empty, LABELS, source=scan)
    assert not read_label_map(written).array.any()
    assert len(read_dicom_seg(written)[1]) == 3


def test_existing_folder_gets_the_segmentation_as_a_file(scan: Volume, label_map: LabelMap, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    written = write_label_map(tmp_path / "results", label_map, LABELS, source=scan)
    assert written == tmp_path / "results" / "segmentation.dcm"
    assert [file.name for file in written.parent.iterdir()] == ["segmentation.dcm"]


def test_segmentation_beside_the_images_does_not_disturb_reading_them(
    scan: Volume, label_map: LabelMap, tmp_path: Path
) -> None:
    write_label_map(tmp_path / "series", label_map, LABELS, source=scan)
    np.testing.assert_array_equal(read_volume(tmp_path / "series").array, scan.array)


def test_series_anonymised_down_to_its_identifiers_is_refused_before_work_starts(tmp_path: Path) -> None:
    def anonymise(_: int, dataset: Dataset) -> None:
        dataset.FrameOfReferenceUID = ""

    scan = read_volume(head().write(tmp_path / "series", anonymise))
    with pytest.raises(OutputError, match="lacks FrameOfReferenceUID"):
        check_label_map_destination(tmp_path / "out.dcm", source=scan)


def test_series_without_patient_data_is_accepted(tmp_path: Path) -> None:
    def anonymise(_: int, dataset: Dataset) -> None:
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            del dataset[name]

    scan = read_volume(head().write(tmp_path / "series", anonymise))
    array = np.zeros(scan.array.shape[1:], np.uint8)
    array[2, 2, 2] = 2
    written = write_label_map(tmp_path / "out.dcm", LabelMap(array, scan.ijk_to_ras), LABELS, source=scan)
    assert read_label_map(written).array.any()


def test_scan_given_for_a_dicom_seg_is_refused(scan: Volume) -> None:
    with pytest.raises(VolumeReadError, match="not a DICOM SEG"):
        read_label_map(scan.source.files[0])


def test_enhanced_multiframe_ct_reads_as_its_single_frame_twin(recipe: SeriesRecipe, tmp_path: Path) -> None:
    enhanced, series = _enhanced(recipe, tmp_path)
    volume, twin = read_volume(enhanced), read_volume(series)
    np.testing.assert_array_equal(volume.array, twin.array)
    assert volume.grid.matches(twin.grid, tolerance_mm=1e-4)


def test_dicom_seg_of_a_multiframe_ct_lies_on_it(recipe: SeriesRecipe, tmp_path: Path) -> None:
    volume = read_volume(_enhanced(recipe, tmp_path)[0])
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[1:3, 2:5, 2:6] = 2
    written = write_label_map(tmp_path / "out.dcm", LabelMap(array, volume.ijk_to_ras), LABELS, source=volume)
    np.testing.assert_array_equal(read_label_map(written).on_grid(volume.grid).array, array // 2)


def _enhanced(recipe: SeriesRecipe, folder: Path) -> tuple[Path, Path]:
    """The series as one legacy-converted enhanced CT file, and as it was."""
    series = recipe.write(folder / "series")
    images = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=images,
        series_instance_uid=highdicom.UID(),
        series_number=7,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
    )
    (folder / "enhanced").mkdir()
    enhanced.save_as(folder / "enhanced" / "all.dcm")
    return folder / "enhanced", series
