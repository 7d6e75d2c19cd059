"""A NRRD or MetaImage gives the voxels and places that ITK and 3D Slicer give it, in every form, or one clear error."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.errors import GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.images import read_volume
from MAESegmentLib.images.formats import decoding

VOXELS = np.random.default_rng(0).integers(1, 9999, (6, 7, 8)).astype("<i2")
RAW = VOXELS.tobytes(order="F")
BIG_ENDIAN = VOXELS.astype(">i2").tobytes(order="F")
PACKED = zlib.compress(RAW)
SLICES = {f"s{k:02d}.raw": VOXELS[:, :, k].tobytes(order="F") for k in range(8)}
HALVES = {f"h{k}.raw": VOXELS[:, :, 4 * k : 4 * k + 4].tobytes(order="F") for k in range(2)}
LISTED = "\n".join(SLICES) + "\n"
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 7 8",
    "space directions": "(0,2,0) (0,0,-2) (3,0,0)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(1,2,3)",
}
METAIMAGE = {
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


def nrrd(
    path: Path, data: bytes = RAW, files: Mapping[str, bytes] | None = None, listed: str = "", **fields: str | None
) -> Path:
    """A file with the fields `NRRD`, changed by `fields` ("data_file" is put last), and the `files` beside it."""
    changes = {name.replace("_", " "): value for name, value in fields.items()}
    place = changes.pop("data file", None)
    header = "NRRD0004\n" + _lines({**NRRD, **changes}, ": ")
    header += "\n" if place is None else f"data file: {place}\n{listed}"
    return _written(path, header, data if place is None else b"", files)


def metaimage(
    path: Path,
    data: bytes = RAW,
    files: Mapping[str, bytes] | None = None,
    listed: str = "",
    data_file: str = "LOCAL",
    **fields: str | None,
) -> Path:
    """A file with the fields `METAIMAGE`, changed by `fields`; `data` follows, unless `data_file` names another."""
    header = _lines({**METAIMAGE, **fields}, " = ") + f"ElementDataFile = {data_file}\n{listed}"
    return _written(path, header, data if data_file == "LOCAL" else b"", files)


def _lines(fields: Mapping[str, str | None], between: str) -> str:
    return "".join(f"{name}{between}{value}\n" for name, value in fields.items() if value is not None)


def _written(path: Path, header: str, data: bytes, files: Mapping[str, bytes] | None) -> Path:
    for name, content in (files or {}).items():
        (path.parent / name).write_bytes(content)
    path.write_bytes(header.encode() + data)
    return path


def agrees_with_itk(path: Path) -> None:
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array[0], VOXELS)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T.reshape(VOXELS.shape), VOXELS)
    for index in [(0, 0, 0), (5, 0, 3), (1, 6, 7)]:
        lps = np.asarray(image.TransformIndexToPhysicalPoint([*index, 0][: image.GetDimension()]))[:3]
        np.testing.assert_allclose((volume.ijk_to_ras @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-9)


# --- forms ------------------------------------------------------------------------------------------------------------

NRRD_FORMS = {
    "one file": {"data_file": "one.raw", "files": {"one.raw": RAW}},
    "one file with a blank": {"data_file": "o ne.raw", "files": {"o ne.raw": RAW}},
    "one file, umlaut": {"data_file": "schädel.raw", "files": {"schädel.raw": RAW}},
    "one file with a per cent sign": {"data_file": "100%.raw", "files": {"100%.raw": RAW}},
    "from here": {"data_file": "./one.raw", "files": {"one.raw": RAW}},
    "pattern": {"data_file": "s%02d.raw 0 7 1", "files": SLICES},
    "pattern of slices": {"data_file": "s%02d.raw 0 7 1 2", "files": SLICES},
    "pattern of slabs": {"data_file": "h%d.raw 0 1 1 3", "files": HALVES},
    "pattern backwards": {
        "data_file": "s%02d.raw 7 0 -1",
        "files": dict(zip(reversed(SLICES), SLICES.values(), strict=True)),
    },
    "list": {"data_file": "LIST", "listed": LISTED, "files": SLICES},
    "list of slices": {"data_file": "LIST 2", "listed": LISTED, "files": SLICES},
    "list of slabs": {"data_file": "LIST 3", "listed": "h0.raw\nh1.raw\n", "files": HALVES},
    "list, packed": {
        "data_file": "LIST",
        "listed": LISTED,
        "encoding": "gzip",
        "files": {name: gzip.compress(data) for name, data in SLICES.items()},
    },
    "list, skipping": {
        "data_file": "LIST",
        "listed": LISTED,
        "line_skip": "1",
        "byte_skip": "2",
        "files": {name: b"x\nyz" + data for name, data in SLICES.items()},
    },
    "raw": {},
    "bytes skipped": {"data": b"xyz" + RAW, "byte_skip": "3"},
    "at the end": {"data": b"xyz" + RAW, "byte_skip": "-1"},
    "lines skipped": {"data": b"li\nne\n" + RAW, "line_skip": "2"},
    "lines and bytes skipped": {"data": b"li\nxy" + RAW, "line_skip": "1", "byte_skip": "2"},
    "more behind": {"data": RAW + b"behind"},
    "gzip": {"data": gzip.compress(RAW), "encoding": "gzip"},
    "GZIP": {"data": gzip.compress(RAW), "encoding": "GZIP"},
    "gzip in members": {"data": gzip.compress(RAW[:100]) + gzip.compress(RAW[100:]), "encoding": "gz"},
    "gzip, bytes skipped": {"data": gzip.compress(b"xyz" + RAW), "encoding": "gzip", "byte_skip": "3"},
    "gzip, at the end": {"data": gzip.compress(b"xyz" + RAW), "encoding": "gzip", "byte_skip": "-1"},
    "gzip, line skipped": {"data": b"li\n" + gzip.compress(RAW), "encoding": "gzip", "line_skip": "1"},
    "text": {"data": "\n".join(map(str, VOXELS.ravel(order="F"))).encode(), "encoding": "text", "endian": None},
    "hexadecimal": {"data": RAW.hex().encode(), "encoding": "hex"},
    "big-endian": {"data": BIG_ENDIAN, "endian": "big"},
    "layer first": {
        "dimension": "4",
        "sizes": "1 6 7 8",
        "kinds": "list domain domain domain",
        "space_directions": "none (0,2,0) (0,0,-2) (3,0,0)",
    },
    "layer last": {
        "dimension": "4",
        "sizes": "6 7 8 1",
        "kinds": "domain domain domain list",
        "space_directions": "(0,2,0) (0,0,-2) (3,0,0) none",
    },
    "measurement frame": {"measurement_frame": "(0,1,0) (1,0,0) (0,0,1)"},
    "nodes": {"centerings": "node node node"},
    "Left-Posterior-Superior": {"space": "Left-Posterior-Superior"},
    "RAS": {"space": "RAS"},
    "left-anterior-superior": {"space": "left-anterior-superior"},
    "blanks in vectors": {"space_directions": "(0, 2, 0) (0, 0, -2) (3, 0, 0)", "space_origin": "( 1, 2 , 3)"},
    "blanks around vectors": {"space_directions": "( 0,2,0 ) ( 0 , 0 , -2 )  ( 3,0,0 )"},
    "tabs in vectors": {"space_directions": "(0,\t2,0) (0,0,-2) (3,0,0)"},
}
METAIMAGE_FORMS = {
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
    "list": {"data_file": "LIST", "files": SLICES, "listed": LISTED},
    "list of slices": {"data_file": "LIST 2D", "files": SLICES, "listed": LISTED},
    "list at the end": {
        "data_file": "LIST",
        "files": {name: b"hhh" + data for name, data in SLICES.items()},
        "listed": LISTED,
        "HeaderSize": "-1",
    },
    "pattern": {"data_file": "s%02d.raw 0 7 1", "files": SLICES},
    "pattern of every other number": {
        "data_file": "q%d.raw 10 24 2",
        "files": {f"q{10 + 2 * k}.raw": data for k, data in enumerate(SLICES.values())},
    },
    "big-endian": {"data": BIG_ENDIAN, "BinaryDataByteOrderMSB": "True"},
    "big-endian, spelled T": {"data": BIG_ENDIAN, "BinaryDataByteOrderMSB": "T"},
    "big-endian, spelled 1": {"data": BIG_ENDIAN, "BinaryDataByteOrderMSB": "1"},
    "big-endian, by its other name": {
        "data": BIG_ENDIAN,
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


@pytest.mark.parametrize("form", NRRD_FORMS)
def test_every_form_of_nrrd_is_read_as_by_itk(tmp_path: Path, form: str) -> None:
    agrees_with_itk(nrrd(tmp_path / "a.nhdr", **NRRD_FORMS[form]))


@pytest.mark.parametrize("form", METAIMAGE_FORMS)
def test_every_form_of_metaimage_is_read_as_by_itk(tmp_path: Path, form: str) -> None:
    agrees_with_itk(metaimage(tmp_path / "a.mhd", **METAIMAGE_FORMS[form]))


def test_forms_that_itk_cannot_read_are_read(tmp_path: Path) -> None:
    for path in (
        nrrd(tmp_path / "a.nrrd", bz2.compress(RAW), encoding="bzip2"),
        metaimage(tmp_path / "a.mha", PACKED, CompressedData="True"),  # without its size
        metaimage(tmp_path / "b.mha", gzip.compress(RAW), CompressedData="True"),
    ):
        np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)


def test_names_of_fields_are_the_same_in_capitals(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"space directions", b"Space Directions").replace(b"type", b"TYPE"))
    agrees_with_itk(path)


def test_comments_and_windows_line_ends_are_no_fields(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd")
    header = path.read_bytes()[: -len(RAW)].replace(b"type", b"# a remark: one\ntype").replace(b"\n", b"\r\n")
    path.write_bytes(header + RAW)
    agrees_with_itk(path)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"byte_skip": "-2"}, "byte skip is -2"),
        ({"byte_skip": "4000000000000000000"}, "incomplete"),
        ({"line_skip": "-1"}, "line skip is -1"),
        ({"line_skip": "2000000000"}, "after 2,000,000,000 lines"),
        ({"encoding": "gzip"}, "damaged"),
        ({"encoding": "zip"}, '"zip" is not supported'),
        ({"type": "block"}, "type block"),
        ({"endian": None}, "byte order"),
        ({"space": "3D-left-handed"}, "3D-left-handed"),
        ({"space": "scanner-xyz"}, "scanner-xyz"),
        ({"space_units": '"um" "um" "um"'}, "lengths are in um"),
        ({"sizes": "6 7"}, "do not agree"),
        ({"dimension": "4"}, "do not agree"),
        ({"sizes": "6 7 x"}, "its header has 'x' where a whole number is expected"),
        ({"sizes": "6 7 8.0"}, r"its header has '8\.0' where a whole number is expected"),
        ({"space_directions": "(0,2,0) (0,0,a) (3,0,0)"}, "its header has 'a' where a number is expected"),
        ({"sizes": "0 7 8"}, "empty"),
        ({"sizes": "-6 7 8"}, "empty"),
        ({"sizes": "6 7 " + "9" * 5000}, "damaged: its header has a value that cannot be read"),
        ({"type": None}, "lacks type"),
        ({"space_orgin": "(7,8,9)"}, "space orgin, which the format does not know"),
        ({"space_origin": "(1e9,0,0)"}, r"1e\+09 mm from the origin"),
        ({"space_origin": "(inf,0,0)"}, "not finite"),
        ({"encoding": "text", "endian": None, "data": b"1,2,3"}, "unmatched data|promises 336 numbers"),
        ({"encoding": "hex", "data": b"0102xy"}, "damaged"),
        ({"sizes": "65535 65535 65535"}, "65535 x 65535 x 65535 = 281,462,092,005,375 voxels"),
        ({"sizes": "4611686018427387904 2 2"}, "18,446,744,073,709,551,616"),
        ({"sizes": "99999999999999999999999 2 2"}, "399,999,999,999,999,999,999,996"),
        ({"sizes": "60 70 80", "data": gzip.compress(RAW), "encoding": "gzip"}, "cannot hold them|promises"),
    ],
)
def test_nrrd_header_that_cannot_be_meant_is_refused_with_what_it_says(
    tmp_path: Path, fields: dict[str, str | None], said: str
) -> None:
    with pytest.raises((VolumeReadError, GeometryError), match=said):
        read_volume(nrrd(tmp_path / "a.nrrd", **fields))


@pytest.mark.parametrize(
    ("data_file", "listed"),
    [
        ("s%02d.raw 0 6 1", ""),
        ("s%02d.raw 0 8 1", ""),
        ("s%02d.raw 0 7 0", ""),
        ("s%02d.raw 0 4000000000 1", ""),
        ("s%0999999999d.raw 0 7 1", ""),
        ("s%02d%d.raw 0 7 1", ""),
        ("s%02d.raw 0 7 1 1", ""),
        ("s%02d.raw 0 7 1 9", ""),
        ("LIST", "s00.raw\ns01.raw\n"),
        ("LIST", ""),
        ("LIST 7", "s00.raw\n"),
    ],
)
def test_data_files_that_do_not_make_the_whole_are_refused(tmp_path: Path, data_file: str, listed: str) -> None:
    with pytest.raises(VolumeReadError):
        read_volume(nrrd(tmp_path / "a.nhdr", files=SLICES, data_file=data_file, listed=listed))


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
            {"CompressedData": "True", "data_file": "LIST", "listed": LISTED, "files": SLICES},
            "several files",
        ),
        ({"data_file": "LIST", "listed": "s00.raw\n", "files": SLICES}, "1 files for 8 slices"),
        ({"data_file": "LIST 3D", "listed": "a.raw\n"}, "3D pieces"),
        ({"data_file": "s%02d.raw 0 4000000000 1", "files": SLICES}, "from 0 to 4000000000"),
        ({"data_file": "s%02d.raw 7 0 0", "files": SLICES}, "by 0"),
        ({"data_file": "s%0999999d.raw 0 7 1", "files": SLICES}, "by one number"),
    ],
)
def test_metaimage_header_that_cannot_be_meant_is_refused_with_what_it_says(
    tmp_path: Path, fields: dict[str, str | None], said: str
) -> None:
    with pytest.raises(VolumeReadError, match=said):
        read_volume(metaimage(tmp_path / "a.mha", **fields))


BOMB = {
    "passed over": (nrrd, bz2, {"encoding": "bzip2", "byte_skip": str(10**15)}),
    "at its end": (nrrd, bz2, {"encoding": "bzip2", "byte_skip": "-1"}),
    "behind the voxels": (metaimage, zlib, {"CompressedData": "True"}),
}


@pytest.mark.parametrize("bomb", BOMB)
def test_packed_data_that_never_ends_is_refused(tmp_path: Path, bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes of bzip2 stand for 46 MB of zeros, and pieces may follow each other."""
    for limit in ("_MOST_SKIPPED", "_MOST_BEHIND"):
        monkeypatch.setattr(decoding, limit, 1 << 25)
    write, packer, fields = BOMB[bomb]
    path = write(tmp_path / "a", packer.compress(RAW + bytes(40_000_000)), **fields)
    path = path.rename(path.with_suffix(".nrrd" if write is nrrd else ".mha"))
    with pytest.raises(VolumeReadError, match=r"33,554,432 are passed over|goes on for more than|does not promise"):
        read_volume(path)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("write", [nrrd, metaimage])
