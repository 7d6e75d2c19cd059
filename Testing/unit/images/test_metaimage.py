"""A MetaImage gives the voxels and places that ITK and 3D Slicer give it, in every form, or one clear error."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.errors import MAESegmentError, VolumeReadError
from MAESegmentLib.images import read_volume

VOXELS = np.random.default_rng(0).integers(1, 9999, (6, 7, 8)).astype("<i2")
RAW = VOXELS.tobytes(order="F")
PACKED = zlib.compress(RAW)
SLICES = {f"p{k:02d}.raw": VOXELS[:, :, k].tobytes(order="F") for k in range(8)}
FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "0 1 0 0 0 -1 1 0 0",
    "Offset": "1 2 3",
    "ElementSpacing": "2 2 3",
    "DimSize": "6 7 8",
    "ElementType": "MET_SHORT",
}


def metaimage(
    path: Path,
    data: bytes = RAW,
    files: Mapping[str, bytes] | None = None,
    listed: str = "",
    data_file: str = "LOCAL",
    **fields: str | None,
) -> Path:
    """A file with `FIELDS`, changed by `fields`; `data` follows the header, unless `data_file` names another place."""
    texts = {name: value for name, value in {**FIELDS, **fields}.items() if value is not None}
    header = "".join(f"{name} = {value}\n" for name, value in texts.items()) + f"ElementDataFile = {data_file}\n"
    for name, content in (files or {}).items():
        (path.parent / name).write_bytes(content)
    path.write_bytes((header + listed).encode() + (data if data_file.upper() == "LOCAL" else b""))
    return path


def agrees_with_itk(path: Path) -> None:
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array[0], VOXELS)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T.reshape(VOXELS.shape), VOXELS)
    for index in [(0, 0, 0), (5, 0, 3), (1, 6, 7)]:
        lps = np.asarray(image.TransformIndexToPhysicalPoint([*index, 0][: image.GetDimension()]))[:3]
        np.testing.assert_allclose((volume.ijk_to_ras @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-9)


FORMS = {
    "local": {},
    "local at the end": {"HeaderSize": "-1"},
    "detached": {"data_file": "a.raw", "files": {"a.raw": RAW}},
    "detached behind bytes": {"data_file": "a.raw", "files": {"a.raw": b"h" * 37 + RAW}, "HeaderSize": "37"},
    "detached at the end": {"data_file": "a.raw", "files": {"a.raw": b"h" * 37 + RAW}, "HeaderSize": "-1"},
    "packed": {"data": PACKED, "CompressedData": "True", "CompressedDataSize": str(len(PACKED))},
    "packed behind bytes": {
        "data_file": "a.zraw",
        "files": {"a.zraw": b"h" * 37 + PACKED},
        "CompressedData": "True",
        "CompressedDataSize": str(len(PACKED)),
        "HeaderSize": "37",
    },
    "list": {"data_file": "LIST", "files": SLICES, "listed": "\n".join(SLICES) + "\n"},
    "list of slices": {"data_file": "LIST 2D", "files": SLICES, "listed": "\n".join(SLICES) + "\n"},
    "list at the end": {
        "data_file": "LIST",
        "files": {name: b"hhh" + data for name, data in SLICES.items()},
        "listed": "\n".join(SLICES) + "\n",
        "HeaderSize": "-1",
    },
    "pattern": {"data_file": "p%02d.raw 0 7 1", "files": SLICES},
    "pattern of every other number": {
        "data_file": "q%d.raw 10 24 2",
        "files": {f"q{10 + 2 * k}.raw": data for k, data in enumerate(SLICES.values())},
    },
    "big-endian": {"data": VOXELS.astype(">i2").tobytes(order="F"), "BinaryDataByteOrderMSB": "True"},
    "big-endian, spelled T": {"data": VOXELS.astype(">i2").tobytes(order="F"), "BinaryDataByteOrderMSB": "T"},
    "big-endian, spelled 1": {"data": VOXELS.astype(">i2").tobytes(order="F"), "BinaryDataByteOrderMSB": "1"},
    "big-endian, by its other name": {
        "data": VOXELS.astype(">i2").tobytes(order="F"),
        "BinaryDataByteOrderMSB": None,
        "ElementByteOrderMSB": "True",
    },
    "position": {"Offset": None, "Position": "7 8 9"},
    "origin": {"Offset": None, "Origin": "7 8 9"},
    "orientation": {"TransformMatrix": None, "Orientation": "0 1 0 0 0 1 1 0 0"},
    "element size": {"ElementSpacing": None, "ElementSize": "5 6 7"},
    "element size beside spacing": {"ElementSize": "5 6 7"},
    "nothing about space": {"ElementSpacing": None, "Offset": None, "TransformMatrix": None},
    "backwards": {"ElementSpacing": "-2 2 3"},
    "centre of rotation": {"CenterOfRotation": "5 5 5"},
    "long": {"data": VOXELS.astype("<i4").tobytes(order="F"), "ElementType": "MET_LONG"},
    "fourth axis": {
        "NDims": "4",
        "DimSize": "6 7 8 1",
        "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
        "Offset": "1 2 3 0",
        "ElementSpacing": "2 2 3 1",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_by_itk(tmp_path: Path, form: str) -> None:
    agrees_with_itk(metaimage(tmp_path / "a.mhd", **FORMS[form]))


@pytest.mark.parametrize("packed", [PACKED, gzip.compress(RAW)])
def test_packed_voxels_need_no_size(tmp_path: Path, packed: bytes) -> None:
    path = metaimage(tmp_path / "a.mha", packed, CompressedData="True")
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"HeaderSize": "-2"}, "HeaderSize is -2"),
        ({"HeaderSize": "5"}, "HeaderSize is 5"),
        ({"HeaderSize": "4000000000000"}, "promises 672 bytes of voxels, 0 are there"),
        ({"Position": "7 8 9"}, "Offset and Position contradict"),
        ({"Rotation": "1 0 0 0 1 0 0 0 1"}, "TransformMatrix and Rotation contradict"),
        ({"ElementByteOrderMSB": "True"}, "ElementByteOrderMSB contradict"),
        ({"BinaryDataByteOrderMSB": "yes"}, "neither True nor False"),
        ({"BinaryData": "False"}, "written as text"),
        ({"DistanceUnits": "um"}, "lengths are in um"),
        ({"DimSize": "6 7"}, "DimSize is '6 7' where 3"),
        ({"DimSize": "6 7 8.5"}, r"damaged: its header has '8\.5' where a whole number is expected"),
        ({"Offset": "1 2 x"}, "damaged: its header has 'x' where a number is expected"),
        ({"NDims": None}, "damaged: its header lacks NDims"),
        ({"ElementType": None}, "damaged: its header lacks ElementType"),
        ({"ElementType": "MET_OTHER"}, "MET_OTHER"),
        ({"DimSize": "65535 65535 65535"}, "= 281,462,092,005,375 voxels"),
        ({"DimSize": "4611686018427387904 2 2"}, "= 18,446,744,073,709,551,616 voxels"),
        ({"DimSize": "600 700 800", "CompressedData": "True", "data": PACKED}, "promises 672,000,000 bytes"),
        ({"CompressedData": "True", "data": PACKED[:-100]}, "cut off"),
        ({"CompressedData": "True", "data": PACKED[:-2] + b"xx"}, "damaged"),
        ({"CompressedData": "True", "data": RAW}, "damaged"),
        (
            {"CompressedData": "True", "data_file": "LIST", "listed": "\n".join(SLICES), "files": SLICES},
            "several files",
        ),
        ({"data_file": "LIST", "listed": "p00.raw\n", "files": SLICES}, "1 files for 8 slices"),
        ({"data_file": "LIST 3D", "listed": "a.raw\n"}, "3D pieces"),
        ({"data_file": "p%02d.raw 0 4000000000 1", "files": SLICES}, "from 0 to 4000000000"),
        ({"data_file": "p%02d.raw 7 0 0", "files": SLICES}, "by 0"),
        ({"data_file": "p%0999999d.raw 0 7 1", "files": SLICES}, "by one number"),
    ],
)
def test_header_that_cannot_be_meant_is_refused_with_what_it_says(
    tmp_path: Path, fields: dict[str, str | None], said: str
) -> None:
    with pytest.raises(VolumeReadError, match=said):
        read_volume(metaimage(tmp_path / "a.mha", **fields))


def test_packed_voxels_that_go_on_for_ever_are_refused(tmp_path: Path) -> None:
    bomb = zlib.compress(RAW + bytes(80 << 20))
    with pytest.raises(VolumeReadError, match="does not promise"):
        read_volume(metaimage(tmp_path / "a.mha", bomb, CompressedData="True"))


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("name", ["../a.raw", "/etc/passwd", "sub/a.raw", "..\\a.raw", "..", "link.raw", "sub", "pipe"])
def test_voxels_are_read_only_from_regular_files_beside_the_header(tmp_path: Path, name: str, listed: bool) -> None:
    folder = tmp_path / "scan"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "a.raw", folder / "sub" / "a.raw"):
        place.write_bytes(RAW)
    (folder / "link.raw").symlink_to(tmp_path / "a.raw")
    os.mkfifo(folder / "pipe")
    place = {"data_file": "LIST", "listed": f"{name}\n" * 8} if listed else {"data_file": name}
    with pytest.raises(VolumeReadError):
        read_volume(metaimage(folder / "a.mhd", **place))


LINE = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)
NUMBERS = st.lists(st.integers(-(2**70), 2**70) | st.integers(-3, 9)).map(lambda values: " ".join(map(str, values)))


@given(
    name=st.sampled_from([*FIELDS, "HeaderSize", "ElementDataFile", "ElementNumberOfChannels", "Position"]),
    value=LINE | NUMBERS,
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_any_field_gives_a_clear_error_or_the_same_number_of_voxels(
    tmp_path: Path, name: str, value: str
) -> None:
    header = "".join(f"{n} = {value if n == name else v}\n" for n, v in FIELDS.items())
    header += "" if name in FIELDS else f"{name} = {value}\n"
    header += "" if name == "ElementDataFile" else "ElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(header.encode("latin-1") + RAW)
    try:
        assert read_volume(tmp_path / "a.mha").array.size == VOXELS.size
    except MAESegmentError as error:
        said = error.message.replace(value, "")
        assert not re.search(r"literal|convert|sys\.|\bobject\b|NoneType|out of range|damaged: '", said), said
