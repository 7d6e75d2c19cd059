"""An RTSTRUCT of any origin becomes the voxels its contours enclose on the scan it was drawn on, or is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_reference
from MAESegmentLib.errors import GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.evaluation.cases import StoredPredictions
from MAESegmentLib.images import LabelMap, Volume, read_label_map, read_volume, write_label_map, write_volume
from MAESegmentLib.images.formats.dicom.belonging import place_on
from MAESegmentLib.images.labels import ANATOMICAL_STRUCTURE, UNCODED, Code, Label, Terminology
from MAESegmentLib.images.reading import read_drawing
from Testing.dicom_series import SeriesRecipe, drawn, edit, head, labelled, resaved, structures

LABELS = (Label(1, "ball", (220, 30, 60)), *(Label(value, f"é {value}") for value in (2, 5, 6, 7, 9)))
TILTED = {"row": (0.8, 0.36, 0.48), "column": (-0.6, 0.48, 0.64), "slice_step": (0.0, -2.0, 1.5)}


def large(**changes: object) -> SeriesRecipe:
    return SeriesRecipe(np.random.default_rng(1).integers(0, 2000, (14, 30, 40)), **changes)  # type: ignore[arg-type]


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    return read_volume(large().write(tmp_path / "series"))


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (high, low), (high, high), (low, high)]


def contours_on(scan: Volume, **given: Sequence[tuple[float, Sequence[tuple[float, float]]]]) -> Path:
    """An RTSTRUCT of (slice, points (i, j) in voxels) for each structure, as another program may write it."""
    folder = Path(scan.source.files[0]).parent.parent
    empty = LabelMap(np.zeros(scan.grid.shape, np.uint8), scan.ijk_to_ras)
    path = write_label_map(folder / "x.rtstruct.dcm", empty, labelled(*given), source=scan)
    dataset = pydicom.dcmread(path)
    to_lps = np.diag([-1, -1, 1, 1]) @ scan.ijk_to_ras
    for structure, contours in zip(dataset.ROIContourSequence, given.values(), strict=True):
        items = []
        for k, points in contours:
            item = Dataset()
            item.ContourGeometricType = "CLOSED_PLANAR" if len(points) > 1 else "POINT"
            item.NumberOfContourPoints = len(points)
            item.ContourData = [round(float(x), 3) for p in points for x in (to_lps @ [*p, k, 1])[:3]]
            items.append(item)
        structure.ContourSequence = items
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("recipe", [large(), large(**TILTED)], ids=["anisotropic", "tilted"])
def test_what_is_written_comes_back_voxel_for_voxel_with_names_colours_and_codes(
    recipe: SeriesRecipe, tmp_path: Path
) -> None:
    scan = read_volume(recipe.write(tmp_path / "series"))
    label_map = structures(scan)
    left_kidney = Terminology(ANATOMICAL_STRUCTURE, Code("SCT", "64033007", "Kidney"), Code("SCT", "7771000", "Left"))
    written = (replace(LABELS[0], terminology=left_kidney), *LABELS[1:])
    path = write_label_map(tmp_path / "x.rtstruct.dcm", label_map, written, source=scan)
    drawing, labels = read_drawing(path)
    assert [label.terminology for label in labels] == [left_kidney, *[UNCODED] * (len(LABELS) - 1)]
    first, second, *_ = pydicom.dcmread(path).RTROIObservationsSequence
    (kind,), (category,) = first[0x3006, 0x0086].value, first[0x0062, 0x0003].value
    assert (kind.CodeValue, category.CodeValue, kind[0x0062, 0x0011].value[0].CodeMeaning) == (
        "64033007",
        "123037004",
        "Left",
    )
    assert (0x3006, 0x0086) not in second  # a structure without codes claims none
    back, notes = place_on(drawing, scan)
    assert [(label.name, label.colour) for label in labels] == [(label.name, label.colour) for label in LABELS]
    for label, known in zip(labels, LABELS, strict=True):
        np.testing.assert_array_equal(back.array == label.value, label_map.array == known.value)
    assert [note.partition(": ")[2] for note in notes] == [
        "'é 6' has no contour on 1 of the 9 slices that it extends over; there, it was read as absent."
    ]
    # On the same scan as another format, whose axes run otherwise.
    turned = Volume(scan.array.transpose(0, 3, 1, 2)[:, ::-1], scan.ijk_to_ras @ _turned(scan.grid.shape[2]))
    again, said = place_on(drawing, read_volume(write_volume(tmp_path / "scan.nii.gz", turned)))
    np.testing.assert_array_equal(again.array, back.array.transpose(2, 0, 1)[::-1])
    assert "whether it is this scan, which is not DICOM, is not known" in said[0]


def _turned(slices: int) -> np.ndarray:
    """From (k reversed, i, j) to (i, j, k)."""
    matrix = np.zeros((4, 4))
    matrix[0, 1] = matrix[1, 2] = matrix[3, 3] = 1
    matrix[2, 0], matrix[2, 3] = -1, slices - 1
    return matrix


def test_holes_may_be_contours_of_their_own_and_outlines_may_pass_through_centres(scan: Volume) -> None:
    ring = [(4, square(2, 12)), (4, square(4.5, 9.5)), (4, square(6.5, 7.5)), (4, square(20, 22))]
    back = read_label_map(contours_on(scan, ring=ring), scan).array
    expected = np.zeros(scan.grid.shape[:2], bool)
    expected[2:13, 2:13] = True
    expected[5:10, 5:10] = False
    expected[7, 7] = True
    expected[20:23, 20:23] = True
    np.testing.assert_array_equal(back[:, :, 4], expected)
    assert not back[:, :, [3, 5]].any()


def test_where_structures_overlap_the_smaller_counts_and_what_is_left_out_hides_none(scan: Volume) -> None:
    path = contours_on(
        scan, gland=[(3, square(4.5, 9.5))], node=[(3, square(8.5, 10.5))], body=[(3, square(0.5, 25.5))]
    )
    drawing, labels = read_drawing(path)
    everything, notes = place_on(drawing, scan)
    assert np.unique(everything.array, return_counts=True)[1].tolist()[1:] == [24, 4, 597]
    assert any("'gland' and 'node' overlap in 1 voxels; there, 'node', the smaller one, was taken" in n for n in notes)
    assert any("'body' and 'gland' overlap in 25 voxels" in n for n in notes)
    alone, notes = place_on(drawing, scan, leave_out=[label.value for label in labels if label.name != "gland"])
    assert np.count_nonzero(alone.array) == 25
    assert notes == ()


@pytest.mark.parametrize(
    ("contours", "said"),
    [
        ([(2, square(3, 6)), (3, square(3, 6)), (5, square(3, 6))], "no contour on 1 of the 4 slices"),
        ([(2, square(3, 6)), (2, square(3, 6))], "1 contours are there twice, and were read once"),
        ([(2, square(3, 6)), (2, square(4.5, 9))], "contours cross each other on 1 slices"),
        ([(2, square(3.2, 3.4))], "encloses no voxel's centre"),
        ([(2, square(3, 6)), (2, [(8, 8)])], "1 contours of the type POINT enclose nothing"),
        ([(2, square(3, 6)), (2, [(8, 8), (9, 9)])], "1 contours of fewer than 3 points enclose nothing"),
    ],
)
def test_what_had_to_be_assumed_is_said(
    scan: Volume, contours: list[tuple[float, list[tuple[float, float]]]], said: str
) -> None:
    notes = place_on(read_drawing(contours_on(scan, a=contours))[0], scan)[1]
    assert len(notes) == 1
    assert said in notes[0]


@pytest.mark.parametrize(
    ("contours", "said"),
    [
        ([(2.4, square(3, 6))], "'a' was drawn between the slices of this scan, 1 mm off the nearest"),
        ([(k, square(3, 6)) for k in (2, 4, 6)], "'a' is drawn on single slices of this scan only, 2 or more apart"),
        ([(20, square(3, 6))], "parts of 'a' lie outside the scan"),
        ([(2, square(3, 60))], "parts of 'a' lie outside the scan"),
    ],
)
def test_contours_that_do_not_fit_the_scan_are_refused(
    scan: Volume, contours: list[tuple[float, list[tuple[float, float]]]], said: str
) -> None:
    path = contours_on(scan, a=contours, b=[(1, square(3, 6))])
    with pytest.raises(GeometryError, match=said):
        read_label_map(path, scan)
    assert place_on(read_drawing(path)[0], scan, leave_out=[1])[0].array.any()


def test_contours_across_the_slices_are_refused(scan: Volume, tmp_path: Path) -> None:
    other = read_volume(large(**TILTED).write(tmp_path / "other"))
    path = write_label_map(tmp_path / "x.rtstruct.dcm", structures(other), LABELS, source=other)
    unnamed = replace(scan, source=None)
    with pytest.raises(GeometryError, match="do not lie in slices of this scan: they cross them over"):
        read_label_map(path, unnamed)


def _first_contour(dataset: Dataset) -> Dataset:
    return dataset.ROIContourSequence[0].ContourSequence[0]


def _elsewhere(dataset: Dataset) -> None:
    frame = generate_uid()
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = frame
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = frame


def _other_series(dataset: Dataset) -> None:
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    del study.RTReferencedSeriesSequence[0].ContourImageSequence
    for structure in dataset.ROIContourSequence:
        for contour in structure.ContourSequence:
            contour.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.4"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda dataset: setattr(dataset, "PatientID", "other"), "belongs to another patient"),
        (_elsewhere, "its frame of reference is not the scan's"),
        (_other_series, "it refers to other images"),
        (
            lambda dataset: setattr(dataset.StructureSetROISequence[0], "ReferencedFrameOfReferenceUID", "1.2"),
            "structures in 2 frames of reference",
        ),
        (lambda dataset: dataset.pop("StructureSetROISequence"), "lists no structure"),
        (lambda dataset: setattr(dataset.StructureSetROISequence[1], "ROINumber", 1), "have the same number"),
        (lambda dataset: setattr(dataset.ROIContourSequence[0], "ReferencedROINumber", 7), "structure 7, which it"),
        (lambda dataset: setattr(_first_contour(dataset), "NumberOfContourPoints", 2_000_000_000), "are promised"),
        (lambda dataset: setattr(_first_contour(dataset), "ContourData", ["1", "2"]), "not a list of points"),
        (lambda dataset: setattr(_first_contour(dataset), "ContourData", [1e9] * 24), "do not lie in slices|outside"),
    ],
)
def test_faulty_or_foreign_contours_are_refused_by_their_fault_before_memory_is_taken(
    tmp_path: Path, fault: Callable[[Dataset], object], said: str
) -> None:
    scan = read_volume(head().write(tmp_path / "series"))
    label_map = drawn(scan)
    label_map.array[0, 0, 2] = 2
    path = write_label_map(tmp_path / "x.rtstruct.dcm", label_map, labelled("a", "b"), source=scan)
    resaved(path, fault)
    tracemalloc.start()
    try:
        with pytest.raises(MAESegmentError, match=said):
            read_label_map(path, scan)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_without_its_scan_it_says_that_it_needs_it(scan: Volume) -> None:
    path = contours_on(scan, a=[(2, square(3, 6))])
    with pytest.raises(VolumeReadError, match="contours, which become voxels on the scan") as caught:
        read_label_map(path)
    assert "read_label_map(path, read_volume(scan))" in caught.value.hint


def test_labels_of_a_dataset_and_predictions_may_be_contours(tmp_path: Path) -> None:
    scan = read_volume(head().write(tmp_path / "scan", edit(PatientID="x")))
    (tmp_path / "labels").mkdir()
    path = write_label_map(tmp_path / "labels" / "rtstruct.dcm", drawn(scan), labelled("a"), source=scan)
    path = path.rename(path.with_name("c0.dcm"))
    case = Case("c0", (tmp_path / "scan",), path)
    np.testing.assert_array_equal(read_reference(case, {"a": 3}).array, 3 * drawn(scan).array)
    predictions = StoredPredictions(path.parent, [Label(1, "a")])
    np.testing.assert_array_equal(predictions.label_map(case).array, drawn(scan).array)
