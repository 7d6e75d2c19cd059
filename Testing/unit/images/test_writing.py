"""A written result lies on exactly the input grid, opens in 3D Slicer as it is, and is complete or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import slicerio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.errors import GeometryError, OutputError
from MAESegmentLib.images import (
    Grid,
    LabelMap,
    Volume,
    check_label_map_destination,
    read_label_map,
    read_segments,
    read_volume,
    write_label_map,
    write_volume,
)
from MAESegmentLib.images.formats.dicom.belonging import place_on
from MAESegmentLib.images.labels import ANATOMICAL_STRUCTURE, Code, Label, Terminology
from MAESegmentLib.images.reading import read_drawing
from Testing import phantoms

LABELS = (
    Label(
        1,
        "Hippokampus, vordere Hälfte",
        (230, 80, 60),
        Terminology(
            ANATOMICAL_STRUCTURE, Code("SCT", "279333006", "Head of hippocampus"), Code("SCT", "7771000", "Left")
        ),
    ),
    Label(2, "back", (70, 110, 220)),
    Label(7, "absent", (1, 2, 3)),
)
RNG = np.random.default_rng(3)
AFFINE = phantoms.affine("LPS", (5, 6, 7), (0.7, 1.1, 3.0), (10, -20, 30), (5, -40, 80))
LABEL_MAP = LabelMap(RNG.integers(0, 3, (5, 6, 7)).astype(np.uint8), AFFINE)

#: Of `phantoms.affine`.
grids = st.tuples(
    st.sampled_from(["RAS", "LAS", "LPS", "PIR", "SLA", "IAL", "ASL", "RPI"]),
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.floats(0.2, 8.0)] * 3),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(-400, 400)] * 3),
)


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz", "out.seg.nrrd"])
@given(grid=grids)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_label_map_comes_back_on_the_same_grid(tmp_path: Path, name: str, grid: tuple) -> None:
    array = np.random.default_rng(0).integers(0, 3, grid[1]).astype(np.uint8)
    label_map = LabelMap(array, phantoms.affine(*grid))
    back = read_label_map(write_label_map(tmp_path / name, label_map, LABELS))
    np.testing.assert_array_equal(back.array, label_map.array)
    assert back.grid.matches(label_map.grid, tolerance_mm=1e-9 if name.endswith("nrrd") else 1e-3)


@given(grid=grids)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_seg_nrrd_of_a_metaimage_lies_on_it_for_itk_too(tmp_path: Path, grid: tuple) -> None:
    _, shape, spacing, *_ = grid
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantoms.affine(*grid)
    scan = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.int16).reshape(shape[::-1]))
    scan.SetSpacing(spacing)
    scan.SetDirection((lps[:3, :3] / np.asarray(spacing)).ravel().tolist())
    scan.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    volume = read_volume(tmp_path / "scan.mha")
    labels = LabelMap((volume.array[0] % 3).astype(np.uint8), volume.ijk_to_ras)
    written = sitk.ReadImage(str(write_label_map(tmp_path / "out.seg.nrrd", labels, LABELS)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(scan) % 3)
    for index in [(0, 0, 0), tuple(n - 1 for n in shape)]:
        np.testing.assert_allclose(
            written.TransformIndexToPhysicalPoint(index), scan.TransformIndexToPhysicalPoint(index), atol=1e-4
        )


def test_seg_nrrd_holds_what_slicer_needs(tmp_path: Path) -> None:
    segmentation = slicerio.read_segmentation(str(write_label_map(tmp_path / "out.seg.nrrd", LABEL_MAP, LABELS)))
    assert segmentation["masterRepresentation"] == "Binary labelmap"
    assert segmentation["containedRepresentationNames"] == ["Binary labelmap"]
    assert segmentation["referenceImageExtentOffset"] == [0, 0, 0]
    np.testing.assert_allclose(segmentation["ijkToLPS"], np.diag([-1, -1, 1, 1]) @ AFFINE)
    np.testing.assert_array_equal(segmentation["voxels"], LABEL_MAP.array)
    first, second, third = segmentation["segments"]
    assert [segment["labelValue"] for segment in (first, second, third)] == [1, 2, 7]
    assert first["id"] == "Segment_1"
    assert first["terminology"]["category"] == ["SCT", "123037004", "Anatomical Structure"]
    assert first["terminology"]["type"] == ["SCT", "279333006", "Head of hippocampus"]
    assert first["terminology"]["typeModifier"] == ["SCT", "7771000", "Left"]
    np.testing.assert_allclose(second["color"], np.array([70, 110, 220]) / 255, atol=1e-5)
    assert third["name"] == "absent"
    assert third["extent"] == [0, -1, 0, -1, 0, -1]
    assert first["layer"] == 0


def test_segment_extents_are_the_bounds_of_the_segment(tmp_path: Path) -> None:
    array = np.zeros((5, 6, 7), np.uint8)
    array[1:3, 2:6, 4] = 2
    written = write_label_map(tmp_path / "out.seg.nrrd", LabelMap(array, AFFINE), LABELS)
    assert slicerio.read_segmentation(str(written))["segments"][1]["extent"] == [1, 2, 2, 5, 4, 4]


def test_labels_of_seg_nrrd_come_back_with_umlauts_colours_and_codes(tmp_path: Path) -> None:
    assert read_segments(write_label_map(tmp_path / "out.seg.nrrd", LABEL_MAP, LABELS))[1] == LABELS


@pytest.mark.parametrize("overlap", [False, True])
def test_segments_of_several_layers_become_one_label_map_with_the_smaller_where_they_overlap(
    tmp_path: Path, overlap: bool
) -> None:
    """Two that share the label value 1 in different layers, as Slicer writes them when they may overlap."""
    layers = np.zeros((2, 4, 3, 2), np.uint8)
    layers[0, :2] = 1
    layers[1, 1 if overlap else 3 :, 0, 0] = 1
    header = (
        "NRRD0005\ntype: uint8\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 4 3 2\n"
        "space directions: none (1,0,0) (0,1,0) (0,0,1)\nkinds: list domain domain domain\nencoding: raw\n"
        "space origin: (0,0,0)\n"
        "Segment0_ID:=a\nSegment0_Name:=low\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
        "Segment1_ID:=b\nSegment1_Name:=high\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n\n"
    )
    path = tmp_path / "layers.seg.nrrd"
    path.write_bytes(header.encode() + layers.tobytes(order="F"))
    label_map, labels = read_segments(path)
    assert [(label.value, label.name) for label in labels] == [(1, "low"), (2, "high")]
    np.testing.assert_array_equal(label_map.array[:, 0, 0], [1, 2, 2, 2] if overlap else [1, 1, 0, 2])
    said = "layers.seg.nrrd: 'low' and 'high' overlap in 1 voxels; there, 'high', the smaller one, was taken."
    assert label_map.notes == ((said,) if overlap else ())
    if overlap:  # what a user leaves out hides nothing
        scan = Volume(np.zeros((1, 4, 3, 2), np.float32), label_map.ijk_to_ras)
        alone, notes = place_on(read_drawing(path)[0], scan, leave_out=[2])
        assert (np.count_nonzero(alone.array == 1), np.count_nonzero(alone.array), notes) == (12, 12, ())


def test_nifti_states_scanner_space_in_both_forms(tmp_path: Path) -> None:
    header = nib.load(write_label_map(tmp_path / "out.nii.gz", LABEL_MAP, LABELS)).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), AFFINE, atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.seg.nrrd"):
        one = write_label_map(tmp_path / name, LABEL_MAP, LABELS).read_bytes()
        assert write_label_map(tmp_path / name, LABEL_MAP, LABELS).read_bytes() == one


def test_large_label_values_need_and_get_16_bits(tmp_path: Path) -> None:
    label_map = LabelMap(LABEL_MAP.array.astype(np.uint16) * 1000, AFFINE)
    labels = [Label(1000, "one"), Label(2000, "two")]
    back = read_label_map(write_label_map(tmp_path / "out.seg.nrrd", label_map, labels))
    np.testing.assert_array_equal(back.array, label_map.array)


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nrrd"])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_maps_keep_values_and_channels(tmp_path: Path, name: str, channels: int) -> None:
    volume = Volume(RNG.random((channels, 5, 6, 7)).astype(np.float32), AFFINE)
    image = sitk.ReadImage(str(write_volume(tmp_path / name, volume)))
    stored = sitk.GetArrayFromImage(image)
    if channels > 1:
        stored = stored[..., -1] if name.endswith(".nrrd") else stored[-1]
    np.testing.assert_array_equal(stored, volume.array[-1].T)


def test_label_map_cut_to_its_segments_fits_back_onto_the_scan() -> None:
    part = LABEL_MAP.array[1:4, 2:5, 3:]
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [1, 2, 3, 1])[:3]
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = part.shape[1] - 1
    whole = LabelMap(part[:, ::-1], affine @ flip).on_grid(LABEL_MAP.grid)
    np.testing.assert_array_equal(whole.array[1:4, 2:5, 3:], part)
    assert np.count_nonzero(whole.array) == np.count_nonzero(part)


def test_label_map_between_the_voxels_of_the_scan_is_refused() -> None:
    shifted = AFFINE.copy()
    shifted[:3, 3] += 0.4 * AFFINE[:3, 0]
    with pytest.raises(GeometryError, match="do not coincide"):
        LabelMap(LABEL_MAP.array, shifted).on_grid(LABEL_MAP.grid)


def test_label_map_that_sticks_out_of_the_scan_is_refused() -> None:
    with pytest.raises(GeometryError, match="outside"):
        LABEL_MAP.on_grid(Grid((5, 6, 3), AFFINE))


# --- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.docx", "not written in this format"),
        ("out.nrrd", "not written in this format"),
        ("no/such/folder/out.nii.gz", "does not exist"),
        ("out.dcm", "the input is not DICOM"),
    ],
)
def test_impossible_destination_is_refused_before_and_at_writing(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(OutputError, match=said):
        check_label_map_destination(tmp_path / name)
    with pytest.raises(OutputError, match=said):
        write_label_map(tmp_path / name, LABEL_MAP, LABELS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.seg.nrrd", "out.nii.gz", "out.nii"])
def test_possible_destination_is_checked_without_a_trace(tmp_path: Path, name: str) -> None:
    check_label_map_destination(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_value_without_a_label_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"values without a label: \[2\]"):
        write_label_map(tmp_path / "out.seg.nrrd", LABEL_MAP, LABELS[:1])
    assert list(tmp_path.iterdir()) == []


_WRITE_WITH_LITTLE_SPACE = """
import resource, sys
import numpy as np
from MAESegmentLib.errors import OutputError
from MAESegmentLib.images import LabelMap, write_label_map
from MAESegmentLib.images.labels import Label
label_map = LabelMap(np.random.default_rng(0).integers(0, 2, (40, 40, 40)).astype(np.uint8), np.eye(4))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_label_map(sys.argv[1], label_map, [Label(1, "one")])
except OutputError as error:
    print(error.message)
"""


@pytest.mark.parametrize("name", ["out.seg.nrrd", "out.nii.gz"])
def test_disk_full_by_the_last_byte_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    label_map = LabelMap(np.random.default_rng(0).integers(0, 2, (40, 40, 40)).astype(np.uint8), np.eye(4))
    needed = write_label_map(tmp_path / name, label_map, [Label(1, "one")]).stat().st_size
    before = (tmp_path / name).read_bytes()
    command = [sys.executable, "-c", _WRITE_WITH_LITTLE_SPACE, str(tmp_path / name), str(needed - 1)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment()).stdout
    assert "full" in said
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("name", ["out.seg.nrrd", "out.nii.gz"])
def test_folder_without_write_permission_is_said(name: str) -> None:
    kernel_folder = Path("/sys")  # where not even root can create a file
    with pytest.raises(OutputError, match=r"Permission denied|not permitted"):
        check_label_map_destination(kernel_folder / name)
    with pytest.raises(OutputError, match=r"Permission denied|not permitted"):
        write_label_map(kernel_folder / name, LABEL_MAP, LABELS)
