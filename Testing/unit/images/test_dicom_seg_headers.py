"""A DICOM SEG keeps every name, takes no malformed header over, and is known by what it refers to."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import PersonName

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_reference
from MAESegmentLib.errors import GeometryError, MAESegmentError, OutputError, VolumeReadError
from MAESegmentLib.evaluation.cases import StoredPredictions
from MAESegmentLib.images import (
    LabelMap,
    Volume,
    check_label_map_destination,
    read_label_map,
    read_volume,
    write_label_map,
)
from MAESegmentLib.images.formats.dicom.belonging import check_belongs, place_on
from MAESegmentLib.images.formats.dicom.seg_reading import read_dicom_seg
from MAESegmentLib.images.labels import Label
from Testing.dicom_series import SeriesRecipe, head

NAMES = ("海馬", "α", "🧠 brain", "Ohrspeicheldrüse", "a\\b", "tab\there", "\x07", "x" * 70, "x" * 80)


def _labels(*names: str) -> list[Label]:
    return [Label(value, name) for value, name in enumerate(names, start=1)]


def _drawn(volume: Volume) -> LabelMap:
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[1:3, 2:5, 2:6] = 1
    return LabelMap(array, volume.ijk_to_ras)


def _written(
    tmp_path: Path, change: Callable[[int, Dataset], None] = lambda _k, _dataset: None, names: tuple[str, ...] = ("a",)
) -> Path:
    """A DICOM SEG drawn on a series that `change` has edited, tried beforehand."""
    volume = read_volume(head().write(tmp_path / "series", change))
    check_label_map_destination(tmp_path / "seg.dcm", source=volume, labels=_labels(*names))
    return write_label_map(tmp_path / "seg.dcm", _drawn(volume), _labels(*names), source=volume)


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO_IR 13", "ISO_IR 192", "", None])
def test_names_of_segments_are_kept_whatever_the_series_is_written_in(
    tmp_path: Path, character_set: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    def change(_: int, dataset: Dataset) -> None:
        if character_set is not None:
            dataset.SpecificCharacterSet = character_set

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom's remarks have paths in them
        labels = read_dicom_seg(_written(tmp_path, change, NAMES))[1]
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
    folder = head().write(tmp_path / "series")
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        if character_set is not None:
            dataset.SpecificCharacterSet = character_set.split("\\")
        encodings = pydicom.charset.convert_encodings(character_set.split("\\") if character_set else None)
        dataset.PatientName = PersonName(stored, encodings, original_string=stored)
        dataset.save_as(file)
    volume = read_volume(folder)
    seg = pydicom.dcmread(write_label_map(tmp_path / "seg.dcm", _drawn(volume), _labels("海馬"), source=volume))
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
    ],
)
def test_malformed_header_does_not_cost_the_segmentation(
    tmp_path: Path, attribute: str, value: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    def change(_: int, dataset: Dataset) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if value is None:
                del dataset[attribute]
            else:
                setattr(dataset, attribute, value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = head().write(tmp_path / "series", change)
    with caplog.at_level(logging.WARNING):
        volume = read_volume(folder)
        seg = write_label_map(tmp_path / "seg.dcm", _drawn(volume), _labels("a"), source=volume)
    assert read_label_map(seg).array.any()
    assert "nocaret" not in caplog.text  # a patient's name


def test_text_that_is_no_number_does_not_cost_the_segmentation(tmp_path: Path) -> None:
    folder = head().write(tmp_path / "series")
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        tag = pydicom.tag.Tag("PatientWeight")
        dataset[tag] = pydicom.dataelem.RawDataElement(tag, "DS", 4, b"big ", 0, False, True)
        dataset.save_as(file)
    volume = read_volume(folder)
    seg = pydicom.dcmread(write_label_map(tmp_path / "seg.dcm", _drawn(volume), _labels("a"), source=volume))
    assert "PatientWeight" not in seg


def test_series_whose_images_share_a_uid_is_refused_before_work_starts(tmp_path: Path) -> None:
    uid = generate_uid()

    def change(_: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = uid

    volume = read_volume(head().write(tmp_path / "series", change))
    with pytest.raises(OutputError, match="the same SOPInstanceUID"):
        check_label_map_destination(tmp_path / "seg.dcm", source=volume)


def _noisy(recipe: SeriesRecipe, amplitude: float) -> Callable[[int, Dataset], None]:
    noise = np.random.default_rng(5).uniform(-amplitude, amplitude, (len(recipe.stored), 3))

    def change(k: int, dataset: Dataset) -> None:
        place = np.add(recipe.position, np.multiply(recipe.slice_step, k)) + noise[k]
        dataset.ImagePositionPatient = [round(float(x), 6) for x in place]

    return change


@pytest.mark.parametrize("spacing", [0.625, 2.5, 10.0])
def test_seg_of_noisy_positions_is_regular_for_every_reader(tmp_path: Path, spacing: float) -> None:
    recipe = head(12)
    recipe.slice_step = (0.0, 0.0, spacing)
    volume = read_volume(recipe.write(tmp_path / "series", _noisy(recipe, 0.02)))
    drawn = _drawn(volume)
    seg = write_label_map(tmp_path / "seg.dcm", drawn, _labels("a"), source=volume)
    np.testing.assert_array_equal(read_label_map(seg).on_grid(volume.grid).array, drawn.array)
    assert highdicom.seg.segread(seg).get_volume(combine_segments=True).array.sum() == drawn.array.sum()


def test_seg_with_the_noise_of_its_scan_is_read(tmp_path: Path) -> None:
    """As other software writes it: with each slice's own position."""
    recipe = head(12)
    volume = read_volume(recipe.write(tmp_path / "series", _noisy(recipe, 0.02)))
    drawn = _drawn(volume)
    seg = pydicom.dcmread(write_label_map(tmp_path / "seg.dcm", drawn, _labels("a"), source=volume))
    places = {image.SOPInstanceUID: image.ImagePositionPatient for image in map(pydicom.dcmread, volume.source.files)}
    for frame in seg.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        frame.PlanePositionSequence[0].ImagePositionPatient = places[image.ReferencedSOPInstanceUID]
    seg.save_as(tmp_path / "noisy.dcm")
    np.testing.assert_array_equal(read_label_map(tmp_path / "noisy.dcm").on_grid(volume.grid).array, drawn.array)


