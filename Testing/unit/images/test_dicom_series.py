"""A DICOM folder is read as one complete regular series in the patient's space, or refused by name of the fault."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from MAESegmentLib.errors import GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.images import list_series, read_volume
from MAESegmentLib.images.archive import ArchiveIndex
from Testing.dicom_series import edit, head


@pytest.fixture(scope="module")
def unpacked(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real series of `geometry/dicom`, one folder each."""
    folder = tmp_path_factory.mktemp("dicom")
    for archive in sorted((real_data / "geometry" / "dicom").glob("*.tar.gz")):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    return folder


def test_series_is_read_in_hounsfield_units_on_its_grid(tmp_path: Path) -> None:
    recipe = head()
    volume = read_volume(recipe.write(tmp_path / "series"))
    np.testing.assert_array_equal(volume.array[0], recipe.stored.T.astype(float) - 1024)
    np.testing.assert_allclose(volume.ijk_to_ras, recipe.ijk_to_ras, atol=1e-9)
    assert volume.array.dtype == np.int16


def test_fractional_rescale_slope_gives_floats(tmp_path: Path) -> None:
    recipe = head(slope=0.25, intercept=1.5)
    volume = read_volume(recipe.write(tmp_path / "pet"))
    np.testing.assert_allclose(volume.array[0], recipe.stored.T * 0.25 + 1.5, rtol=1e-6)


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    recipe = head()
    volume = read_volume(recipe.write(tmp_path / "pet", edit(RescaleSlope=lambda k: 1 + k)))
    np.testing.assert_array_equal(volume.array[0, :, :, 3], recipe.stored[3].T * 4.0 - 1024)


def test_stack_stored_from_head_to_foot_is_ordered_along_its_normal(tmp_path: Path) -> None:
    recipe = head(slice_step=(0.0, 0.0, -2.5))
    volume = read_volume(recipe.write(tmp_path / "series"))
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).T)
    assert volume.ijk_to_ras[2, 2] == pytest.approx(2.5)


@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    backwards=st.booleans(),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_oblique_series_keeps_world_positions(
    tmp_path: Path, turn: tuple[float, float, float], spacing: tuple[float, float, float], backwards: bool
) -> None:
    row, column, normal = Rotation.from_euler("xyz", turn, degrees=True).as_matrix().T
    step = normal * spacing[2] * (-1 if backwards else 1)
    recipe = head(5, row=tuple(row), column=tuple(column), slice_step=tuple(step), pixel_spacing=spacing[:2])
    folder = recipe.write(tmp_path / generate_uid(), _with_short_decimals)
    volume = read_volume(folder)
    for i, j, k in [(0, 0, 0), (4, 5, 4), (1, 3, 2)]:
        read_k = 4 - k if backwards else k
        there = volume.ijk_to_ras @ [i, j, read_k, 1]
        np.testing.assert_allclose(there, recipe.ijk_to_ras @ [i, j, k, 1], atol=1e-3)
        assert volume.array[0, i, j, read_k] == recipe.stored[k, j, i] - 1024


def _with_short_decimals(_: int, dataset: Dataset) -> None:
    """DICOM decimal strings hold 16 characters."""
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        setattr(dataset, name, [f"{value:.9f}"[:16] for value in dataset[name].value])


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    recipe, other = head(), head(5)
    recipe.write(tmp_path / "both")
    other.write(tmp_path / "both2")
    for index, file in enumerate(sorted((tmp_path / "both2").iterdir())):
        file.rename(tmp_path / "both" / f"other{index}.dcm")
    volume = read_volume(tmp_path / "both" / "IM0002.dcm")
    assert volume.array.shape == (1, 5, 6, 8)
    assert volume.source.series_uid == recipe.series_uid


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    folder = head().write(tmp_path / "series")
    (folder / "DICOMDIR").write_bytes(b"index")
    (folder / "report.pdf").write_bytes(b"%PDF-")
    (folder / ".DS_Store").write_bytes(b"")
    assert read_volume(folder).array.shape == (1, 5, 6, 8)
    assert len(list_series(folder)) == 1


def test_folder_with_several_series_needs_a_choice_and_lists_them(tmp_path: Path) -> None:
    first, second = head(), head(6, description="Bone 2.5")
    first.write(tmp_path / "study" / "a")
    second.write(tmp_path / "study" / "b")
    with pytest.raises(VolumeReadError) as refusal:
        read_volume(tmp_path / "study")
    assert "2 series" in refusal.value.message
    assert second.series_uid in refusal.value.hint
    assert "Bone 2.5" in refusal.value.hint
    assert read_volume(tmp_path / "study", series_uid=second.series_uid).array.shape == (1, 5, 6, 6)
    assert [info.n_files for info in list_series(tmp_path / "study")] == [8, 6]


def test_unknown_series_uid_lists_what_is_there(tmp_path: Path) -> None:
    recipe = head()
    with pytest.raises(VolumeReadError, match="no series") as refusal:
        read_volume(recipe.write(tmp_path / "series"), series_uid="1.2.3")
    assert recipe.series_uid in refusal.value.hint


