"""Attacks on the disk: headers, links, zips and calls that name files which nobody opened to the browser."""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest

from MAESegmentLib.errors import MAESegmentError, VolumeReadError
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.scans import find_scans
from MAESegmentLib.web.door.confined import confined, only_below
from MAESegmentLib.web.door.folders import Folders
from MAESegmentLib.web.panels.data import _read as read_in_session
from Testing import dicom_series
from Testing.dicom_series import SeriesRecipe
from Testing.web.visitor import files_below, until

#: Grey values that are nowhere else.
SECRET = 4711 + np.arange(4 * 4 * 4, dtype="<i2")


def mhd(data_file: str) -> bytes:
    fields = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
    return f"{fields}Offset = 0 0 0\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = {data_file}\n".encode()


def nrrd(data_file: str) -> bytes:
    fields = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\nendian: little\n"
    directions = "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n"
    return f"{fields}{directions}data file: {data_file}\n\n".encode()


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> Path:
    """A file of this account that a browser has no business with; its slices beside it."""
    path = tmp_path_factory.mktemp("private") / "secret1.raw"
    path.write_bytes(SECRET.tobytes())
    for number in range(4):
        (path.parent / f"slice{number}.raw").write_bytes(SECRET[16 * number : 16 * number + 16].tobytes())
    return path


@pytest.fixture
def outside(tmp_path) -> Path:
    """A DICOM series that nobody opened to the browser."""
    return SeriesRecipe(np.arange(300, dtype=np.int16).reshape(5, 6, 10)).write(tmp_path / "outside")


def away(path: Path) -> str:
    """The way to a file from anywhere: up to the root, then down."""
    return "../" * 40 + str(path).lstrip("/")


HEADERS = {
    "MetaImage, absolute": lambda secret: ("x.mhd", mhd(str(secret))),
    "MetaImage, upwards": lambda secret: ("x.mhd", mhd(away(secret))),
    "MetaImage, list": lambda secret: ("x.mhd", mhd("LIST") + b"".join(_lines(secret))),
    "MetaImage, pattern": lambda secret: ("x.mhd", mhd(f"{secret.parent}/slice%d.raw 0 3 1")),
    "MetaImage, in one file": lambda secret: ("x.mha", mhd(str(secret))),
    "MetaImage, backslashes": lambda secret: ("x.mhd", mhd(str(secret).replace("/", "\\"))),
    "NRRD, absolute": lambda secret: ("x.nhdr", nrrd(str(secret))),
    "NRRD, upwards": lambda secret: ("x.nhdr", nrrd(away(secret))),
    "NRRD, list": lambda secret: ("x.nhdr", nrrd("LIST").rstrip() + b"\n" + b"".join(_lines(secret))),
    "NRRD, pattern": lambda secret: ("x.nhdr", nrrd(f"{secret.parent}/slice%d.raw 0 3 1 2")),
    "NRRD, in one file": lambda secret: ("x.nrrd", nrrd(str(secret))),
    "NRRD, a home": lambda _secret: ("x.nhdr", nrrd("~/.bashrc")),
    "NRRD, a device": lambda _secret: ("x.nhdr", nrrd("/dev/urandom")),
    "MetaImage, a process": lambda _secret: ("x.mhd", mhd("/proc/self/environ")),
}


def _lines(secret: Path):
    return (f"{secret.parent}/slice{number}.raw\n".encode() for number in range(4))


# Through the door -----------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(insider, page):
    """`opened(files)`: what the page says and shows after these files were uploaded."""

    def opened(files: Mapping[str, bytes]):
        upload = secrets.token_hex(8)
        page.set(notice="")
        for number, (name, data) in enumerate(files.items()):
            assert insider.upload(upload, number, name, data)[0] == 200
        page.trigger("uploaded", upload, next(iter(files)))
        return page.state()

    yield opened
    while page.state()["data_scans"]:
        page.trigger(_trigger(page, "close-scan"))


def zipped(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["MetaImage, absolute", "MetaImage, list", "NRRD, upwards", "NRRD, pattern"])
def test_a_header_does_not_make_the_server_read_another_file(opened, secret, kind):
    name, data = HEADERS[kind](secret)
    for files in ({name: data}, {"x.zip": zipped({f"scans/{name}": data})}):
        state = opened(files)
        assert state["data_scans"] == []
        assert state["notice_kind"] == "error"


