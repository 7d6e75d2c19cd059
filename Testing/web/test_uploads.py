"""Uploads before anything is read of them: names, sizes and zips that mean harm."""

from __future__ import annotations

import stat
import zipfile

import pytest

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.web.file_names import uploaded_name
from MAESegmentLib.web.folders import Folders
from MAESegmentLib.web.uploads import Uploads

UPLOAD = "abcdef012345"


@pytest.fixture
def uploads(tmp_path):
    uploads = Uploads(tmp_path / "uploads", 10 << 20)
    uploads.folder(UPLOAD).mkdir(parents=True)
    return uploads


def zipped(uploads, members: dict[str, bytes]):
    path = uploads.folder(UPLOAD) / "scans.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\Windows\\x.nii", "/abs/x.nii", "..", "", ".bashrc", "a\0b"])
def test_names_lose_what_leads_elsewhere(name):
    cleaned = uploaded_name(name)
    assert cleaned
    assert not {"/", "\\", "\0"} & set(cleaned)
    assert not cleaned.startswith(".")


@pytest.mark.parametrize("name", ["../../../tmp/evil.nii", "/tmp/evil.nii", "a/../../evil.nii"])
def test_a_zip_cannot_write_outside_its_upload(uploads, tmp_path, name):
    zipped(uploads, {name: b"evil"})
    scan = uploads.scan(UPLOAD)
    assert scan.resolve().is_relative_to(uploads.folder(UPLOAD).resolve())
    assert scan.name == "evil.nii"
    assert not [path for path in tmp_path.rglob("evil.nii") if not path.is_relative_to(uploads.folder(UPLOAD))]


def test_links_in_a_zip_are_left_out(uploads):
    path = zipped(uploads, {"scan.nii": b"data"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.nii")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert uploads.scan(UPLOAD).name == "scan.nii"


def test_a_zip_that_unpacks_to_far_too_much_is_refused(uploads):
    zipped(uploads, {"zeros.nii": bytes(30 << 20)})
    with pytest.raises(VolumeReadError, match="would unpack to"):
        uploads.scan(UPLOAD)


def test_what_is_no_zip_is_said_to_be_none(uploads):
    (uploads.folder(UPLOAD) / "scan.zip").write_bytes(b"not a zip")
    with pytest.raises(VolumeReadError, match="cannot be unpacked"):
        uploads.scan(UPLOAD)


def test_files_of_the_same_name_in_a_zip_are_all_kept(uploads):
    zipped(uploads, {"one/IM1": b"1", "two/IM1": b"2"})
    folder = uploads.scan(UPLOAD)
    assert sorted(path.read_bytes() for path in folder.rglob("IM1")) == [b"1", b"2"]


def test_an_upload_is_named_by_letters_and_digits_only(uploads):
    with pytest.raises(VolumeReadError):
        uploads.folder("../abcdefgh")


def test_a_link_out_of_a_chosen_folder_is_not_listed(tmp_path):
    chosen, secret = tmp_path / "chosen", tmp_path / "secret.nii"
    chosen.mkdir()
    secret.write_bytes(b"secret")
    (chosen / "open.nii").write_bytes(b"open")
    (chosen / "link.nii").symlink_to(secret)
    folders = Folders([], [str(chosen)])
    assert [scan.title for scan in folders.list()] == ["chosen/open.nii"]


def test_a_scan_that_became_a_link_after_it_was_listed_is_refused(tmp_path):
    chosen, secret = tmp_path / "chosen", tmp_path / "secret.nii"
    chosen.mkdir()
    secret.write_bytes(b"secret")
    (chosen / "open.nii").write_bytes(b"open")
    folders = Folders([], [str(chosen)])
    folders.list()
    (chosen / "open.nii").unlink()
    (chosen / "open.nii").symlink_to(secret)
    with pytest.raises(VolumeReadError, match="outside"):
        folders.get(0)
    with pytest.raises(VolumeReadError):
        folders.get(5)
