"""An RTSTRUCT encloses the voxels that were drawn, on the images it refers to, for a reader that knows only those."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset

from MAESegmentLib.errors import OutputError
from MAESegmentLib.images import (
    LabelMap,
    Volume,
    check_label_map_destination,
    read_label_map,
    read_volume,
    write_label_map,
)
from MAESegmentLib.images.formats.contours import enclosed, outlines
from MAESegmentLib.images.labels import Label
from Testing.dicom_series import SeriesRecipe, drawn, edit, head, labelled, structures, write_enhanced

LABELS = (
    Label(1, "ball", (220, 30, 60)),
    Label(2, "Rückenmark", (10, 200, 30)),
    Label(5, "ring"),
    Label(6, "islands"),
    Label(7, "at the border"),
    Label(9, "absent"),
)
TILTED = {"row": (0.8, 0.36, 0.48), "column": (-0.6, 0.48, 0.64), "slice_step": (0.0, -2.0, 1.5)}
TOP_DOWN = {"row": (0.8, 0.6, 0.0), "column": (-0.6, 0.8, 0.0), "slice_step": (0.0, 0.0, -2.5)}


def large(**changes: object) -> SeriesRecipe:
    return SeriesRecipe(np.random.default_rng(1).integers(0, 2000, (14, 30, 40)), **changes)  # type: ignore[arg-type]


def as_read_elsewhere(path: Path, volume: Volume) -> dict[str, np.ndarray]:
    """Masks (I, J, K) by the name of the structure: of each image the voxels whose centres are inside an odd number of
    the contours that refer to it."""
    dataset = pydicom.dcmread(path)
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in volume.source.files]
    slices = {image.SOPInstanceUID: (k, image) for k, image in enumerate(headers)}
    names = {roi.ROINumber: roi.ROIName for roi in dataset.StructureSetROISequence}
    masks = {}
    for structure in dataset.ROIContourSequence:
        mask = masks[names[structure.ReferencedROINumber]] = np.zeros(volume.grid.shape, bool)
        for contour in structure.get("ContourSequence", []):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.reshape([float(value) for value in contour.ContourData], (-1, 3))
            assert len(points) == contour.NumberOfContourPoints >= 3
            k, image = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            row, column = np.reshape(np.array(image.ImageOrientationPatient, float), (2, 3))
            away = points - np.array(image.ImagePositionPatient, float)
            assert np.abs(away @ np.cross(row, column)).max() < 1e-3
            between_rows, between_columns = map(float, image.PixelSpacing)
            pixels = np.column_stack([away @ row / between_columns, away @ column / between_rows])
            every = np.indices(mask.shape[:2]).reshape(2, -1).T
            mask[:, :, k] ^= Polygon([*pixels, pixels[0]]).contains_points(every).reshape(mask.shape[:2])
    return masks


@pytest.mark.parametrize(
    "recipe",
    [large(), large(**TILTED), large(**TOP_DOWN, pixel_spacing=(1.2, 1.2)), large(slice_step=(0.0, 0.0, 10.0))],
    ids=["anisotropic", "tilted", "top down", "thick"],
)
def test_contours_enclose_exactly_the_voxels_of_each_structure(recipe: SeriesRecipe, tmp_path: Path) -> None:
    volume = read_volume(recipe.write(tmp_path / "series"))
    label_map = structures(volume)
    path = tmp_path / "out.rtstruct.dcm"
    check_label_map_destination(path, source=volume, labels=LABELS)
    masks = as_read_elsewhere(write_label_map(path, label_map, LABELS, source=volume), volume)
    assert list(masks) == [label.name for label in LABELS]
    for label in LABELS:
        np.testing.assert_array_equal(masks[label.name], label_map.array == label.value)


def test_contours_of_a_real_ct_enclose_its_labels(real_data: Path, tmp_path: Path) -> None:
    """Also where rows run from front to back: the axes of this file."""
    folder = real_data / "headneck_ct"
    case = json.loads((folder / "dataset7.json").read_text())["cases"][0]
    ct, drawn_on_it = read_volume(folder / case["image"]), read_label_map(folder / case["label"])
    lps, spacing = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.ijk_to_ras, ct.grid.spacing
    recipe = SeriesRecipe(
        np.rint(ct.array[0].T).clip(-1024).astype(int) + 1024,
        position=tuple(lps[:3, 3]),
        row=tuple(lps[:3, 0] / spacing[0]),
        column=tuple(lps[:3, 1] / spacing[1]),
        pixel_spacing=(spacing[1], spacing[0]),
        slice_step=tuple(lps[:3, 2]),
    )
    scan = read_volume(recipe.write(tmp_path / "series"))
    array = drawn_on_it.array
    labels = labelled(*(f"organ {value}" for value in range(1, array.max() + 1)))
    path = write_label_map(tmp_path / "x.rtstruct.dcm", LabelMap(array, scan.ijk_to_ras), labels, source=scan)
    masks = as_read_elsewhere(path, scan)
    for label in labels:
        np.testing.assert_array_equal(masks[label.name], array == label.value)
    np.testing.assert_array_equal(read_label_map(path, scan).array, array)


def test_it_belongs_to_patient_study_and_images_of_the_scan_and_says_no_more_of_the_patient_than_a_seg(
    tmp_path: Path,
) -> None:
    recipe = large()
    private = edit(PatientAddress="Hill 1", PatientAge="061Y", InstitutionName="Clinic", OperatorsName="Op^A")
    volume = read_volume(recipe.write(tmp_path / "series", private))
    written = [
        write_label_map(tmp_path / name, structures(volume), LABELS, source=volume, volume_name="CT 1")
        for name in ("patient_RTSTRUCT.dcm", "seg.dcm")
    ]
    dataset, seg = map(pydicom.dcmread, written)
    assert (dataset.Modality, seg.Modality) == ("RTSTRUCT", "SEG")
    assert (dataset.PatientID, dataset.StudyInstanceUID) == ("phantom", recipe.study_uid)
    assert (dataset.SeriesDescription, dataset.ApprovalStatus) == ("MAESegment CT 1", "UNAPPROVED")
    assert {element.keyword for element in dataset.group_dataset(0x10)} == {
        element.keyword for element in seg.group_dataset(0x10)
    }
    text = str(dataset)
    assert "Clinic" not in text
    assert "Op^A" not in text
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert frame.FrameOfReferenceUID == recipe.frame_of_reference
    assert series.SeriesInstanceUID == recipe.series_uid
    referred = [image.ReferencedSOPInstanceUID for image in series.ContourImageSequence]
    assert referred == list(volume.source.instances)
    colours = [tuple(structure.ROIDisplayColor) for structure in dataset.ROIContourSequence]
    assert colours == [label.colour for label in LABELS]


def test_frames_of_one_file_are_referred_to_by_their_number(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    volume = read_volume(write_enhanced(head(), tmp_path / "in"))
    dataset = pydicom.dcmread(
        write_label_map(tmp_path / "out.rtstruct.dcm", drawn(volume), labelled("a"), source=volume)
    )
    images = [contour.ContourImageSequence[0] for contour in dataset.ROIContourSequence[0].ContourSequence]
    assert {image.ReferencedSOPInstanceUID for image in images} == set(volume.source.instances)
    assert [image.ReferencedFrameNumber for image in images] == [volume.source.frames[k] for k in range(2, 6)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit(FrameOfReferenceUID=""), "An RTSTRUCT cannot refer to this series, which lacks FrameOfReferenceUID"),
        (edit(SOPInstanceUID="1.2"), "the same SOPInstanceUID"),
    ],
)
def test_series_that_cannot_be_referred_to_is_refused_before_work_starts(
    tmp_path: Path, change: Callable[[int, Dataset], None], said: str
) -> None:
    scan = read_volume(head().write(tmp_path / "series", change))
    with pytest.raises(OutputError, match=said):
        check_label_map_destination(tmp_path / "out.rtstruct.dcm", source=scan)


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_of_any_shape_enclose_it_by_any_rule(mask: np.ndarray) -> None:
    """Inside by parity, and, as outlines of holes are joined, by the sum of windings: no reader needs to know holes."""
    contours = outlines(mask)
    centres = np.argwhere(np.ones_like(mask))
    inside = [Polygon([*points, points[0]]).contains_points(centres).reshape(mask.shape) for points in contours]
    np.testing.assert_array_equal(np.logical_or.reduce(inside, initial=False) & np.ones_like(mask), mask)
    if contours:
        np.testing.assert_array_equal(enclosed(contours, mask.shape), mask)
        # Rounded to voxels, as some software does, no point leaves the shape.
        assert all(mask[tuple(np.rint(points).astype(int).T)].all() for points in contours)