def test_header_and_data_that_come_together_are_read(opened):
    for name, header in (("x.mhd", mhd("x.raw")), ("x.nhdr", nrrd("x.raw"))):
        for files in (
            {name: header, "x.raw": SECRET.tobytes()},
            {"x.zip": zipped({name: header, "x.raw": SECRET.tobytes()})},
        ):
            state = opened(files)
            assert state["data_range"] == [4711, 4774], state["notice"]


def test_of_several_series_the_one_that_is_meant_is_opened(opened, page, app, tmp_path):
    """Loose in one zip, one of them short of a slice."""
    members = {}
    for name, slices, left_out in (("Head", 8, None), ("Neck", 6, None), ("Chest", 5, 2)):
        recipe = dicom_series.head(slices, description=name)
        for file in recipe.write(tmp_path / name, lambda k, _dataset, out=left_out: k != out).iterdir():
            members[f"study/{name}-{file.name}"] = file.read_bytes()
    state = opened({"study.zip": zipped(members)})
    assert state["data_scans"] == []
    assert "3 series" in state["data_choosing"]["text"]
    assert re.search(r"CT Chest: .*missing", state["data_choosing"]["text"])
    keys = {option["text"]: option["key"] for option in state["data_choosing"]["options"]}
    assert list(keys) == ["CT Head, 8 files", "CT Neck, 6 files", "Cancel"]
    card = page.state()["trame__template_main"].partition('id="choosing"')[2]
    answer = re.search(r"trigger__\d+", card).group()
    page.trigger(answer, keys["CT Neck, 6 files"])
    until(lambda: page.state()["data_scans"], "the series")
    state = page.state()
    assert state["data_choosing"] is None
    assert [one["title"] for one in state["data_scans"]] == ["study CT Neck"]
    assert "5 \u00d7 6 \u00d7 6 voxels" in state["data_info"]

    opened({"study.zip": zipped(members)})
    kept = len(files_below(app.folders()[-1], "Head-IM0000.dcm"))
    page.trigger(answer, keys["Cancel"])
    until(lambda: len(files_below(app.folders()[-1], "Head-IM0000.dcm")) == kept - 1, "the upload is gone")
    assert len(page.state()["data_scans"]) == 1


def test_what_was_said_goes_with_the_next_act(opened, page):
    assert "a.stl" in opened({"a.stl": b"solid a"})["notice"]
    page.trigger(_trigger(page, "close-scan"))
    until(lambda: "a.stl" not in page.state()["notice"], "it is gone")


def test_an_upload_without_a_scan_is_called_by_its_own_name(opened):
    state = opened({"meshes.zip": zipped({"a.stl": b"solid a", "b.stl": b"solid b"})})
    assert state["data_scans"] == []
    assert "meshes.zip contains no DICOM images" in state["notice"]


def test_calls_choose_from_lists_and_not_by_path(page, secret):
    """The names of the calls stand in the page that everybody gets."""
    template = page.state()["trame__template_main"]
    calls = set(re.findall(r"trigger\('(trigger__\d+)', \[(?:number|row\.name|row\.id)\]", template))
    assert len(calls) >= 8
    for call in sorted(calls):
        for place in (str(secret), away(secret), str(secret.parent), "../..", -1, "0x0", None, [str(secret)]):
            page.set(notice="")
            page.trigger(call, place)
            page.trigger(call, place)  # some ask twice
            state = page.state()
            assert state["data_scans"] == []
            assert state["export_url"] == state["improve_url"] == ""
            assert str(secret.parent) not in state["notice"].replace(str(place), "")
    assert secret.read_bytes() == SECRET.tobytes()