@pytest.mark.parametrize(
    "name",
    ["../a.raw", "/etc/passwd", "sub/a.raw", "sub\\a.raw", "..", ".", "C:\\a.raw", "link.raw", "sub", "pipe", "zero"],
)
def test_voxels_are_read_only_from_regular_files_beside_the_header(
    tmp_path: Path, write: Callable[..., Path], name: str, listed: bool
) -> None:
    folder = tmp_path / "scan"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "a.raw", folder / "sub" / "a.raw"):
        place.write_bytes(RAW)
    (folder / "link.raw").symlink_to(tmp_path / "a.raw")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    place = {"data_file": "LIST", "listed": f"{name}\n" * 8} if listed else {"data_file": name}
    with pytest.raises(VolumeReadError):
        read_volume(write(folder / ("a.nhdr" if write is nrrd else "a.mhd"), **place))


def test_name_of_a_data_file_in_no_character_set_is_read_and_shown(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nhdr", data_file="NAME")
    path.write_bytes(path.read_bytes().replace(b"NAME", b"s\xff\x1b[31m.raw"))
    with pytest.raises(VolumeReadError, match="which is missing") as refusal:
        read_volume(path)
    assert "\x1b" not in str(refusal.value)
    str(refusal.value).encode("utf-8")
    with open(os.fsencode(tmp_path) + b"/s\xff\x1b[31m.raw", "wb") as stream:  # noqa: PTH123
        stream.write(RAW)
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)


