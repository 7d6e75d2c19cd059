"""Whatever the file, either one complete, oriented 3D volume comes in, or one clear error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MAESegmentLib.errors import GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.images import (
    LabelMap,
    Volume,
    read_label_map,
    read_volume,
    read_volumes,
    write_label_map,
    write_volume,
)
from MAESegmentLib.images.labels import Label

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.int16)
AFFINE = np.array([[-0.8, 0.1, 0.0, 3.0], [0.1, 0.8, 0.0, -7.5], [0.0, 0.0, -2.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


def world_point(ijk_to_ras: np.ndarray, index: tuple[int, int, int]) -> np.ndarray:
    return (ijk_to_ras @ [*index, 1])[:3]


def nifti(path: Path, array: np.ndarray = VOXELS, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def metaimage(path: Path, compressed: bool) -> Path:
    image = sitk.GetImageFromArray(np.ascontiguousarray(VOXELS.T))
    image.SetSpacing([0.5, 1.5, 2.5])
    image.SetDirection([0, 1, 0, 1, 0, 0, 0, 0, -1])
    image.SetOrigin([10, -20, 30])
    sitk.WriteImage(image, str(path), compressed)
    return path


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_eight_orientations_of_one_head_are_voxel_identical_once_canonical(real_data: Path) -> None:
    files = sorted((real_data / "geometry" / "orientations").glob("*.nii.gz"))
    assert len(files) == 8
    seen = []
    for file in files:
        volume = read_volume(file)
        assert volume.grid.axis_codes == file.name.split(".")[0]
        canonical = nib.as_closest_canonical(nib.Nifti1Image(volume.array[0], volume.ijk_to_ras))
        seen.append((np.asarray(canonical.dataobj), canonical.affine))
    for array, affine in seen[1:]:
        np.testing.assert_array_equal(array, seen[0][0])
        np.testing.assert_allclose(affine, seen[0][1], atol=1e-3)


def test_oblique_nifti_and_nrrd_twins_agree_in_world_space(real_data: Path) -> None:
    folder = real_data / "geometry" / "volumes"
    one, other = read_volume(folder / "mr_oblique_flair.nii.gz"), read_volume(folder / "mr_oblique_flair.nrrd")
    assert one.grid.matches(other.grid, tolerance_mm=1e-4)
    np.testing.assert_array_equal(one.array, other.array)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("tiny_7x5x3.nii.gz", (7, 5, 3), np.uint8),
        ("aniso_4x5x7.nii.gz", (4, 5, 7), np.uint8),
        ("bigendian_int16.nii", (33, 41, 25), np.int16),
        ("int16_scl_slope.nii.gz", (157, 189, 156), np.float32),
        ("freesurfer_LIA.mgz", (256, 256, 256), np.uint8),
    ],
)
def test_unusual_but_sound_files_read_as_nibabel_reads_them(
    real_data: Path, name: str, shape: tuple[int, int, int], dtype: type
) -> None:
    file = real_data / "geometry" / "volumes" / name
    volume = read_volume(file)
    reference = nib.load(file)
    assert volume.array.shape == (1, *shape)
    assert volume.array.dtype == dtype
    assert volume.array.dtype.isnative
    few = (slice(None, None, 3),) * 3
    np.testing.assert_allclose(volume.array[0][few], np.asanyarray(reference.dataobj)[few], rtol=1e-5)
    np.testing.assert_allclose(volume.ijk_to_ras, reference.affine)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("extension", [".mha", ".mhd"])
def test_metaimage_written_by_itk_keeps_world_positions(tmp_path: Path, extension: str, compressed: bool) -> None:
    volume = read_volume(metaimage(tmp_path / f"a{extension}", compressed))
    np.testing.assert_array_equal(volume.array[0], VOXELS)
    image = sitk.ReadImage(str(tmp_path / f"a{extension}"))
    for index in [(0, 0, 0), (5, 0, 3), (1, 6, 7)]:
        lps = np.asarray(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(world_point(volume.ijk_to_ras, index), lps * [-1, -1, 1], atol=1e-9)


def test_good_qform_stands_in_for_a_singular_sform_and_is_noted(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOXELS, None)
    image.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=2)
    image.set_qform(AFFINE, code=1, update_affine=False)
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.ijk_to_ras, AFFINE, atol=1e-5)
    assert "qform was used" in volume.notes[0]


def test_fourth_axis_of_length_one_is_dropped(tmp_path: Path) -> None:
    assert read_volume(nifti(tmp_path / "a.nii", VOXELS[..., None])).array.shape == (1, 6, 7, 8)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("corrupt/truncated_gzip.nii.gz", VolumeReadError, "cut off"),
        ("corrupt/header_only.nii", VolumeReadError, "incomplete"),
        ("corrupt/zero_bytes.nii.gz", VolumeReadError, "0 bytes"),
        ("corrupt/not_gzip.nii.gz", VolumeReadError, "not gzip"),
        ("corrupt/all_nan.nii.gz", VolumeReadError, "every voxel is NaN"),
        ("corrupt/nan_inf.nii.gz", VolumeReadError, "infinite"),
        ("corrupt/dim_zero.nii", GeometryError, "empty"),
        ("corrupt/singular_sform.nii.gz", GeometryError, "singular"),
        ("volumes/complex64.nii.gz", VolumeReadError, "complex"),
        ("volumes/rgb24.nii.gz", VolumeReadError, "colour"),
        ("volumes/4d_oblique.nii.gz", VolumeReadError, "4D"),
        ("volumes/ct_shear_affine.nii.gz", GeometryError, "sheared"),
    ],
)
def test_each_corrupt_or_unsupported_file_gets_one_clear_refusal(
    real_data: Path, name: str, kind: type[MAESegmentError], said: str
) -> None:
    with pytest.raises(kind) as refusal:
        read_volume(real_data / "geometry" / name)
    assert said in refusal.value.message
    assert Path(name).name in refusal.value.message
    assert refusal.value.hint
    assert ("4D" in said) == ("Sequence Browser" in refusal.value.hint)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "a.nii": nifti,
    "a.nii.gz": nifti,
    "a.mgz": lambda path: (nib.save(nib.MGHImage(VOXELS.astype(np.float32), AFFINE), path), path)[1],
    "a.nrrd": lambda path: write_volume(path, Volume(VOXELS[None], AFFINE)),
    "compressed.mha": lambda path: metaimage(path, True),
    "raw.mha": lambda path: metaimage(path, False),
}


@pytest.mark.parametrize("name", WRITERS)
@given(keep=st.floats(0.0, 1.0, exclude_max=True))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_off_file_is_never_read_as_a_whole_image(tmp_path: Path, name: str, keep: float) -> None:
    whole = WRITERS[name](tmp_path / name).read_bytes()
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole[: int(keep * len(whole))])
    with suppress(VolumeReadError, GeometryError):
        # Only what follows the last voxel (a checksum, FreeSurfer's footer) may be lost.
        assert np.array_equal(read_volume(cut).array, read_volume(tmp_path / name).array)


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scrambled_bytes_never_end_in_a_traceback(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(WRITERS[name](tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 500) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / f"bad-{name}").write_bytes(content)
    with suppress(MAESegmentError):
        assert read_volume(tmp_path / f"bad-{name}").array.ndim == 4


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeReadError, match=r"nowhere\.nii\.gz does not exist"):
        read_volume(tmp_path / "nowhere.nii.gz")


def test_missing_data_file_of_a_header_is_named(tmp_path: Path) -> None:
    metaimage(tmp_path / "a.mhd", False)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(VolumeReadError, match=r"keeps its voxels in a\.raw, which is missing"):
        read_volume(tmp_path / "a.mhd")


def test_unknown_extension_lists_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "scan.docx").write_bytes(b"PK")
    with pytest.raises(VolumeReadError) as refusal:
        read_volume(tmp_path / "scan.docx")
    assert ".nrrd" in refusal.value.hint


@pytest.mark.parametrize("name", ["study.zip", "Study.TAR.GZ"])
def test_an_archive_is_to_be_unpacked_first(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(VolumeReadError, match="is an archive") as refused:
        read_volume(tmp_path / name)
    assert "Unpack it" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("array", "affine", "said"),
    [
        (VOXELS, None, "left and right"),
        (VOXELS[:, :, :1], AFFINE, "single slice"),
        (np.zeros((4, 4, 4), np.uint8), AFFINE, "blank"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path: Path, array: np.ndarray, affine: np.ndarray, said: str) -> None:
    with pytest.raises((GeometryError, VolumeReadError), match=said):
        read_volume(nifti(tmp_path / "a.nii", array, affine))


def test_vector_nrrd_is_refused(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.nrrd", Volume(np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float32), AFFINE))
    with pytest.raises(VolumeReadError, match="3 values per voxel"):
        read_volume(tmp_path / "v.nrrd")


def test_segmentation_is_not_taken_for_a_scan(tmp_path: Path) -> None:
    labels = LabelMap((VOXELS > 500).astype(np.uint8), AFFINE)
    write_label_map(tmp_path / "s.seg.nrrd", labels, [Label(1, "one")])
    with pytest.raises(VolumeReadError, match="is a segmentation"):
        read_volume(tmp_path / "s.seg.nrrd")


# --- voxels -----------------------------------------------------------------------------------------------------------


def test_voxels_without_a_value_become_the_minimum_and_are_noted(tmp_path: Path) -> None:
    array = VOXELS.astype(np.float32)
    array[2, 3, 4] = np.nan
    volume = read_volume(nifti(tmp_path / "a.nii.gz", array))
    assert volume.array[0, 2, 3, 4] == np.nanmin(array)
    assert "1 voxels without a value" in volume.notes[0]


def test_double_precision_becomes_single(tmp_path: Path) -> None:
    assert read_volume(nifti(tmp_path / "a.nii", VOXELS * np.float64(0.1))).array.dtype == np.float32


def test_channels_on_one_grid_are_stacked_in_order(tmp_path: Path) -> None:
    one, other = nifti(tmp_path / "t1.nii"), nifti(tmp_path / "t2.nii.gz", VOXELS * 2)
    volume = read_volumes([one, other])
    np.testing.assert_array_equal(volume.array, np.stack([VOXELS, VOXELS * 2]))


def test_channels_on_different_grids_are_refused_by_name(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 1.0
    one, other = nifti(tmp_path / "t1.nii"), nifti(tmp_path / "t2.nii", affine=moved)
    with pytest.raises(GeometryError, match=r"t2\.nii .* same voxel grid as t1\.nii"):
        read_volumes([one, other])


# --- label maps -------------------------------------------------------------------------------------------------------


def test_label_map_keeps_whole_numbers_as_smallest_type(tmp_path: Path) -> None:
    labels = (np.abs(VOXELS) % 4).astype(np.float32)
    label_map = read_label_map(nifti(tmp_path / "l.nii.gz", labels))
    assert label_map.array.dtype == np.uint8
    np.testing.assert_array_equal(label_map.array, labels)
    assert read_label_map(nifti(tmp_path / "w.nii", labels * 100)).array.dtype == np.uint16


def test_label_map_without_any_label_is_allowed(tmp_path: Path) -> None:
    assert not read_label_map(nifti(tmp_path / "l.nii", np.zeros((4, 4, 4), np.uint8))).array.any()


@pytest.mark.parametrize("factor", [0.5, -1.0, 1e5, np.nan])
def test_scan_given_for_a_label_map_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(VolumeReadError, match="not a label map"):
        read_label_map(nifti(tmp_path / "l.nii", np.float32(factor) * np.arange(60).reshape(3, 4, 5)))