def test_nothing_that_a_page_sets_becomes_a_path(page, insider, secret):
    before = page.state()
    hostile = {
        key: str(secret)
        for key in before
        if key.startswith(("data_", "segment_", "improve_", "export_", "tab", "layout"))
    }
    page.set(**hostile)
    for call in ("export-zip", "export-nii-gz", "add-case", "segment-button", "fine-tune", "add-box"):
        page.trigger(_trigger(page, call), 0)
    if url := page.state()["export_url"].lstrip("/"):  # Export clears what the page set
        assert insider.ask(f"/{url}")[0] == 404
    assert secret.name not in insider.ask(f"/download{secret}")[1]
    page.set(**{key: before[key] for key in hostile})


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/maesegment/..%2f..%2f..%2fpyproject.toml",
        "/maesegment//etc/passwd",
        "/maesegment/%2fetc%2fpasswd",
        "/assets/..%2f..%2f..%2f__init__.py",
        "/download/..%2f..%2flock",
        "/upload/..%2f../0",
        "/__trame_client_external_scripts/..%2f__init__.py",
        "/etc/passwd%00.js",
        "//etc/passwd",
        "/../session.log",
        "/open.html",
        "/lock",
    ],
)
def test_no_address_leads_to_the_disk(insider, path):
    status, text = insider.ask(path)
    assert status in (403, 404, 405)
    assert "root:" not in text


def _trigger(page, element: str) -> str:
    """The name of what a button does."""
    template = page.state()["trame__template_main"]
    tag = re.search(rf'<[^<>]*id="{element}"[^<>]*>', template, re.DOTALL) or pytest.fail(f"no {element}")
    found = re.search(r"trigger__\d+", tag.group())
    assert found
    return found.group()


# The folders that were named ------------------------------------------------------------------------------------------


@pytest.fixture
def chosen(tmp_path):
    folder = tmp_path / "chosen"
    folder.mkdir()
    return folder


def read_all(chosen: Path) -> list[str]:
    """Read everything that the browser would list in a folder; the names of what could be read."""
    folders, found = Folders([], [str(chosen)]), []
    for number in range(len(folders.list())):
        try:
            scan = folders.get(number)
            with confined(scan.path.name, scan.root):
                read_volume(scan.path)
            found.append(scan.title)
        except MAESegmentError:
            pass
    return found


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_in_a_named_folder_leads_nowhere_else(chosen, secret, kind):
    name, data = HEADERS[kind](secret)
    (chosen / name).write_bytes(data)
    assert read_all(chosen) == []


def test_links_in_a_named_folder_lead_nowhere_else(chosen, secret, outside):
    (chosen / "x.mhd").write_bytes(mhd("linked.raw"))
    (chosen / "y.nhdr").write_bytes(nrrd("below/secret1.raw"))
    (chosen / "linked.raw").symlink_to(secret)
    (chosen / "below").symlink_to(secret.parent)
    (chosen / "whole series").symlink_to(outside)
    shutil.copytree(outside, chosen / "one slice")
    (chosen / "slices").mkdir()
    for number, path in enumerate(sorted(outside.iterdir())):
        (chosen / "slices" / path.name).symlink_to(path)
        if number == 2:
            (chosen / "one slice" / path.name).unlink()
            (chosen / "one slice" / path.name).symlink_to(path)
    assert read_all(chosen) == []
    # The same, with nothing that leads outside.
    shutil.copy(secret, chosen / "own.raw")
    (chosen / "z.mhd").write_bytes(mhd("own.raw"))
    (chosen / "zz.mhd").symlink_to(chosen / "z.mhd")
    shutil.copytree(outside, chosen / "series")
    assert sorted(read_all(chosen)) == ["chosen/series", "chosen/z.mhd"]


def test_a_scan_that_became_a_link_after_it_was_listed_is_refused(chosen, secret):
    (chosen / "open.nii").write_bytes(b"open")
    folders = Folders([], [str(chosen)])
    assert [scan.title for scan in folders.list()] == ["chosen/open.nii"]
    (chosen / "open.nii").unlink()
    (chosen / "open.nii").symlink_to(secret)
    for number in (0, 5):
        with pytest.raises(VolumeReadError):
            folders.get(number)


def test_links_in_circles_end(chosen):
    for number in range(6):
        (chosen / f"part{number}").mkdir()
        (chosen / f"part{number}/back").symlink_to(chosen)
    (chosen / "z.mhd").write_bytes(mhd("own.raw"))
    (chosen / "own.raw").write_bytes(SECRET.tobytes())
    assert read_all(chosen) == ["chosen/z.mhd"]


