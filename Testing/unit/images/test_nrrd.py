"""A NRRD gives the voxels and places that ITK and 3D Slicer give it, in every form, or one clear error."""

from __future__ import annotations

import bz2
import gzip
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.errors import GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.images import read_volume

VOXELS = np.random.default_rng(0).integers(1, 9999, (6, 7, 8)).astype("<i2")
RAW = VOXELS.tobytes(order="F")
SLICES = {f"s{k:02d}.raw": VOXELS[:, :, k].tobytes(order="F") for k in range(8)}
HALVES = {f"h{k}.raw": VOXELS[:, :, 4 * k : 4 * k + 4].tobytes(order="F") for k in range(2)}
FIELDS = {
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


def nrrd(
    path: Path, data: bytes = RAW, files: Mapping[str, bytes] | None = None, listed: str = "", **fields: str | None
) -> Path:
    """A file with `FIELDS`, changed by `fields` ("data_file" is put last), and the `files` beside it."""
    changes = {name.replace("_", " "): value for name, value in fields.items()}
    last = changes.pop("data file", None)
    texts = {name: value for name, value in {**FIELDS, **changes}.items() if value is not None}
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in texts.items())
    for name, content in (files or {}).items():
        (path.parent / name).write_bytes(content)
    if last is not None:
        path.write_text(f"{header}data file: {last}\n{listed}", "utf-8")
    else:
        path.write_bytes(header.encode() + b"\n" + data)
    return path


def agrees_with_itk(path: Path) -> None:
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array[0], VOXELS)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, VOXELS)
    for index in [(0, 0, 0), (5, 0, 3), (1, 6, 7)]:
        lps = np.asarray(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.ijk_to_ras @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-9)


# --- where the voxels are ---------------------------------------------------------------------------------------------

PLACES = {
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
    "list": {"data_file": "LIST", "listed": "\n".join(SLICES) + "\n", "files": SLICES},
    "list of slices": {"data_file": "LIST 2", "listed": "\n".join(SLICES) + "\n", "files": SLICES},
    "list of slabs": {"data_file": "LIST 3", "listed": "h0.raw\nh1.raw\n", "files": HALVES},
    "list, packed": {
        "data_file": "LIST",
        "listed": "\n".join(SLICES) + "\n",
        "encoding": "gzip",
        "files": {name: gzip.compress(data) for name, data in SLICES.items()},
    },
    "list, skipping": {
        "data_file": "LIST",
        "listed": "\n".join(SLICES) + "\n",
        "line_skip": "1",
        "byte_skip": "2",
        "files": {name: b"x\nyz" + data for name, data in SLICES.items()},
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_detached_voxels_are_found_as_by_itk(tmp_path: Path, place: str) -> None:
    agrees_with_itk(nrrd(tmp_path / "a.nhdr", **PLACES[place]))


FORMS = {
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
    "big-endian": {"data": VOXELS.astype(">i2").tobytes(order="F"), "endian": "big"},
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
}


@pytest.mark.parametrize("form", FORMS)
def test_attached_voxels_are_read_as_by_itk(tmp_path: Path, form: str) -> None:
    agrees_with_itk(nrrd(tmp_path / "a.nrrd", **FORMS[form]))


@pytest.mark.parametrize("skip", [10**15, -1])
def test_packed_data_that_never_ends_is_not_passed_over(tmp_path: Path, skip: int) -> None:
    """2 kB of bzip2 stand for 46 MB of zeros, and pieces may follow each other."""
    piece = bz2.compress(bytes(40_000_000))
    path = nrrd(tmp_path / "a.nrrd", piece * 40, encoding="bzip2", **{"byte skip": str(skip)})
    with pytest.raises(VolumeReadError, match=r"1,073,741,824|goes on for more than"):
        read_volume(path)


def test_bzip2_is_read_although_itk_cannot(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", bz2.compress(RAW), encoding="bzip2")
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)


def test_names_of_fields_are_the_same_in_capitals(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"space directions", b"Space Directions").replace(b"type", b"TYPE"))
    agrees_with_itk(path)


@pytest.mark.parametrize(
    "directions",
    ["(0, 2, 0) (0, 0, -2) (3, 0, 0)", "( 0,2,0 ) ( 0 , 0 , -2 )  ( 3,0,0 )", "(0,\t2,0) (0,0,-2) (3,0,0)"],
)
def test_blanks_within_vectors_are_allowed_as_by_itk(tmp_path: Path, directions: str) -> None:
    agrees_with_itk(nrrd(tmp_path / "a.nrrd", space_directions=directions, space_origin="( 1, 2 , 3)"))


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
def test_header_that_cannot_be_meant_is_refused_with_what_it_says(
    tmp_path: Path, fields: dict[str, str | None], said: str
) -> None:
    with pytest.raises((VolumeReadError, GeometryError), match=said):
        read_volume(nrrd(tmp_path / "a.nrrd", **fields))


@pytest.mark.parametrize("sizes", ["0 7 8", "-6 7 8"])
def test_size_that_is_no_size_is_refused(tmp_path: Path, sizes: str) -> None:
    with pytest.raises(GeometryError, match="empty"):
        read_volume(nrrd(tmp_path / "a.nrrd", sizes=sizes))


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


BAD_NAMES = ["../one.raw", "/etc/passwd", "sub/one.raw", "sub\\one.raw", "..", ".", "C:\\one.raw", "link.raw", "sub"]


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_voxels_are_read_only_from_regular_files_beside_the_header(tmp_path: Path, name: str, listed: bool) -> None:
    folder = tmp_path / "scan"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "one.raw", folder / "sub" / "one.raw"):
        place.write_bytes(RAW)
    (folder / "link.raw").symlink_to(tmp_path / "one.raw")
    place = {"data_file": "LIST 3", "listed": name} if listed else {"data_file": name}
    with pytest.raises(VolumeReadError):
        read_volume(nrrd(folder / "a.nhdr", **place))


@pytest.mark.parametrize("name", ["pipe", "null"])
def test_voxels_are_never_read_from_a_pipe_or_a_device(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/zero")
    with pytest.raises(VolumeReadError):
        read_volume(nrrd(tmp_path / "a.nhdr", data_file=name))


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


@given(
    name=st.sampled_from(
        [*FIELDS, "data file", "byte skip", "line skip", "space units", "kinds", "labels", "thicknesses"]
    ),
    value=st.one_of(
        LINE,
        st.integers(-(2**70), 2**70).map(str),
        st.lists(st.integers(-3, 2**40)).map(lambda v: " ".join(map(str, v))),
    ),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_any_field_gives_a_clear_error_or_the_same_number_of_voxels(
    tmp_path: Path, name: str, value: str
) -> None:
    header = "NRRD0004\n" + "".join(f"{n}: {value if n == name else v}\n" for n, v in FIELDS.items())
    header += "" if name in FIELDS else f"{name}: {value}\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode("latin-1") + b"\n" + RAW)
    try:
        assert read_volume(tmp_path / "a.nrrd").array.size == VOXELS.size
    except MAESegmentError as error:
        said = error.message.replace(value, "")
        assert not re.search(r"literal|convert|sys\.|\bobject\b|NoneType|out of range|damaged: '", said), said
