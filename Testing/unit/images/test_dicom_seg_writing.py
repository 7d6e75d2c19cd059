"""A DICOM SEG puts every voxel where the scan has it, refers to its images, and keeps names whatever the header is."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import PersonName

from MAESegmentLib.errors import OutputError
from MAESegmentLib.images import (
    LabelMap,
    Volume,
    check_label_map_destination,
    read_label_map,
    read_segments,
    read_volume,
    write_label_map,
)
from MAESegmentLib.images.labels import ANATOMICAL_STRUCTURE, Code, Label, Terminology
from Testing.dicom_series import SeriesRecipe, drawn, edit, head, labelled, scan_and_seg

GLAND = Terminology(ANATOMICAL_STRUCTURE, Code("SCT", "45289007", "Parotid gland"), Code("SCT", "24028007", "Right"))
LABELS = (
    Label(2, "Ohrspeicheldrüse", (220, 30, 60), GLAND),
    Label(5, "absent", (10, 200, 30)),
    Label(9, "third"),
)
NAMES = ("海馬", "α", "🧠 brain", "Ohrspeicheldrüse", "a\\b", "tab\there", "\x07", "x" * 70, "x" * 80)


@pytest.fixture
def recipe() -> SeriesRecipe:
    """Oblique, with slices stored from top to bottom."""
    return head(row=(0.8, 0.6, 0.0), column=(-0.6, 0.8, 0.0), slice_step=(0.0, 0.0, -2.5))


@pytest.fixture
def scan(recipe: SeriesRecipe, tmp_path: Path) -> Volume:
    return read_volume(recipe.write(tmp_path / "series"))


@pytest.fixture
def label_map(scan: Volume) -> LabelMap:
    array = 2 * drawn(scan).array
    array[4, 0, 3] = 9
    return LabelMap(array, scan.ijk_to_ras)


def test_labels_come_back_voxel_for_voxel_on_the_grid_of_the_scan(
    scan: Volume, label_map: LabelMap, tmp_path: Path
) -> None:
    back, labels = read_segments(write_label_map(tmp_path / "out.dcm", label_map, LABELS, source=scan))
    numbers = np.zeros(10, np.uint8)
    numbers[[2, 5, 9]] = 1, 2, 3
    np.testing.assert_array_equal(back.on_grid(scan.grid).array, numbers[label_map.array])
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
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, scan.source.files)}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        referred = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, images[referred].ImagePositionPatient, atol=1e-6)


def test_nothing_found_is_still_a_valid_segmentation(scan: Volume, tmp_path: Path) -> None:
    empty = LabelMap(np.zeros(scan.array.shape[1:], np.uint8), scan.ijk_to_ras)
    back, labels = read_segments(write_label_map(tmp_path / "out.dcm", empty, LABELS, source=scan))
    assert not back.array.any()
    assert len(labels) == 3


def test_segmentation_in_the_folder_of_the_images_does_not_disturb_reading_them(
    scan: Volume, label_map: LabelMap, tmp_path: Path
) -> None:
    written = write_label_map(tmp_path / "series", label_map, LABELS, source=scan)
    assert written == tmp_path / "series" / "segmentation.dcm"
    np.testing.assert_array_equal(read_volume(tmp_path / "series").array, scan.array)


def test_enhanced_multiframe_ct_reads_as_its_single_frame_twin_and_gets_a_seg(scan: Volume, tmp_path: Path) -> None:
    images = [pydicom.dcmread(file) for file in sorted((tmp_path / "series").iterdir())]
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(images, generate_uid(), 7, generate_uid(), 1)
    (tmp_path / "enhanced").mkdir()
    enhanced.save_as(tmp_path / "enhanced" / "all.dcm")
    volume = read_volume(tmp_path / "enhanced")
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.grid.matches(scan.grid, tolerance_mm=1e-4)
    written = write_label_map(tmp_path / "out.dcm", drawn(volume), labelled("a"), source=volume)
    np.testing.assert_array_equal(read_label_map(written).on_grid(volume.grid).array, drawn(volume).array)


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO_IR 13", "ISO_IR 192", "", None])
def test_names_of_segments_are_kept_whatever_the_series_is_written_in(
    tmp_path: Path, character_set: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom's remarks have paths in them
        labels = read_segments(scan_and_seg(tmp_path, edit(SpecificCharacterSet=character_set), NAMES)[1])[1]
    names = [label.name for label in labels]
    assert names[:4] == list(NAMES[:4])
    assert names[4:] == ["a/b", "tab here", "Segment 7", "x" * 64, "x" * 62 + " 2"]
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    ("character_set", "stored", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
        ("ISO_IR 192", "Müller^Jürgen".encode(), "Müller^Jürgen"),
        (None, "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
        (None, "Müller^Jürgen".encode(), "Müller^Jürgen"),
        ("ISO_IR 144", "Люкceмбypг^Я".encode("iso8859_5"), "Люкceмбypг^Я"),
        (
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
    ],
)
def test_patient_is_named_as_in_the_series(tmp_path: Path, character_set: str | None, stored: bytes, name: str) -> None:
    sets = character_set.split("\\") if character_set else None

    def change(_: int, dataset: Dataset) -> None:
        if sets:
            dataset.SpecificCharacterSet = sets
        dataset.PatientName = PersonName(stored, pydicom.charset.convert_encodings(sets), original_string=stored)

    seg = pydicom.dcmread(scan_and_seg(tmp_path, change, ("海馬",))[1])
    assert seg.SpecificCharacterSet == "ISO_IR 192"
    assert str(seg.PatientName) == name


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("PatientSex", "X"),
        ("PatientSex", "male"),
        ("PatientBirthDate", "19700000"),
        ("PatientBirthDate", "unknown"),
        ("StudyDate", "2020-01"),
        ("StudyTime", "noon"),
        ("StudyID", "longer than sixteen characters"),
        ("AccessionNumber", "longer than sixteen characters"),
        ("PatientAge", "ten"),
        ("PatientName", "nocaret"),
        ("PatientID", "x" * 100),
        ("SOPClassUID", "1.2.3.4"),
        ("SliceThickness", None),
        ("PatientWeight", b"big "),
    ],
)
def test_malformed_header_does_not_cost_the_segmentation(
    tmp_path: Path, attribute: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = head().write(tmp_path / "series", edit(**{attribute: value}))
    with caplog.at_level(logging.WARNING):
        volume = read_volume(folder)
        seg = write_label_map(tmp_path / "seg.dcm", drawn(volume), labelled("a"), source=volume)
    assert read_label_map(seg).array.any()
    assert "PatientWeight" not in pydicom.dcmread(seg)
    assert "nocaret" not in caplog.text  # a patient's name


def test_series_without_patient_data_is_accepted(tmp_path: Path) -> None:
    names = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
    assert read_label_map(scan_and_seg(tmp_path, edit(**dict.fromkeys(names)))[1]).array.any()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"FrameOfReferenceUID": ""}, "lacks FrameOfReferenceUID"),
        ({"SOPInstanceUID": "1.2"}, "the same SOPInstanceUID"),
    ],
)
def test_series_that_cannot_be_referred_to_is_refused_before_work_starts(
    tmp_path: Path, values: dict[str, str], said: str
) -> None:
    scan = read_volume(head().write(tmp_path / "series", edit(**values)))
    with pytest.raises(OutputError, match=said):
        check_label_map_destination(tmp_path / "out.dcm", source=scan)