def test_a_list_of_scans_is_made_without_opening_files_elsewhere(chosen, outside, monkeypatch):
    shutil.copy(sorted(outside.iterdir())[0], chosen / "IM1")
    (chosen / "IM0").symlink_to(sorted(outside.iterdir())[0])
    (chosen / "series").symlink_to(outside)
    refused = []

    @contextlib.contextmanager
    def noted(*roots):
        with only_below(*roots) as elsewhere:
            yield elsewhere
        refused.extend(map(Path, elsewhere))

    monkeypatch.setattr("MAESegmentLib.web.door.folders.only_below", noted)
    assert [scan.path for scan in Folders([], [str(chosen)]).list()] == [chosen]
    assert sorted(outside.iterdir())[0] in refused


def test_pipes_are_not_opened(chosen):
    os.mkfifo(chosen / "pipe.nii")
    os.mkfifo(chosen / "pipe.raw")
    (chosen / "x.mhd").write_bytes(mhd("pipe.raw"))
    assert read_all(chosen) == []


def test_what_a_dicomdir_refers_to_is_not_read(opened, outside):
    listing = pydicom.dcmread(sorted(outside.iterdir())[0])
    del listing.PixelData
    listing.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    record = pydicom.Dataset()
    record.DirectoryRecordType = "IMAGE"
    record.ReferencedFileID = [*[".."] * 20, *outside.parts[1:], sorted(outside.iterdir())[0].name]
    listing.DirectoryRecordSequence = [record]
    stream = io.BytesIO()
    listing.save_as(stream)
    state = opened({"DICOMDIR": stream.getvalue()})
    assert state["data_scans"] == []
    assert state["notice_kind"] == "error"


# The mechanism --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda path: path.read_bytes(),
        lambda path: np.fromfile(path, np.uint8),
        lambda path: np.memmap(path, np.uint8, "r"),
        lambda path: os.close(os.open(path, os.O_RDONLY)),
        lambda path: open(os.path.relpath(path), "rb").close(),  # noqa: PTH123
        lambda path: open(os.fsencode(path), "rb").close(),  # noqa: PTH123
    ],
)
def test_files_elsewhere_are_not_opened_and_it_is_said_even_if_a_reader_goes_on(secret, tmp_path, read):
    (tmp_path / "own").write_bytes(SECRET.tobytes())
    with confined("x", tmp_path):
        read(tmp_path / "own")

    def read_on() -> None:
        with confined("x", tmp_path), pytest.raises(PermissionError):
            read(secret)

    with pytest.raises(VolumeReadError, match="outside its own folder"):
        read_on()
    read(secret)  # outside of it all is as ever


def test_a_folder_whose_name_begins_like_the_own_is_elsewhere(tmp_path):
    for name in ("scan", "scans"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(b"x")
    with pytest.raises(VolumeReadError), confined("x", tmp_path / "scan"):
        (tmp_path / "scans/x").read_bytes()


def test_modules_that_are_needed_first_while_reading_are_found(tmp_path):
    from Testing import children

    def read_first() -> None:
        with confined("x", tmp_path):
            import wave  # noqa: F401
            import xml.dom.pulldom  # noqa: F401

            import pydicom.pixels.decoders.rle  # noqa: F401

    children.run(read_first)


def outcome(read, path: Path, *places: Path):
    """Size and voxels, or what the refusal says."""
    try:
        array = read(path, *places).array
    except MAESegmentError as error:
        return error.message
    return array.shape, array.tobytes()


COMPRESSED = sorted(
    path
    for path in (Path(pydicom.__file__).parent / "data/test_files").glob("*.dcm")
    if path.stat().st_size < 300_000 and any(mark in path.name for mark in ("JPEG", "J2K", "JPG", "RLE", "693", "emri"))
)


@pytest.mark.parametrize("kind", ["compressed", "volumes", "series", "went wrong"])
def test_a_page_reads_and_refuses_what_the_library_does(kind, request, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # as in a session; GDCM is given a file of its own
    if kind == "compressed":
        scans = COMPRESSED
    elif kind == "went wrong":
        found = find_scans([request.getfixturevalue("shared_cases")])
        scans = [scan for scan in found if "voxel_size" not in str(scan)]
    elif kind == "volumes":
        scans = [*(request.getfixturevalue("real_data") / "geometry/volumes").iterdir()]
    else:
        scans = [request.getfixturevalue("real_data") / "hippocampus_mr/dicom/Study1"]
    assert len(scans) > 5 or kind == "series"
    for scan in scans:
        place = scan if scan.is_dir() else scan.parent
        assert outcome(read_in_session, scan, place) == outcome(read_volume, scan), scan