def test_localizer_beside_the_scan_is_passed_over_and_said_so(tmp_path: Path) -> None:
    head().write(tmp_path / "study" / "scan")
    head(3).write(tmp_path / "study" / "localizer", _localizer)
    volume = read_volume(tmp_path / "study")
    assert volume.array.shape == (1, 5, 6, 8)
    assert "1 other series" in volume.notes[0]


def test_small_usable_series_is_not_taken_for_a_larger_broken_one(tmp_path: Path) -> None:
    head(9).write(tmp_path / "study" / "scan", lambda k, _: k != 4)
    head(4).write(tmp_path / "study" / "extra")
    with pytest.raises(VolumeReadError) as refusal:
        read_volume(tmp_path / "study")
    assert "missing" in refusal.value.hint


@pytest.mark.parametrize(
    ("names", "is_header_left", "refused"),
    [
        (("IM{:04}.dcm", "IM1{:03}.dcm"), True, {"Neck"}),  # what is left of its header says whose it is
        (("CT{:04}.dcm", "MR{:04}.dcm"), False, {"Neck"}),  # only slices of that series are called so
        (("IM{:04}.dcm", "IM1{:03}.dcm"), False, {"Head", "Neck"}),  # it may be of either
        (("CT{:04}.dcm", "MR{:04}.dcm"), True, {"Neck"}),
    ],
)
def test_a_damaged_file_refuses_the_series_that_it_is_of(
    tmp_path: Path, names: tuple[str, str], is_header_left: bool, refused: set[str]
) -> None:
    """In a loose folder of several series; in a batch, too, where each series is read from a list of its files."""
    folder = tmp_path / "in" / "loose"
    folder.mkdir(parents=True)
    recipes = {name: head(8, description=name) for name in ("Head", "Neck")}
    for (name, recipe), pattern in zip(recipes.items(), names, strict=True):
        for number, file in enumerate(sorted(recipe.write(tmp_path / name).iterdir())):
            file.rename(folder / pattern.format(number))
    damaged = folder / names[1].format(5)
    content = damaged.read_bytes()
    uid_ends = content.index(recipes["Neck"].series_uid.encode()) + 70
    damaged.write_bytes(content[:uid_ends] if is_header_left else b"\xff" * len(content))
    problems = {info.description: info.problem for info in list_series(folder)}
    assert {name for name, problem in problems.items() if problem} == refused
    scans = {scan.name: scan for scan in ArchiveIndex(tmp_path / "index").scans([tmp_path / "in"])}
    for name, recipe in recipes.items():
        for read in (lambda uid=recipe.series_uid: read_volume(folder, series_uid=uid), scans[f"loose/{name}"].read):
            if name in refused:
                with pytest.raises(VolumeReadError, match=f'"{name}".*{damaged.name}'):
                    read()
            else:
                np.testing.assert_array_equal(read().array[0], recipe.stored.T - 1024)


def test_a_damaged_slice_in_a_folder_of_its_own_is_missed(tmp_path: Path) -> None:
    """Archives may give each slice a folder. Elsewhere, nobody can say whose it was: that is a note."""
    for file in head(5).write(tmp_path / "flat").iterdir():
        (tmp_path / "in" / "scan" / file.stem).mkdir(parents=True)
        file.rename(tmp_path / "in" / "scan" / file.stem / "IM")
    damaged = tmp_path / "in" / "other" / "IM.dcm"
    damaged.parent.mkdir()
    damaged.write_bytes(b"no header")
    (note,) = read_volume(tmp_path / "in").notes
    assert "in other folders cannot be read" in note
    assert damaged.name in note
    (tmp_path / "in" / "scan" / "more").mkdir()
    damaged.rename(tmp_path / "in" / "scan" / "more" / "IM.dcm")
    with pytest.raises(VolumeReadError, match="1 DICOM file"):
        read_volume(tmp_path / "in")


def _fourth(**values: object) -> Callable[[int, Dataset], None]:
    return edit(lambda k: k == 4, **values)


_localizer = edit(lambda k: k == 1, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda k, _: k != 3, "1 slice(s) missing"),
        (lambda k, _: k not in (3, 4), "2 slice(s) missing"),
        (edit(lambda k: k >= 4, ImagePositionPatient=lambda k: [-20, 30, -99 + 2.5 * k]), "unevenly spaced"),
        (_fourth(ImagePositionPatient=[-20, 30, -100 + 2.5 * 3]), "more than once"),
        (_localizer, "different directions"),
        (_fourth(Rows=5, PixelData=bytes(50)), "different sizes"),
        (_fourth(PixelSpacing=[0.9, 0.7]), "different pixel spacing"),
        (_fourth(FrameOfReferenceUID=generate_uid()), "frames of reference"),
        (edit(ImagePositionPatient=None), "do not say where they lie"),
        (edit(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0), "colour"),
        (lambda k, _: k < 2, "only 2 slice(s)"),
        (_fourth(PixelData=bytes(20)), "is incomplete"),
    ],
)
def test_faulty_series_is_refused_by_its_fault(
    tmp_path: Path, fault: Callable[[int, Dataset], bool | None], said: str
) -> None:
    folder = head().write(tmp_path / "series", fault)
    with pytest.raises(VolumeReadError) as refusal:
        read_volume(folder)
    assert said in refusal.value.message
    assert refusal.value.hint


