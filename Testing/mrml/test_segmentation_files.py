"""A `.seg.nrrd` has the segments that 3D Slicer finds in it, where it finds them; what Slicer alters is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vtk.util.numpy_support import vtk_to_numpy

from MAESegmentLib.errors import MAESegmentError, VolumeReadError
from MAESegmentLib.images import LabelMap, read_segments, read_volume, write_label_map
from MAESegmentLib.images.reading import read_drawing
from MAESegmentLib.mrml.layers import segments_of
from Testing.mrml.nodes import points, points_in_slicer, read_segmentation

VALUES = np.random.default_rng(1).integers(0, 4, (6, 5, 4)).astype(np.uint8)
ONE_A_LAYER = np.stack([VALUES == 1, VALUES == 2, VALUES == 3]).astype(np.uint8)
IJK_TO_RAS = np.array([[-2.0, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 3], [0, 0, 0, 1]])


def segment(number: int, **fields: object) -> dict[str, object]:
    """The fields of segment `number`; those that are None are left out."""
    usual = {
        "ID": f"Segment_{number + 1}",
        "Name": "ABCDEF"[number],
        "Color": "0.5 0.2 0.1",
        "LabelValue": number + 1,
        "Layer": 0,
    }
    return {f"Segment{number}_{key}": value for key, value in {**usual, **fields}.items() if value is not None}


def old(number: int, **fields: object) -> dict[str, object]:
    """As Slicer 4.10 wrote it: one segment a layer, without saying so."""
    return segment(number, **{"LabelValue": None, "Layer": None, **fields})


def write(path: Path, array: np.ndarray, *pairs: dict[str, object]) -> Path:
    """(I, J, K), or (L, I, J, K) with the layers first."""
    layered = array.ndim == 4
    kind = {"uint8": "unsigned char", "uint16": "unsigned short", "int16": "short", "float32": "float"}[
        str(array.dtype)
    ]
    header = (
        f"NRRD0004\ntype: {kind}\ndimension: {array.ndim}\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, array.shape))}\n"
        f"space directions: {'none ' * layered}(2,0,0) (0,2,0) (0,0,3)\n"
        f"kinds: {'list ' * layered}domain domain domain\nendian: little\nencoding: gzip\nspace origin: (1,2,3)\n"
    )
    header += "".join(f"{key}:={value}\n" for group in pairs for key, value in group.items())
    path.write_bytes(header.encode() + b"\n" + gzip.compress(array.tobytes(order="F")))
    return path


def places_in_slicer(path: Path) -> dict[str, np.ndarray]:
    """Per segment name, the voxel centres (N, 3) in RAS, in order."""
    node = read_segmentation(path)
    return {
        segment.GetName(): points_in_slicer(node, segment_id)
        for segment_id, segment in segments_of(node.GetSegmentation()).items()
    }


def places_here(path: Path) -> dict[str, np.ndarray]:
    drawing, labels = read_drawing(path)
    layers = [drawing] if isinstance(drawing, LabelMap) else drawing.layers
    masks = {one.name: np.any([layer.array == one.value for layer in layers], axis=0) for one in labels}
    return {name: points(mask, layers[0].ijk_to_ras) for name, mask in masks.items()}


def assert_as_in_slicer(path: Path) -> None:
    here, there = places_here(path), places_in_slicer(path)
    assert list(here) == list(there)
    for name in there:
        np.testing.assert_allclose(here[name], there[name], atol=1e-4)


AS_SLICER = {
    "one layer": (VALUES, [segment(n) for n in range(3)]),
    "values in another order": (VALUES, [segment(n, LabelValue=3 - n) for n in range(3)]),
    "one segment, no value": (ONE_A_LAYER[0], [segment(0, LabelValue=None)]),
    "value beyond the type": (ONE_A_LAYER[0], [segment(0), segment(1, LabelValue=300)]),
    "value with blanks": (ONE_A_LAYER[1] * 2, [segment(0, LabelValue=" 2 ")]),
    "value with a point": (ONE_A_LAYER[1] * 2, [segment(0, LabelValue="2.0")]),
    "signed": (VALUES.astype(np.int16), [segment(n) for n in range(3)]),
    "floats": (VALUES.astype(np.float32), [segment(n) for n in range(3)]),
    "layers": (ONE_A_LAYER, [segment(n, LabelValue=1, Layer=n) for n in range(3)]),
    "layers in another order": (ONE_A_LAYER, [segment(n, LabelValue=1, Layer=2 - n) for n in range(3)]),
    "layers without values": (ONE_A_LAYER, [segment(n, LabelValue=None, Layer=n) for n in range(3)]),
    "layers without numbers": (ONE_A_LAYER, [segment(n, LabelValue=1, Layer=None) for n in range(3)]),
    "Slicer 4.10": (ONE_A_LAYER, [old(n, Extent="0 5 0 4 0 3") for n in range(3)]),
    "Slicer 4.10, no extents": (ONE_A_LAYER, [old(n) for n in range(3)]),
    "old and new": (ONE_A_LAYER, [segment(0, LabelValue=1), old(1), old(2)]),
    "one layer of four axes": (ONE_A_LAYER[:1], [old(0)]),
    "empty segments": (
        np.zeros_like(ONE_A_LAYER),
        [segment(n, LabelValue=1, Layer=n, Extent="0 -1 0 -1 0 -1") for n in range(3)],
    ),
    "offset of the extents": (VALUES, [*map(segment, range(3)), {"Segmentation_ReferenceImageExtentOffset": "2 3 4"}]),
    "overlap": (np.stack([VALUES > 0, VALUES == 1, VALUES > 1]).astype(np.uint8), [old(n) for n in range(3)]),
    "names of any alphabet": (VALUES, [segment(0, Name="Hälfte"), segment(1, Name="海馬"), segment(2, Name="a b")]),
    "colour with commas": (VALUES, [segment(n, Color="0.5,0.2,0.1") for n in range(3)]),
    "colour of two": (VALUES, [segment(n, Color="0.5 0.2") for n in range(3)]),
}


@pytest.mark.parametrize("form", AS_SLICER)
def test_segments_are_those_that_slicer_shows(tmp_path: Path, form: str) -> None:
    array, pairs = AS_SLICER[form]
    assert_as_in_slicer(write(tmp_path / "a.seg.nrrd", array, *pairs))


REFUSED = {
    "gap in the numbers": (VALUES, [segment(0), segment(2)], "number 1 is missing"),
    "first number missing": (VALUES, [segment(1), segment(2)], "number 0 is missing"),
    "no ID": (VALUES, [segment(0, ID=None), segment(1)], "segment 0 has no ID"),
    "one ID twice": (VALUES, [segment(n, ID="X") for n in range(3)], "same ID"),
    "two of one value": (VALUES, [segment(0), segment(1, LabelValue=1)], "'A' and 'B' are the same voxels"),
    "no values in one layer": (VALUES, [segment(n, LabelValue=None) for n in range(3)], "are the same voxels"),
    "voxels of no segment": (VALUES, [segment(0)], "value 2, 3, which none of its segments has"),
    "layer of other values": (ONE_A_LAYER * 255, [old(n) for n in range(3)], "value 255"),
    "layer that is not there": (ONE_A_LAYER, [segment(0), segment(1, LabelValue=1, Layer=5)], "Layer of segment 'B'"),
    "second layer of one": (VALUES, [segment(0), segment(1, Layer=1)], "Layer of segment 'B' is '1'"),
    "layer -1": (VALUES, [segment(0, Layer=-1)], "Layer of segment 'A' is '-1'"),
    "layer x": (VALUES, [segment(0, Layer="x")], "Layer of segment 'A' is 'x'"),
    "value 0": (VALUES, [segment(0, LabelValue=0)], "LabelValue of segment 'A' is '0'"),
    "value -1": (VALUES, [segment(0, LabelValue=-1)], "LabelValue"),
    "value one": (VALUES, [segment(0, LabelValue="one")], "is 'one'"),
    "value nan": (VALUES, [segment(0, LabelValue="nan")], "is 'nan'"),
    "value 99999": (VALUES, [segment(0, LabelValue=99999)], "LabelValue"),
    "extent that cuts": (ONE_A_LAYER, [old(n, Extent="0 1 0 1 0 1") for n in range(3)], "beyond the Extent"),
    "extent of five": (ONE_A_LAYER, [old(n, Extent="0 1 0 1 0") for n in range(3)], "not six numbers"),
    "more segments than layers": (ONE_A_LAYER, [old(n) for n in range(5)], "Layer of segment 'D'"),
    "layers of nobody": (ONE_A_LAYER, [], "does not say which segment"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_slicer_leaves_out_or_alters_is_refused_by_name(tmp_path: Path, form: str) -> None:
    array, pairs, said = REFUSED[form]
    with pytest.raises(VolumeReadError, match=said):
        read_segments(write(tmp_path / "a.seg.nrrd", array, *pairs))


def test_label_map_of_nameless_values_stays_one(tmp_path: Path) -> None:
    label_map, labels = read_segments(write(tmp_path / "a.seg.nrrd", VALUES))
    assert labels == ()
    np.testing.assert_array_equal(label_map.array, VALUES)


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("overlap", [True, False])
def test_what_slicer_writes_is_read_as_slicer_reads_it(tmp_path: Path, crop: bool, overlap: bool) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "made")
    node.GetSegmentation().SetConversionParameter(
        "Reference image geometry", "2;0;0;1;0;2;0;2;0;0;3;3;0;0;0;1;0;19;0;19;0;19;"
    )
    for name, corner in (("A", (3, 2, 5)), ("B", (10, 11, 12)), ("C", (4, 3, 6) if overlap else (15, 15, 15))):
        image = slicer.vtkOrientedImageData()
        image.SetExtent(*(edge for at in corner for edge in (at, at + 3)))
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = 1 if not overlap else 0
        vtk_to_numpy(image.GetPointData().GetScalars())[:: 7 if name == "C" else 3] = 1
        image.SetSpacing(2, 2, 3)
        image.SetOrigin(1, 2, 3)
        part = slicer.vtkSegment()
        part.SetName(name)
        part.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(part, name)
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetCropToMinimumExtent(crop)
    node.GetStorageNode().SetFileName(str(tmp_path / "a.seg.nrrd"))
    assert node.GetStorageNode().WriteData(node)
    assert_as_in_slicer(tmp_path / "a.seg.nrrd")
    merged, labels = read_segments(tmp_path / "a.seg.nrrd")
    assert [label.name for label in labels] == ["A", "B", "C"]
    sizes = {label.name: np.count_nonzero(merged.array == label.value) for label in labels}
    assert merged.notes == (
        ("a.seg.nrrd: 'A' and 'C' overlap in 3 voxels; there, 'C', the smaller one, was taken.",) if overlap else ()
    )
    assert not overlap or sizes == {"A": 19, "B": 22, "C": 10}


def test_segmentation_under_another_ending_is_still_no_scan(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", VALUES, segment(0), segment(1), segment(2))
    with pytest.raises(VolumeReadError, match="is a segmentation"):
        read_volume(path)
    assert [label.name for label in read_segments(path)[1]] == ["A", "B", "C"]


def test_name_in_no_character_set_can_be_written_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.seg.nrrd", VALUES, segment(0, Name="NAME"), segment(1), segment(2))
    path.write_bytes(path.read_bytes().replace(b"NAME", b"h\xe4lfte"))
    label_map, labels = read_segments(path)
    assert labels[0].name == "h\ufffdlfte"
    assert read_segments(write_label_map(tmp_path / "b.seg.nrrd", label_map, labels))[1] == labels


TEXTS = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
    st.integers(-3, 70000).map(str),
    st.sampled_from(["1e9", "nan", "-0", "0 5 0 4 0 3", "0.1 0.2 nan", "1 1 1e400"]),
)


@given(
    fields=st.dictionaries(
        st.sampled_from(["ID", "Name", "Color", "LabelValue", "Layer", "Extent", "Tags"]), TEXTS, min_size=1
    ),
    number=st.integers(0, 3),
    layered=st.booleans(),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_fields_give_a_clear_error_or_each_voxel_to_one_named_segment(
    tmp_path: Path, fields: dict[str, str], number: int, layered: bool
) -> None:
    pairs = [old(n) if layered else segment(n) for n in range(3)]
    pairs.append({f"Segment{number}_{key}": value for key, value in fields.items()})
    merged = {key: value for group in pairs for key, value in group.items()}
    path = write(tmp_path / "a.seg.nrrd", ONE_A_LAYER if layered else VALUES, merged)
    try:
        label_map, labels = read_segments(path)
    except MAESegmentError:
        return
    assert np.count_nonzero(np.isin(label_map.array, [label.value for label in labels])) == np.count_nonzero(VALUES)
    assert all(label.name.strip() for label in labels)
