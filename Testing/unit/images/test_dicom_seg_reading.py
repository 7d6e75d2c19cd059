"""A DICOM SEG of any origin is read where it lies, known by what it refers to, or refused for the true reason."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_reference
from MAESegmentLib.errors import GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.evaluation.cases import StoredPredictions
from MAESegmentLib.images import LabelMap, Volume, read_label_map, read_volume, write_label_map
from MAESegmentLib.images.formats.dicom.belonging import check_belongs, place_on
from MAESegmentLib.images.formats.dicom.seg_writing import _describe
from MAESegmentLib.images.reading import read_drawing
from Testing.dicom_series import SeriesRecipe, drawn, edit, head, labelled, resaved, scan_and_seg


def _noisy(recipe: SeriesRecipe) -> Callable[[int, Dataset], None]:
    noise = np.random.default_rng(5).uniform(-0.02, 0.02, (len(recipe.stored), 3))

    def place(k: int) -> list[float]:
        return np.round(np.add(recipe.position, np.multiply(recipe.slice_step, k)) + noise[k], 6).tolist()

    return edit(ImagePositionPatient=place)


@pytest.mark.parametrize("spacing", [0.625, 2.5, 10.0])
def test_seg_of_noisy_positions_is_regular_for_every_reader(tmp_path: Path, spacing: float) -> None:
    recipe = head(12, slice_step=(0.0, 0.0, spacing))
    volume, seg = scan_and_seg(tmp_path, _noisy(recipe), recipe=recipe)
    array = drawn(volume).array
    np.testing.assert_array_equal(read_label_map(seg).on_grid(volume.grid).array, array)
    assert highdicom.seg.segread(seg).get_volume(combine_segments=True).array.sum() == array.sum()


def test_seg_with_the_noise_of_its_scan_is_read(tmp_path: Path) -> None:
    """As other software writes it: with each slice's own position."""
    recipe = head(12)
    volume, seg = scan_and_seg(tmp_path, _noisy(recipe), recipe=recipe)
    places = {image.SOPInstanceUID: image.ImagePositionPatient for image in map(pydicom.dcmread, volume.source.files)}

    def as_the_scan(dataset: Dataset) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            image = frame.DerivationImageSequence[0].SourceImageSequence[0]
            frame.PlanePositionSequence[0].ImagePositionPatient = places[image.ReferencedSOPInstanceUID]

    back = read_label_map(resaved(seg, as_the_scan)).on_grid(volume.grid)
    np.testing.assert_array_equal(back.array, drawn(volume).array)


def _move(axis: int, distances: list[float]) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for frame, distance in zip(dataset.PerFrameFunctionalGroupsSequence, distances, strict=True):
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            position[axis] = float(position[axis]) + distance

    return change


def _renumber(which: slice) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence[which]:
            frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7

    return change


def _put(name: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, name, value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (_move(2, [0, 0, 0.9, 0]), "unevenly spaced frames"),
        (_move(2, [0, 2.5e9, 5e9, 7.5e9]), "at most 2,147,483,648 are read"),
        (_put("NumberOfFrames", 1), "NumberOfFrames is 1, but its functional groups describe 4"),
        (_put("NumberOfFrames", 2_000_000_000), "NumberOfFrames is 2000000000, but its functional groups describe 4"),
        (_renumber(slice(0, 1)), "voxels of segment 7"),
        (_renumber(slice(0, None)), "voxels of segment 7"),
        (_put("Rows", 65_535), "is incomplete: its header promises"),
        (_put("PixelData", b"\0\0"), "is incomplete: its header promises"),
        (
            lambda dataset: dataset.PerFrameFunctionalGroupsSequence[1].pop("SegmentIdentificationSequence"),
            "does not say which segment",
        ),
    ],
)
def test_faulty_seg_is_refused_by_its_fault_before_memory_is_taken(
    tmp_path: Path, fault: Callable[[Dataset], None], said: str
) -> None:
    seg = resaved(scan_and_seg(tmp_path, names=("a", "b"))[1], fault)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeReadError, match=said):
            read_label_map(seg)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_segments_may_have_gaps_of_empty_slices(tmp_path: Path) -> None:
    volume = read_volume(head(9).write(tmp_path / "series"))
    gaps = LabelMap(np.zeros(volume.array.shape[1:], np.uint8), volume.ijk_to_ras)
    gaps.array[1, 1, [1, 4, 7]] = 1
    seg = write_label_map(tmp_path / "seg.dcm", gaps, labelled("a"), source=volume)
    np.testing.assert_array_equal(read_label_map(seg).on_grid(volume.grid).array, gaps.array)


