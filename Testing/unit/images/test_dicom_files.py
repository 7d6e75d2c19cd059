"""Every door knows DICOM by its content, whatever a file is called, and takes no more memory than a file is worth."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images import list_series, read_volume
from MAESegmentLib.images.archive import ArchiveIndex
from MAESegmentLib.images.formats.dicom import inventory
from MAESegmentLib.images.scans import find_scans, has_dicom_content
from Testing.dicom_series import edit, head

ENDINGS = (".dcm", ".dicom", ".IMA", ".img", ".CT", ".1.2.840.113619.a", ".000123", "")


def _renamed(folder: Path, ending: str) -> Path:
    for file in list(folder.iterdir()):
        file.rename(file.with_name(file.stem + ending))
    return folder


def _without_preamble(folder: Path, *, keep_meta: bool, implicit: bool) -> Path:
    """What old tools write: the data set alone, or after its meta information."""
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, implicit
        write_dataset(stream, Dataset(dataset))
        meta = b""
        if keep_meta:
            content = file.read_bytes()
            length = dataset.file_meta.FileMetaInformationGroupLength
            meta = content[132 : 132 + 12 + length]
        file.write_bytes(meta + stream.getvalue())
    return folder


def _doors(folder: Path, index: Path) -> list[int]:
    """Slices that each of the doors finds in `folder`."""
    (scan,) = ArchiveIndex(index).scans([folder])
    (found,) = find_scans([folder.parent])
    file = next(iter(sorted(folder.iterdir())))
    volumes = (read_volume(folder), read_volume(file), scan.read(), read_volume(found))
    return [*(volume.array.shape[3] for volume in volumes), *(info.n_files for info in list_series(folder))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_door_finds_dicom_of_any_ending(tmp_path: Path, ending: str) -> None:
    folder = _renamed(head().write(tmp_path / "in" / "series"), ending)
    (folder / "notes.txt").write_text("not DICOM")
    assert _doors(folder, tmp_path / "index.jsonl") == [8] * 5


@pytest.mark.parametrize("ending", [".dcm", ".img", ""])
@pytest.mark.parametrize(("keep_meta", "implicit"), [(True, False), (False, False), (False, True)])
def test_every_door_finds_dicom_without_preamble(tmp_path: Path, ending: str, keep_meta: bool, implicit: bool) -> None:
    folder = _renamed(head().write(tmp_path / "in" / "series"), ending)
    _without_preamble(folder, keep_meta=keep_meta, implicit=implicit)
    assert _doors(folder, tmp_path / "index.jsonl") == [8] * 5


@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"text of any kind" * 20, b"\x08\x00\x00\x00" + b"\xff" * 200, b"\0" * 200]
)
def test_other_content_is_not_taken_for_dicom(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert not has_dicom_content(tmp_path / "file")


def test_dicom_folder_beside_an_image_file_is_found_too(tmp_path: Path) -> None:
    folder = _renamed(head().write(tmp_path / "in"), ".img")
    (folder / "scan.nii.gz").write_bytes(b"")
    assert find_scans([tmp_path]) == [folder / "scan.nii.gz", folder]


def test_pipes_and_devices_are_no_slices(tmp_path: Path) -> None:
    folder = head().write(tmp_path / "in" / "series.dcm")
    os.mkfifo(folder / "pipe.dcm")
    os.mkfifo(folder / "pipe")
    os.mkfifo(tmp_path / "in" / "pipe.nii.gz")
    (folder / "zero.dcm").symlink_to("/dev/zero")
    (folder / "deeper.dcm").mkdir()
    assert read_volume(folder).array.shape == (1, 5, 6, 8)
    scans = ArchiveIndex(tmp_path / "index.jsonl").scans([tmp_path / "in"])
    assert [scan.path.name for scan in scans] == ["pipe.nii.gz", "series.dcm", "pipe.dcm", "zero.dcm"]
    assert [len(scan.files) for scan in scans] == [0, 8, 0, 0]
    assert find_scans([tmp_path / "in"]) == [tmp_path / "in" / "pipe.nii.gz", folder]  # who reads it says what it is
    for place in (folder / "pipe.dcm", folder / "pipe", folder / "zero.dcm", tmp_path / "in" / "pipe.nii.gz"):
        with pytest.raises(VolumeReadError, match="pipe or a device"):
            read_volume(place)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit(Rows=65_535, Columns=65_535), "65535 x 65535 x 8 = 34,358,689,800 voxels"),
        (edit(Rows=65_535), "promises 655,350 bytes"),
        (edit(lambda k: k == 2, NumberOfFrames=2**31 - 1), "do not say where they lie"),
    ],
)
def test_sizes_that_a_header_makes_up_are_refused_with_the_figure(
    tmp_path: Path, change: Callable[[int, Dataset], None], said: str
) -> None:
    folder = head().write(tmp_path / "in", change)
    with pytest.raises(VolumeReadError, match=said):
        read_volume(folder)
    (info,) = list_series(folder)
    assert said in info.problem


def test_deflated_data_set_is_not_unpacked_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("MAESegmentLib.images.formats.dicom.headers._MOST_INFLATED", 4 << 20)
    folder = head().write(tmp_path / "in", edit(TransferSyntaxUID=DeflatedExplicitVRLittleEndian))
    assert read_volume(folder).array.shape == (1, 5, 6, 8)
    file = folder / "IM0003.dcm"
    content = file.read_bytes()
    length = pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    file.write_bytes(
        content[: 132 + 12 + length] + packer.compress(b"\x08\x00\x05\x00CS" + b"\0" * (5 << 20)) + packer.flush()
    )
    with pytest.raises(VolumeReadError, match="holds more than 4,194,304 bytes"):
        read_volume(folder)


def test_element_longer_than_its_file_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    folder = head().write(tmp_path / "in")
    content = bytearray((folder / "IM0001.dcm").read_bytes())
    place = content.index(b"\x20\x00\x0d\x00UI")  # StudyInstanceUID
    content[place + 4 : place + 6] = b"UN"
    content[place + 8 : place + 12] = (0x7FFFFFFE).to_bytes(4, "little")
    (folder / "IM0001.dcm").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeReadError):
            read_volume(folder)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_implicit_series_equals_the_explicit(tmp_path: Path) -> None:
    recipe = head()
    folder = recipe.write(tmp_path / "s", edit(TransferSyntaxUID=ImplicitVRLittleEndian))
    assert (read_volume(folder).array[0] == recipe.stored.T - 1024.0).all()


def test_every_header_is_read_once_however_many_series_lie_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = inventory.read_instance
    monkeypatch.setattr(inventory, "read_instance", lambda path: (read.append(path), original(path))[1])
    for number in range(6):
        head(4).write(tmp_path / "in" / str(number))
    (tmp_path / "in" / "3" / "broken.dcm").write_bytes(b"no header")
    infos = list_series(tmp_path / "in")
    assert [bool(info.problem) for info in infos].count(True) == 1
    assert len(read) == len(set(read)) == 25
    read.clear()
    with pytest.raises(VolumeReadError, match="6 series"):
        read_volume(tmp_path / "in")
    assert len(read) == 25


def _kept(length: int, *, filled: bool) -> Callable[[Path], None]:
    def cut(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[:length] + (b"\0" * (len(content) - length) if filled else b""))

    return cut


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("ending", [".dcm", ".img", ""])
@pytest.mark.parametrize(
    "spoil",
    [
        *(_kept(length, filled=filled) for length in (132, 140, 200, 330, 512, 600) for filled in (False, True)),
        _emptied,
        _dangling,
        _pipe,
    ],
)
def test_slice_cut_off_in_its_header_is_not_left_out(
    tmp_path: Path, spoil: Callable[[Path], None], ending: str
) -> None:
    folder = _renamed(head().write(tmp_path / "in"), ending)
    last = max(folder.iterdir(), key=lambda file: pydicom.dcmread(file).InstanceNumber)
    spoil(last)
    with pytest.raises(VolumeReadError, match=last.name):
        read_volume(folder)
    (info,) = list_series(folder)
    assert last.name in info.problem


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        ("1.2.840.10008.1.3.10", ""),  # directory
        ("1.2.840.10008.5.1.4.1.1.88.11", "SR"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "PR"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"),
        ("1.2.840.10008.5.1.4.1.1.66", "MR"),  # raw data
        ("1.3.12.2.1107.5.9.1", "MR"),  # private, no image
    ],
)
def test_objects_that_are_no_images_are_passed_over(tmp_path: Path, sop_class: str, modality: str) -> None:
    folder = head().write(tmp_path / "in")
    other = pydicom.dcmread(folder / "IM0003.dcm")
    kept = Dataset()
    kept.file_meta, kept.preamble = other.file_meta, b"\0" * 128
    kept.file_meta.MediaStorageSOPClassUID = kept.SOPClassUID = sop_class
    kept.SOPInstanceUID, kept.Modality, kept.PatientID = other.SOPInstanceUID, modality, other.PatientID
    kept.save_as(folder / "other.dcm", enforce_file_format=True)
    volume = read_volume(folder)
    assert volume.array.shape == (1, 5, 6, 8)
    assert volume.notes == ()


def test_empty_files_beside_the_slices_are_named(tmp_path: Path) -> None:
    folder = head().write(tmp_path / "in")
    (folder / "LOCK").write_bytes(b"")
    (note,) = read_volume(folder).notes
    assert "LOCK" in note


def test_folder_is_looked_through_for_empty_files_once_however_many_series_lie_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        for file in head(3).write(tmp_path / str(number)).iterdir():
            (tmp_path / "in").mkdir(exist_ok=True)
            file.rename(tmp_path / "in" / f"{number}_{file.name}")
    asked: list[Path] = []
    original = inventory._is_empty
    monkeypatch.setattr(inventory, "_is_empty", lambda path: (asked.append(path), original(path))[1])
    assert [info.problem for info in list_series(tmp_path / "in")] == [""] * 4
    assert len(asked) == len(set(asked)) == 12
