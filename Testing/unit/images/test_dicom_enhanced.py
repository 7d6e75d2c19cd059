"""Enhanced DICOM is read like the slices it is made of, however its functional groups are laid out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from MAESegmentLib.errors import VolumeReadError
from MAESegmentLib.images import LabelMap, Volume, read_label_map, read_volume, write_label_map
from MAESegmentLib.images.labels import Label
from Testing.dicom_series import SHARED, SeriesRecipe, head, write_enhanced


def _oblique() -> SeriesRecipe:
    return head(row=(0.8, 0.6, 0.0), column=(-0.6, 0.8, 0.0))


def _check(volume: Volume, recipe: SeriesRecipe) -> None:
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T.astype(float) - 1024)
    np.testing.assert_allclose(volume.ijk_to_ras, recipe.ijk_to_ras, atol=1e-9)


@pytest.mark.parametrize("frames_a_file", [0, 1, 4])
@pytest.mark.parametrize("shared", [SHARED, ("orientation",), ()])
def test_any_layout_is_read_and_gets_a_dicom_seg(tmp_path: Path, shared: Sequence[str], frames_a_file: int) -> None:
    recipe = _oblique()
    volume = read_volume(write_enhanced(recipe, tmp_path / "in", shared=shared, frames_a_file=frames_a_file))
    _check(volume, recipe)
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[1:3, 2:5, 2:6] = 1
    written = write_label_map(
        tmp_path / "out.dcm", LabelMap(array, volume.ijk_to_ras), [Label(1, "a"), Label(2, "b")], source=volume
    )
    np.testing.assert_array_equal(read_label_map(written).on_grid(volume.grid).array, array)


def test_seg_refers_to_each_frame_of_its_file(tmp_path: Path) -> None:
    volume = read_volume(write_enhanced(head(), tmp_path / "in", shared=(), frames_a_file=4))
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[2, 2, 3:6] = 1
    written = write_label_map(tmp_path / "out.dcm", LabelMap(array, volume.ijk_to_ras), [Label(1, "a")], source=volume)
    dataset = pydicom.dcmread(written)
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in sorted((tmp_path / "in").glob("*.dcm"))]
    referred = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        referred.append((uids.index(image.ReferencedSOPInstanceUID), int(image.ReferencedFrameNumber)))
        assert image.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"
    assert sorted(referred) == [(0, 4), (1, 1), (1, 2)]
    (series,) = dataset.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == uids


@pytest.mark.parametrize("frames_a_file", [0, 1])
def test_without_frame_of_reference_it_is_read(tmp_path: Path, frames_a_file: int) -> None:
    recipe = _oblique()
    folder = write_enhanced(
        recipe, tmp_path / "in", frames_a_file=frames_a_file, change=lambda dataset: dataset.pop("FrameOfReferenceUID")
    )
    _check(read_volume(folder), recipe)


def test_file_of_two_frames_is_a_volume(tmp_path: Path) -> None:
    recipe = head(2)
    _check(read_volume(write_enhanced(recipe, tmp_path / "in")), recipe)


def _two_phases(dataset: Dataset) -> None:
    frames = dataset.PerFrameFunctionalGroupsSequence
    for k in range(4):
        frames[k + 4].PlanePositionSequence[0].ImagePositionPatient = (
            frames[k].PlanePositionSequence[0].ImagePositionPatient
        )


def _other_spacing(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[3].PixelMeasuresSequence[0].PixelSpacing = [0.9, 0.7]


def _one_frame_less(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[3]


def _no_groups(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence
    del dataset.SharedFunctionalGroupsSequence


def _gap(dataset: Dataset) -> None:
    _one_frame_less(dataset)
    dataset.NumberOfFrames = 7


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (_two_phases, r"more than once \(e\.g\. frames000\.dcm \(frame 1\) and frames000\.dcm \(frame 5\)\)"),
        (_other_spacing, "different pixel spacing"),
        (_one_frame_less, "functional groups describe 7"),
        (_no_groups, "do not say where they lie"),
        (_gap, r"1 slice\(s\) missing between frames000\.dcm \(frame 3\)"),
    ],
)
def test_frames_that_make_no_volume_are_refused_by_the_fault(
    tmp_path: Path, fault: Callable[[Dataset], None], said: str
) -> None:
    with pytest.raises(VolumeReadError, match=said):
        read_volume(write_enhanced(head(), tmp_path / "in", shared=("orientation",), change=fault))


def test_time_series_of_enhanced_files_says_how_to_take_one(tmp_path: Path) -> None:
    recipe = head()
    folder = write_enhanced(recipe, tmp_path / "in")
    (folder / "frames000.dcm").rename(folder / "first.dcm")
    recipe.stored = recipe.stored + 1
    write_enhanced(recipe, folder)
    with pytest.raises(VolumeReadError, match="more than once") as refusal:
        read_volume(folder)
    assert "folder of its own" in refusal.value.hint
    (tmp_path / "one").mkdir()
    (folder / "frames000.dcm").rename(tmp_path / "one" / "frames000.dcm")
    _check(read_volume(tmp_path / "one"), SeriesRecipe(recipe.stored))


@pytest.mark.parametrize("frames", [5, 7, 2_000_000_000])
def test_count_of_frames_that_contradicts_the_groups_is_refused(tmp_path: Path, frames: int) -> None:
    folder = write_enhanced(head(), tmp_path / "in", change=lambda dataset: setattr(dataset, "NumberOfFrames", frames))
    with pytest.raises(VolumeReadError, match=f"NumberOfFrames is {frames}, but its functional groups describe 8"):
        read_volume(folder)
