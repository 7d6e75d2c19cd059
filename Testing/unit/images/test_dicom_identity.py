"""One volume is of one patient, study, series and frame of reference, each of whose slices is taken once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images import list_series, read_volume
from MAESegmentLib.images.archive import ArchiveIndex
from Testing.dicom_series import edit, head

IDENTIFIERS = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality")


@pytest.mark.parametrize("attribute", [name for name in IDENTIFIERS if name != "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["1", ""])
def test_slices_of_two_identities_are_never_one_volume(tmp_path: Path, attribute: str, value: str) -> None:
    with pytest.raises(VolumeReadError, match=attribute) as refusal:
        read_volume(head().write(tmp_path / "series", edit(lambda k: k >= 4, **{attribute: value})))
    assert "phantom" not in str(refusal.value).casefold()  # whose they are stays out of tables and logs


@pytest.mark.parametrize("nothing", [None, ""])
def test_series_without_any_identifiers_is_read(tmp_path: Path, nothing: str | None) -> None:
    recipe = head()
    anonymise = edit(**dict.fromkeys((*IDENTIFIERS, "SOPInstanceUID", "StudyID", "StudyDate"), nothing))
    volume = read_volume(recipe.write(tmp_path / "series", anonymise))
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T.astype(float) - 1024)


def test_two_ways_to_write_a_patients_name_are_one_patient(tmp_path: Path) -> None:
    change = edit(PatientName=lambda k: "Phantom^Head^" if k % 2 else "PHANTOM^Head")
    assert read_volume(head().write(tmp_path / "series", change)).array.shape == (1, 5, 6, 8)


def _stacked(tmp_path: Path, *without: str) -> Path:
    """Patients A and B, whose slices lie above each other, in a folder each, `without` some attributes."""
    first = head(6)
    second = head(6, position=(-20.0, 30.0, -100.0 + 6 * 2.5), series_uid=first.series_uid)
    second.frame_of_reference = first.frame_of_reference
    for patient, recipe in (("A", first), ("B", second)):
        recipe.write(tmp_path / "in" / patient, edit(PatientID=patient, **dict.fromkeys(without)))
    return tmp_path / "in"


def test_series_uid_that_two_patients_share_is_refused_by_name_of_the_clash(tmp_path: Path) -> None:
    folder = _stacked(tmp_path)
    with pytest.raises(VolumeReadError, match=r"PatientID is not the same in A/.* and B/"):
        read_volume(folder)
    assert read_volume(folder / "B").array.shape == (1, 5, 6, 6)


def test_series_without_uid_are_told_apart_by_folder_and_can_be_chosen(tmp_path: Path) -> None:
    folder = _stacked(tmp_path, "SeriesInstanceUID", "FrameOfReferenceUID")
    with pytest.raises(VolumeReadError, match="2 series, which differ in PatientID"):
        read_volume(folder)
    infos = {info.folder: info.uid for info in list_series(folder)}
    assert set(infos) == {"A", "B"}
    volume = read_volume(folder, series_uid=infos["B"])
    assert volume.array.shape == (1, 5, 6, 6)
    assert volume.ijk_to_ras[2, 3] == pytest.approx(-85.0)


def test_series_without_uid_in_one_folder_are_told_apart_by_their_headers(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, recipe in ((1, head(6)), (2, head(5))):
        change = edit(SeriesNumber=number, SeriesInstanceUID=None)
        for file in recipe.write(tmp_path / str(number), change).iterdir():
            file.rename(tmp_path / "in" / f"{number}_{file.name}")
    assert [info.n_files for info in list_series(tmp_path / "in")] == [6, 5]
    assert read_volume(tmp_path / "in" / "2_IM0000.dcm").array.shape == (1, 5, 6, 5)


def test_archive_takes_a_uid_of_two_patients_for_two_scans(tmp_path: Path) -> None:
    folder = _stacked(tmp_path)
    for _ in range(2):  # found, then remembered
        scans = ArchiveIndex(tmp_path / "index.jsonl").scans([folder])
        assert [scan.name for scan in scans] == ["A", "B"]
        assert len({scan.key for scan in scans}) == 2
        assert [scan.read().array.shape for scan in scans] == [(1, 5, 6, 6)] * 2
    assert "phantom" not in (tmp_path / "index.jsonl").read_text().casefold()


def test_archive_takes_slices_of_one_series_in_two_folders_for_one_scan(tmp_path: Path) -> None:
    recipe = head(8)
    recipe.write(tmp_path / "in" / "a", lambda k, _: k < 4)
    recipe.write(tmp_path / "in" / "b", lambda k, _: k >= 4)
    (scan,) = ArchiveIndex(tmp_path / "index.jsonl").scans([tmp_path / "in"])
    assert scan.read().array.shape == (1, 5, 6, 8)


def test_archive_reads_series_without_uid(tmp_path: Path) -> None:
    folder = _stacked(tmp_path, "SeriesInstanceUID")
    scans = ArchiveIndex(tmp_path / "index.jsonl").scans([folder])
    assert [scan.read().array.shape for scan in scans] == [(1, 5, 6, 6)] * 2


def test_slices_that_share_an_instance_uid_are_all_taken_and_said_so(tmp_path: Path) -> None:
    recipe, uids = head(), [generate_uid() for _ in range(4)]
    volume = read_volume(recipe.write(tmp_path / "series", edit(SOPInstanceUID=lambda k: uids[k // 2])))
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T.astype(float) - 1024)
    assert volume.grid.spacing[2] == pytest.approx(2.5)
    assert any("4 images have the SOPInstanceUID" in note for note in volume.notes)


def test_instance_uid_at_the_same_place_with_other_voxels_is_refused(tmp_path: Path) -> None:
    recipe = head()
    folder = recipe.write(tmp_path / "series")
    brighter = replace(recipe, stored=recipe.stored + 1)
    uids = {int(image.InstanceNumber): image.SOPInstanceUID for image in _images(folder)}
    brighter.write(folder / "again", edit(SOPInstanceUID=lambda k: uids[k + 1]))
    with pytest.raises(
        VolumeReadError, match=r"more than once \(e\.g\. (series|again)/IM\d+\.dcm and (series|again)/IM"
    ):
        read_volume(folder)


def test_copies_that_differ_in_their_headers_alone_count_once(tmp_path: Path) -> None:
    recipe = head()
    folder = recipe.write(tmp_path / "series")
    for index, image in enumerate(_images(folder)):
        image.SeriesDescription = "sent again"
        image.save_as(folder / f"again{index}.dcm")
    np.testing.assert_array_equal(read_volume(folder).array[0], recipe.stored.T.astype(float) - 1024)


def test_instance_uids_of_another_series_do_not_count_as_copies(tmp_path: Path) -> None:
    recipe = head()
    folder = recipe.write(tmp_path / "study" / "a")
    other = generate_uid()
    for index, image in enumerate(_images(folder)):
        image.SeriesInstanceUID = other
        image.save_as(tmp_path / "study" / f"b{index}.dcm")
    assert [info.n_files for info in list_series(tmp_path / "study")] == [8, 8]


def _images(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


@pytest.mark.parametrize(("attribute", "without"), [("PatientBirthDate", ()), ("StudyDate", ("StudyInstanceUID",))])
def test_slices_of_two_dates_are_never_one_volume(tmp_path: Path, attribute: str, without: tuple[str, ...]) -> None:
    change = edit(**{attribute: lambda k: ("", "19500101", "19700101")[k // 3]}, **dict.fromkeys(without))
    with pytest.raises(VolumeReadError, match=attribute) as refusal:
        read_volume(head(9).write(tmp_path / "series", change))
    assert "1950" not in str(refusal.value)
    same = read_volume(head(6).write(tmp_path / "same", change))  # some say nothing
    assert same.array.shape == (1, 5, 6, 6)