def test_missing_slice_is_named_by_its_neighbours(tmp_path: Path) -> None:
    folder = head().write(tmp_path / "series", lambda k, _: k != 3)
    files = {int(pydicom.dcmread(file).InstanceNumber): file.name for file in folder.iterdir()}
    with pytest.raises(VolumeReadError) as refusal:
        read_volume(folder)
    assert files[3] in refusal.value.message
    assert files[5] in refusal.value.message


def test_positions_rounded_in_the_header_are_still_even(tmp_path: Path) -> None:
    recipe = head(20, slice_step=(0.0, 0.0, 0.625))

    def rounded(_: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [f"{float(x):.1f}" for x in dataset.ImagePositionPatient]

    volume = read_volume(recipe.write(tmp_path / "series", rounded))
    assert volume.grid.spacing[2] == pytest.approx(0.625, abs=0.01)


#: Places are drawn as shares of the file, whose length differs with the random UIDs in it.
_SHARE = st.floats(0, 1, exclude_max=True)


@given(
    edits=st.lists(st.tuples(_SHARE, st.integers(0, 255)), min_size=1, max_size=4),
    kept=_SHARE,
    syntax=st.sampled_from([ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scrambled_header_bytes_never_end_in_a_traceback(
    tmp_path: Path, edits: list[tuple[float, int]], kept: float, syntax: str
) -> None:
    folder = head(4).write(tmp_path / generate_uid(), edit(TransferSyntaxUID=syntax))
    file = folder / "IM0001.dcm"
    content = bytearray(file.read_bytes())
    for place, value in edits:
        content[int(place * len(content))] = value
    file.write_bytes(content[: 1 + int(kept * len(content))])
    with contextlib.suppress(MAESegmentError):
        assert read_volume(folder).array.shape[1:] in {(5, 6, 4), (5, 6, 3)}


def test_voxels_of_an_unknown_kind_of_value_are_refused(tmp_path: Path) -> None:
    folder = head(4).write(tmp_path / "series")
    content = bytearray((folder / "IM0001.dcm").read_bytes())
    place = content.rindex(b"\xe0\x7f\x10\x00OW")
    content[place + 4 : place + 6] = b"R\x00"
    (folder / "IM0001.dcm").write_bytes(content)
    with pytest.raises(VolumeReadError, match=r"IM0001\.dcm"):
        read_volume(folder)


def test_folder_without_dicom_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(VolumeReadError, match="no DICOM images"):
        read_volume(tmp_path)


def test_real_ct_head_equals_simpleitks_reading_in_world_space(unpacked: Path) -> None:
    volume = read_volume(unpacked / "ct_head_axial_64px")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(unpacked / "ct_head_axial_64px"))
    image = sitk.ReadImage(names)
    assert volume.array.shape == (1, 64, 64, 93)
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).T)
    for index in [(0, 0, 0), (63, 5, 92), (10, 40, 50)]:
        lps = np.asarray(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.ijk_to_ras @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-4)


def test_real_jpeg2000_series_is_decoded_to_hounsfield_units(unpacked: Path) -> None:
    volume = read_volume(unpacked / "ct_jpeg2000_6slices")
    assert volume.array.shape == (1, 512, 512, 6)
    assert volume.array.min() == -1024
    np.testing.assert_allclose(volume.grid.spacing, [0.9765625, 0.9765625, 2.0])


def test_real_tilted_gantry_is_refused_as_sheared(unpacked: Path) -> None:
    with pytest.raises(GeometryError, match=r"sheared by 14\.0 degrees"):
        read_volume(unpacked / "d2n_gantrytilting_001")


def test_real_series_of_two_slices_is_refused(unpacked: Path) -> None:
    with pytest.raises(VolumeReadError, match="only 2 slice"):
        read_volume(unpacked / "d2n_slicecount_001")


def test_real_study_with_several_series_lists_each_with_its_problem(unpacked: Path) -> None:
    infos = list_series(unpacked)
    assert [info.n_files for info in infos] == [93, 6, 4, 2]
    assert [bool(info.problem) for info in infos] == [False, False, True, True]


def test_real_hippocampus_series_is_read(real_data: Path) -> None:
    volume = read_volume(real_data / "hippocampus_mr" / "dicom" / "Study1")
    assert volume.array.shape == (1, 35, 51, 32)
    np.testing.assert_allclose(
        volume.ijk_to_ras, np.diag([-1.0, -1.0, 1.0, 1.0]) + np.outer([0, 0, 1, 0], [0, 0, 0, 1])
    )