def test_segments_that_overlap_are_read_with_the_smallest_on_top(tmp_path: Path) -> None:
    volume = read_volume(head(5).write(tmp_path / "series"))
    organ, lesion = np.zeros((2, *volume.grid.shape), np.uint8)
    organ[1:6, 2:7, 1:4], lesion[4:7, 3:5, 2:5] = 1, 1
    made = highdicom.seg.Segmentation(
        source_images=[pydicom.dcmread(file) for file in volume.source.files],
        pixel_array=np.stack([organ.T, lesion.T], axis=-1),
        segmentation_type="BINARY",
        segment_descriptions=[_describe(number, one.name, one) for number, one in enumerate(labelled("a", "b"), 1)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="another",
        manufacturer_model_name="another",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(tmp_path / "seg.dcm")
    label_map = read_label_map(tmp_path / "seg.dcm", volume)
    np.testing.assert_array_equal(label_map.array, np.where(lesion, 2, organ))
    assert label_map.notes == ("seg.dcm: 'a' and 'b' overlap in 4 voxels; there, 'b', the smaller one, was taken.",)
    drawing = read_drawing(tmp_path / "seg.dcm")[0]
    np.testing.assert_array_equal(place_on(drawing, volume, leave_out=[2])[0].array, organ)
    with pytest.raises(VolumeReadError, match="another scan"):
        place_on(drawing, read_volume(head(5).write(tmp_path / "other")))


def test_a_code_that_is_too_long_for_its_usual_place_is_read(tmp_path: Path) -> None:
    def lengthen(dataset: Dataset) -> None:
        kind = dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
        del kind.CodeValue
        kind.LongCodeValue = "12345678901234567890"

    (label,) = read_drawing(resaved(scan_and_seg(tmp_path)[1], lengthen))[1]
    assert label.terminology.type.value == "12345678901234567890"


def test_folder_of_one_seg_stands_for_it(tmp_path: Path) -> None:
    _, seg = scan_and_seg(tmp_path)
    (tmp_path / "out").mkdir()
    seg.rename(tmp_path / "out" / "seg.dcm")
    (tmp_path / "out" / "notes.txt").write_text("beside it")
    assert read_label_map(tmp_path / "out").array.any()
    with pytest.raises(VolumeReadError, match="no DICOM SEG"):
        read_label_map(tmp_path / "series")


def test_scan_given_for_a_dicom_seg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeReadError, match="not a DICOM SEG"):
        read_label_map(next(head().write(tmp_path / "series").iterdir()))


def test_label_map_seg_with_a_value_that_it_does_not_describe_is_refused(tmp_path: Path) -> None:
    volume, plain = scan_and_seg(tmp_path)
    images = [pydicom.dcmread(file) for file in volume.source.files]
    pixels = np.zeros((len(images), 6, 5), np.uint8)
    pixels[2:6, 2:4, 1:3] = 1
    described = highdicom.seg.Segmentation.from_dataset(pydicom.dcmread(plain)).SegmentSequence
    identity = (generate_uid(), 1, generate_uid(), 1, "a", "a", "1", "1")
    seg = highdicom.seg.Segmentation(images, pixels, "LABELMAP", described, *identity)
    seg.save_as(tmp_path / "map.dcm")
    assert read_label_map(tmp_path / "map.dcm").array.sum() == 16
    seg.PixelData = seg.PixelData.replace(b"\1", b"\3", 2)
    seg.save_as(tmp_path / "map.dcm")
    with pytest.raises(VolumeReadError, match="voxels of segment 3"):
        read_label_map(tmp_path / "map.dcm")


def test_seg_with_the_rounded_directions_of_its_scan_is_read(tmp_path: Path) -> None:
    volume, seg = scan_and_seg(tmp_path, recipe=head(row=(0.7, 0.7, 0.0), column=(-0.7, 0.7, 0.0)))

    def turned(*orientation: float) -> Path:
        def change(dataset: Dataset) -> None:
            (shared,) = dataset.SharedFunctionalGroupsSequence
            shared.PlaneOrientationSequence[0].ImageOrientationPatient = [*orientation]

        return resaved(seg, change)

    back = place_on(read_label_map(turned(0.7, 0.7, 0, -0.7, 0.7, 0)), volume)[0]
    np.testing.assert_array_equal(back.array, drawn(volume).array)
    with pytest.raises(VolumeReadError, match="2 and 2 long"):
        read_label_map(turned(2, 0, 0, 0, 2, 0))


# --- which scan it belongs to -----------------------------------------------------------------------------------------


def test_seg_belongs_to_its_own_scan_alone(tmp_path: Path) -> None:
    own, seg = scan_and_seg(tmp_path)
    label_map, notes = place_on(read_label_map(seg), own)
    assert label_map.grid.matches(own.grid)
    assert notes == ()
    other = read_volume(head().write(tmp_path / "other"))
    with pytest.raises(VolumeReadError, match=r"seg\.dcm belongs to another scan: its frame of reference"):
        place_on(read_label_map(seg), other)


def test_seg_of_another_series_in_the_same_frame_of_reference_is_refused(tmp_path: Path) -> None:
    first = head()
    _, seg = scan_and_seg(tmp_path, recipe=first)
    second = head(frame_of_reference=first.frame_of_reference, study_uid=first.study_uid)
    with pytest.raises(VolumeReadError, match="refers to other images"):
        check_belongs(read_label_map(seg), read_volume(second.write(tmp_path / "other")))


@pytest.mark.parametrize(("frame_too", "said"), [(False, "whose frame of reference it has"), (True, "does not say")])
def test_seg_without_references_is_taken_and_said_so(tmp_path: Path, frame_too: bool, said: str) -> None:
    def forget(dataset: Dataset) -> None:
        del dataset.ReferencedSeriesSequence, dataset.SourceImageSequence
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            del frame.DerivationImageSequence
        if frame_too:
            del dataset.FrameOfReferenceUID

    own, seg = scan_and_seg(tmp_path)
    label_map, (note,) = place_on(read_label_map(resaved(seg, forget)), own)
    assert label_map.array.any()
    assert said in note


def test_seg_on_a_scan_that_is_not_dicom_is_taken_and_said_so(tmp_path: Path) -> None:
    own, seg = scan_and_seg(tmp_path)
    (note,) = check_belongs(read_label_map(seg), Volume(own.array, own.ijk_to_ras))
    assert "not known" in note


def test_seg_that_lies_elsewhere_in_its_own_series_is_refused_by_its_place(tmp_path: Path) -> None:
    own, seg = scan_and_seg(tmp_path)
    with pytest.raises(GeometryError, match="do not coincide"):
        place_on(read_label_map(resaved(seg, _move(0, [0.3] * 4))), own)


@pytest.mark.parametrize("door", ["labels of a data set", "predictions"])
def test_seg_of_another_scan_is_neither_label_map_nor_prediction(tmp_path: Path, door: str) -> None:
    own, seg = scan_and_seg(tmp_path)
    (tmp_path / "segs").mkdir()
    seg.rename(tmp_path / "segs" / "c0.dcm")
    head().write(tmp_path / "other")

    def read(scan: str) -> LabelMap:
        case = Case("c0", (tmp_path / scan,), tmp_path / "segs" / "c0.dcm")
        if door == "predictions":
            return StoredPredictions(tmp_path / "segs", labelled("a")).label_map(case)
        return read_reference(case, {"a": 1})

    np.testing.assert_array_equal(read("series").array, drawn(own).array)
    with pytest.raises(MAESegmentError, match="belongs to another scan"):
        read("other")


def test_seg_of_another_patient_is_refused_though_its_references_are_the_scans(tmp_path: Path) -> None:
    own, seg = scan_and_seg(tmp_path)
    with pytest.raises(VolumeReadError, match="another patient: its PatientID") as refusal:
        place_on(read_label_map(resaved(seg, _put("PatientID", "P-0815"))), own)
    assert "0815" not in str(refusal.value)
    assert place_on(read_label_map(resaved(seg, _put("PatientID", ""))), own)[1] == ()