def test_seg_of_uneven_slices_is_refused(tmp_path: Path) -> None:
    seg = pydicom.dcmread(_written(tmp_path))
    position = seg.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient
    position[2] = float(position[2]) + 0.9
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeReadError, match="unevenly spaced frames"):
        read_label_map(tmp_path / "seg.dcm")


def test_seg_whose_frames_lie_miles_apart_is_refused_with_the_figure(tmp_path: Path) -> None:
    seg = pydicom.dcmread(_written(tmp_path))
    frames = seg.PerFrameFunctionalGroupsSequence
    for index, frame in enumerate(frames):
        frame.PlanePositionSequence[0].ImagePositionPatient[2] = 2.5 * 10**9 * index
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeReadError, match="at most 2,147,483,648 are read"):
        read_label_map(tmp_path / "seg.dcm")


def test_segments_may_have_gaps_of_empty_slices(tmp_path: Path) -> None:
    volume = read_volume(head(9).write(tmp_path / "series"))
    drawn = LabelMap(np.zeros(volume.array.shape[1:], np.uint8), volume.ijk_to_ras)
    drawn.array[1, 1, [1, 4, 7]] = 1
    seg = write_label_map(tmp_path / "seg.dcm", drawn, _labels("a"), source=volume)
    np.testing.assert_array_equal(read_label_map(seg).on_grid(volume.grid).array, drawn.array)


def test_folder_of_one_seg_stands_for_it(tmp_path: Path) -> None:
    seg = _written(tmp_path)
    (tmp_path / "out").mkdir()
    seg.rename(tmp_path / "out" / "seg.dcm")
    (tmp_path / "out" / "notes.txt").write_text("beside it")
    assert read_label_map(tmp_path / "out").array.any()
    with pytest.raises(VolumeReadError, match="no DICOM SEG"):
        read_label_map(tmp_path / "series")


