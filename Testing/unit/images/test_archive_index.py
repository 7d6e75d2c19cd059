"""An archive's scans are found once, remembered, and found again when something was added."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images.archive import ArchivedScan, ArchiveIndex
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.images.scans import find_scans
from MAESegmentLib.images.writing import write_volume
from Testing import dicom_series
from Testing.phantoms import PhantomFactory


def found(tmp_path: Path, *sources: Path, **options) -> list[ArchivedScan]:
    return ArchiveIndex(tmp_path / "index.jsonl").scans(sources, **options)


def test_headers_are_read_once_and_again_when_a_file_is_added(tmp_path: Path) -> None:
    folder = dicom_series.head(6).write(tmp_path / "in" / "ct")
    first = found(tmp_path, tmp_path / "in")
    for file in folder.iterdir():
        file.write_bytes(b"no header any more")  # which nobody notices who does not look
    assert found(tmp_path, tmp_path / "in") == first
    dicom_series.head(5).write(tmp_path / "more")
    for file in (tmp_path / "more").iterdir():
        file.rename(folder / f"new_{file.name}")
    (scan,) = (scan for scan in found(tmp_path, tmp_path / "in") if scan.series_uid)
    assert len(scan.files) == 11  # the new series, and six files that may belong to it
    with pytest.raises(VolumeReadError, match="6 DICOM file"):
        scan.read()


def test_a_search_that_was_stopped_goes_on(tmp_path: Path, phantom: PhantomFactory) -> None:
    for name in "abc":
        (tmp_path / "in" / name).mkdir(parents=True)
        write_volume(tmp_path / "in" / name / "head.nii", phantom().volume)

    def stop(number: int, _folder: Path) -> None:
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(tmp_path, tmp_path / "in", on_folder=stop)
    index = tmp_path / "index.jsonl"
    noted = index.read_text()
    assert noted.count("\n") == 2
    index.write_text(noted[:-20])  # as if cut off while it was written
    for _ in range(2):
        assert [scan.name for scan in found(tmp_path, tmp_path / "in")] == ["a/head", "b/head", "c/head"]
    assert index.read_text().count('"folder"') == 5  # the one that was cut off, noted again


def test_each_scan_is_found_once_whatever_leads_to_it(tmp_path: Path, phantom: PhantomFactory) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    file = write_volume(source / "deep" / "head.mha.nii.gz", phantom().volume)
    (source / "deep" / "up").symlink_to(source, target_is_directory=True)
    assert [scan.path for scan in found(tmp_path, source, source / "deep", file)] == [file.resolve()]


def test_what_is_no_scan_is_left_out(tmp_path: Path, phantom: PhantomFactory) -> None:
    source = tmp_path / "in"
    for name in ("scan.nii.gz", "labels/scan.nii.gz", ".hidden/scan.nii.gz", "out/scan.nii.gz"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(source / name, phantom().volume)
    for name in ("notes.txt", "scan.seg.nrrd", "DICOMDIR", "README"):
        (source / name).write_bytes(b"not an image")
    assert [scan.name for scan in found(tmp_path, source, leave_out=[source / "out"])] == ["scan"]


def test_a_folder_of_damaged_slices_is_a_scan_that_cannot_be_read(tmp_path: Path) -> None:
    folder = dicom_series.head(5).write(tmp_path / "in" / "ct")
    for file in folder.iterdir():
        file.write_bytes(b"no header")
    (scan,) = found(tmp_path, tmp_path / "in")
    assert scan.name == "ct"
    with pytest.raises(VolumeReadError, match="5 DICOM file"):
        scan.read()


def test_a_scans_stamp_changes_with_its_files(tmp_path: Path, phantom: PhantomFactory) -> None:
    (tmp_path / "in").mkdir()
    file = write_volume(tmp_path / "in" / "head.nii", phantom().volume)
    (scan,) = found(tmp_path, tmp_path / "in")
    before = scan.stamp()
    assert scan.stamp() == before
    file.write_bytes(file.read_bytes() + b"x")
    assert scan.stamp() not in (before, "")
    file.unlink()
    assert scan.stamp() == ""


def test_what_cannot_be_opened_is_a_scan_that_says_so(tmp_path: Path, phantom: PhantomFactory) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_volume(source / "good.nii.gz", phantom().volume)
    os.mkfifo(source / "pipe.nii.gz")
    (source / "gone.nii").symlink_to(tmp_path / "nowhere")
    (source / "endless.nrrd").symlink_to("/dev/zero")
    for name in ("pipes", "links"):
        (source / name).mkdir()
    os.mkfifo(source / "pipes" / "a.dcm")
    (source / "links" / "b.dcm").symlink_to(tmp_path / "nowhere")
    scans = {scan.path.relative_to(source).as_posix(): scan for scan in found(tmp_path, source)}
    scans["good.nii.gz"].read()
    reasons = {
        "pipe.nii.gz": "pipe.nii.gz is a pipe or a device",
        "gone.nii": "gone.nii is a link to .*nowhere, which is not there",
        "endless.nrrd": "endless.nrrd is a pipe or a device",
        "pipes/a.dcm": "a.dcm is a pipe or a device",
        "links": "b.dcm is a link to .*nowhere, which is not there",
    }
    assert set(scans) == {"good.nii.gz", *reasons}
    assert {path.name for path in find_scans([source])} == set(scans) - {"pipes/a.dcm"}
    for name, reason in reasons.items():
        with pytest.raises(VolumeReadError, match=reason):
            scans[name].read()


def test_slice_that_is_a_link_to_nothing_is_not_passed_over(tmp_path: Path) -> None:
    folder = dicom_series.head(6).write(tmp_path / "in" / "ct")
    last = sorted(folder.iterdir())[-1]
    last.unlink()
    last.symlink_to(tmp_path / "nowhere")
    with pytest.raises(VolumeReadError, match="1 DICOM file"):
        read_volume(folder)
    (scan,) = found(tmp_path, tmp_path / "in")
    with pytest.raises(VolumeReadError, match=r"is a link to .*nowhere, which is not there"):
        scan.read()
