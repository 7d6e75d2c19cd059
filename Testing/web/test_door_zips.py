"""Zips that mean harm, before anything is read of them."""

from __future__ import annotations

import stat
import struct
import zipfile

import pytest

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.web.door.uploads import Budget, unpack


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    return folder


@pytest.fixture
def unpacked(folder):
    """`unpacked(path)`: the files that come out of a zip, in a folder beside it; 10 MB at most."""

    def unpacked(path):
        unpack(path, folder / "zip", Budget(folder, 10 << 20).take)
        return sorted(file for file in (folder / "zip").rglob("*") if file.is_file())

    return unpacked


def zipped(folder, members: dict[str, bytes]):
    path = folder / "scans.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["../../../tmp/evil.nii", "/tmp/evil.nii", "a/../../evil.nii", "..\\evil.nii"])
def test_a_zip_cannot_write_outside_its_upload(folder, unpacked, tmp_path, name):
    (scan,) = unpacked(zipped(folder, {name: b"evil"}))
    assert (scan.name, scan.parents[1]) == ("evil.nii", folder / "zip")
    assert [*tmp_path.rglob("evil.nii")] == [scan]


def test_what_lies_together_in_a_zip_stays_together_and_apart_from_the_rest(unpacked, folder):
    """A slice that cannot be read is then beside those of its series."""
    names = [f"{place}IM{n}" for place in ("", "DICOM/ct/", "DICOM/mr/") for n in range(3)]
    files = unpacked(zipped(folder, {name: name.encode() for name in names}))
    assert sorted(file.read_text() for file in files) == sorted(names)
    for place in {file.parent for file in files}:
        assert len({file.read_text().rpartition("/")[0] for file in place.iterdir()}) == 1


def test_links_in_a_zip_are_left_out(folder, unpacked):
    path = zipped(folder, {"scan.nii": b"data"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.nii")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert [file.name for file in unpacked(path)] == ["scan.nii"]


def test_a_zip_that_unpacks_to_far_too_much_is_refused(folder, unpacked):
    path = zipped(folder, {"zeros.nii": bytes(30 << 20)})
    with pytest.raises(VolumeReadError, match="would unpack to"):
        unpacked(path)


def test_a_zip_whose_directory_lies_about_sizes_is_refused(folder, unpacked):
    path = zipped(folder, {"zeros.nii": bytes(1 << 20)})
    data = path.read_bytes()
    directory = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: directory + 24] + (100).to_bytes(4, "little") + data[directory + 28 :])
    with pytest.raises(VolumeReadError):
        unpacked(path)


def listing(folder, entries: int, *, told: int | None = None, comment: bytes = b""):
    """A zip of one empty file that is listed so many times, and says that there are `told`."""
    name = b"scan.nii"
    told = entries if told is None else told
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    size, at = len(entry) * entries, len(local)
    end_64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, told, told, size, at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at + size, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, len(comment))
    path = folder / "scans.zip"
    path.write_bytes(local + entry * entries + end_64 + locator + end + comment)
    return path


@pytest.mark.parametrize("comment", [b"", b"from the archive"])
@pytest.mark.parametrize("told", [None, 1])
@pytest.mark.parametrize("entries", [60_001, 1_000_000])
def test_a_zip_that_lists_far_too_many_files_is_refused_before_the_list_is_read(
    folder, unpacked, monkeypatch, entries, told, comment
):
    path = listing(folder, entries, told=told, comment=comment)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(VolumeReadError, match="at most 20000 are unpacked"):
        unpacked(path)


def test_so_many_files_as_no_scan_has_are_refused(folder, unpacked):
    with pytest.raises(VolumeReadError, match="would unpack to 20001 files"):
        unpacked(listing(folder, 20_001))


@pytest.mark.parametrize("comment", [b"", b"made by an archive", b"x" * 65_535])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n"])
def test_a_zip_may_have_a_comment_and_something_before_it(folder, unpacked, comment, before):
    path = zipped(folder, {"one/IM1": b"1", "two/IM2": b"2"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment
    path.write_bytes(before + path.read_bytes())
    assert [file.read_bytes() for file in unpacked(path)] == [b"1", b"2"]


def test_what_is_no_zip_is_said_to_be_none(folder, unpacked):
    (folder / "scan.zip").write_bytes(b"not a zip")
    with pytest.raises(VolumeReadError, match="cannot be unpacked"):
        unpacked(folder / "scan.zip")


def test_files_of_the_same_name_in_a_zip_are_all_kept(folder, unpacked):
    assert sorted(file.read_bytes() for file in unpacked(zipped(folder, {"one/IM1": b"1", "two/IM1": b"2"}))) == [
        b"1",
        b"2",
    ]