def test_seg_belongs_to_its_own_scan_alone(tmp_path: Path) -> None:
    seg = _written(tmp_path)
    own = read_volume(tmp_path / "series")
    label_map, notes = place_on(read_label_map(seg), own)
    assert label_map.grid.matches(own.grid)
    assert notes == ()
    other = read_volume(head().write(tmp_path / "other"))
    with pytest.raises(VolumeReadError, match=r"seg\.dcm belongs to another scan: its frame of reference"):
        place_on(read_label_map(seg), other)


def test_seg_of_another_series_in_the_same_frame_of_reference_is_refused(tmp_path: Path) -> None:
    first, second = head(), head()
    second.frame_of_reference, second.study_uid = first.frame_of_reference, first.study_uid
    own = read_volume(first.write(tmp_path / "own"))
    seg = write_label_map(tmp_path / "seg.dcm", _drawn(own), _labels("a"), source=own)
    with pytest.raises(VolumeReadError, match="refers to other images"):
        check_belongs(read_label_map(seg), read_volume(second.write(tmp_path / "other")))


@pytest.mark.parametrize(("frame_too", "said"), [(False, "whose frame of reference it has"), (True, "does not say")])
def test_seg_without_references_is_taken_and_said_so(tmp_path: Path, frame_too: bool, said: str) -> None:
    seg = pydicom.dcmread(_written(tmp_path))
    del seg.ReferencedSeriesSequence, seg.SourceImageSequence
    for frame in seg.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    if frame_too:
        del seg.FrameOfReferenceUID
    seg.save_as(tmp_path / "seg.dcm")
    own = read_volume(tmp_path / "series")
    label_map, notes = place_on(read_label_map(tmp_path / "seg.dcm"), own)
    assert label_map.array.any()
    (note,) = notes
    assert said in note


def test_seg_on_a_scan_that_is_not_dicom_is_taken_and_said_so(tmp_path: Path) -> None:
    seg = _written(tmp_path)
    own = read_volume(tmp_path / "series")
    (note,) = check_belongs(read_label_map(seg), Volume(own.array, own.ijk_to_ras))
    assert "not known" in note


def test_seg_that_lies_elsewhere_in_its_own_series_is_refused_by_its_place(tmp_path: Path) -> None:
    seg = pydicom.dcmread(_written(tmp_path))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[0] += 0.3
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(GeometryError, match="do not coincide"):
        place_on(read_label_map(tmp_path / "seg.dcm"), read_volume(tmp_path / "series"))


@pytest.mark.parametrize("door", ["labels of a data set", "predictions"])
def test_seg_of_another_scan_is_neither_label_map_nor_prediction(tmp_path: Path, door: str) -> None:
    seg = _written(tmp_path)
    (tmp_path / "segs").mkdir()
    seg.rename(tmp_path / "segs" / "c0.dcm")
    head().write(tmp_path / "other")

    def read(scan: str) -> LabelMap:
        case = Case("c0", (tmp_path / scan,), tmp_path / "segs" / "c0.dcm")
        if door == "predictions":
            return StoredPredictions(tmp_path / "segs", _labels("a")).label_map(case)
        return read_reference(case, {"a": 1})

    own = read_volume(tmp_path / "series")
    np.testing.assert_array_equal(read("series").array, _drawn(own).array)
    with pytest.raises(MAESegmentError, match="belongs to another scan"):
        read("other")


def test_seg_of_another_patient_is_refused_though_its_references_are_the_scans(tmp_path: Path) -> None:
    seg = pydicom.dcmread(_written(tmp_path))
    own = read_volume(tmp_path / "series")
    seg.PatientID = "P-0815"
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeReadError, match="another patient: its PatientID") as refusal:
        place_on(read_label_map(tmp_path / "seg.dcm"), own)
    assert "0815" not in str(refusal.value)
    seg.PatientID = ""
    seg.save_as(tmp_path / "seg.dcm")
    assert place_on(read_label_map(tmp_path / "seg.dcm"), own)[1] == ()