LINE = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)
NUMBERS = st.lists(st.integers(-(2**70), 2**70) | st.integers(-3, 9)).map(lambda values: " ".join(map(str, values)))
ANY_NRRD = st.sampled_from([*NRRD, "data file", "byte skip", "line skip", "space units", "labels", "thicknesses"])
ANY_METAIMAGE = st.sampled_from([*METAIMAGE, "HeaderSize", "ElementDataFile", "ElementNumberOfChannels", "Position"])


def _clear_error_or_stored_voxels(path: Path, header: str, value: str) -> None:
    path.write_bytes(header.encode("latin-1") + RAW)
    try:
        assert 0 < read_volume(path).array.size <= VOXELS.size
    except MAESegmentError as error:
        said = error.message.replace(value, "")
        assert not re.search(r"literal|convert|sys\.|\bobject\b|NoneType|out of range|damaged: '", said), said


@given(name=ANY_NRRD, value=LINE | NUMBERS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_any_field_of_a_nrrd_gives_a_clear_error_or_stored_voxels(
    tmp_path: Path, name: str, value: str
) -> None:
    header = "NRRD0004\n" + _lines({**NRRD, name: value}, ": ") + "\n"
    _clear_error_or_stored_voxels(tmp_path / "a.nrrd", header, value)


@given(name=ANY_METAIMAGE, value=LINE | NUMBERS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_any_field_of_a_metaimage_gives_a_clear_error_or_stored_voxels(
    tmp_path: Path, name: str, value: str
) -> None:
    fields = {**METAIMAGE, name: value}
    header = _lines({**fields, "ElementDataFile": fields.pop("ElementDataFile", "LOCAL")}, " = ")
    _clear_error_or_stored_voxels(tmp_path / "a.mha", header, value)