@pytest.mark.parametrize("frames", [1, 1_000, 8_000_000, 2_000_000_000])
def test_seg_whose_count_of_frames_is_made_up_is_refused_before_memory_is_taken(tmp_path: Path, frames: int) -> None:
    import tracemalloc

    seg = pydicom.dcmread(_written(tmp_path))
    seg.NumberOfFrames = frames
    seg.save_as(tmp_path / "seg.dcm")
    tracemalloc.start()
    try:
        with pytest.raises(VolumeReadError, match=f"NumberOfFrames is {frames}, but its functional groups describe 4"):
            read_label_map(tmp_path / "seg.dcm")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("which", [slice(0, 1), slice(0, None)])
def test_seg_with_frames_of_a_segment_that_it_does_not_describe_is_refused(tmp_path: Path, which: slice) -> None:
    seg = pydicom.dcmread(_written(tmp_path, names=("a", "b")))
    for frame in seg.PerFrameFunctionalGroupsSequence[which]:
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeReadError, match="voxels of segment 7"):
        read_label_map(tmp_path / "seg.dcm")


def test_label_map_seg_with_a_value_that_it_does_not_describe_is_refused(tmp_path: Path) -> None:
    volume = read_volume(head().write(tmp_path / "series"))
    plain = pydicom.dcmread(write_label_map(tmp_path / "seg.dcm", _drawn(volume), _labels("a"), source=volume))
    images = [pydicom.dcmread(file) for file in volume.source.files]
    pixels = np.zeros((len(images), 6, 5), np.uint8)
    pixels[2:6, 2:4, 1:3] = 1
    seg = highdicom.seg.Segmentation(
        images,
        pixels,
        "LABELMAP",
        highdicom.seg.Segmentation.from_dataset(plain).SegmentSequence,
        generate_uid(),
        1,
        generate_uid(),
        1,
        "a",
        "a",
        "1",
        "1",
    )
    seg.save_as(tmp_path / "map.dcm")
    assert read_label_map(tmp_path / "map.dcm").array.sum() == 16
    seg.PixelData = seg.PixelData.replace(b"\1", b"\3", 2)
    seg.save_as(tmp_path / "map.dcm")
    with pytest.raises(VolumeReadError, match="voxels of segment 3"):
        read_label_map(tmp_path / "map.dcm")


def test_seg_with_the_rounded_directions_of_its_scan_is_read(tmp_path: Path) -> None:
    recipe = head()
    recipe.row, recipe.column = (0.7, 0.7, 0.0), (-0.7, 0.7, 0.0)
    volume = read_volume(recipe.write(tmp_path / "series"))
    drawn = _drawn(volume)
    seg = pydicom.dcmread(write_label_map(tmp_path / "seg.dcm", drawn, _labels("a"), source=volume))
    (shared,) = seg.SharedFunctionalGroupsSequence
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0.7, 0.7, 0, -0.7, 0.7, 0]
    seg.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(place_on(read_label_map(tmp_path / "seg.dcm"), volume)[0].array, drawn.array)
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [2, 0, 0, 0, 2, 0]
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeReadError, match="2 and 2 long"):
        read_label_map(tmp_path / "seg.dcm")


@pytest.mark.parametrize("change", [{"Rows": 65_535}, {"PixelData": b"\0\0"}])
def test_seg_with_fewer_voxels_than_it_promises_is_refused_with_the_figure(
    tmp_path: Path, change: dict[str, object]
) -> None:
    seg = pydicom.dcmread(_written(tmp_path))
    for name, value in change.items():
        setattr(seg, name, value)
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeReadError, match="is incomplete: its header promises"):
        read_label_map(tmp_path / "seg.dcm")


def test_seg_whose_frames_name_no_segment_is_refused(tmp_path: Path) -> None:
    seg = pydicom.dcmread(_written(tmp_path, names=("a", "b")))
    del seg.PerFrameFunctionalGroupsSequence[1].SegmentIdentificationSequence
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeReadError, match="does not say which segment"):
        read_label_map(tmp_path / "seg.dcm")
