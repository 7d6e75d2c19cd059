"""A NIfTI file gives the voxels and the places that ITK and 3D Slicer give them, or one clear error."""

from __future__ import annotations

import gzip
import io
import struct
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from MAESegmentLib.errors import GeometryError, MAESegmentError, VolumeReadError
from MAESegmentLib.images import read_volume
from MAESegmentLib.images.formats.decoding import LPS_TO_RAS
from MAESegmentLib.images.scans import find_scans
from Testing import phantoms

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.int16)
AFFINE = phantoms.affine("LPS", VOXELS.shape, (0.7, 1.1, 3.0), (10, -20, 30), (5, -40, 80))
OTHER = phantoms.affine("LPS", VOXELS.shape, (0.7, 1.1, 3.0), (10, -20, 33), (5, -41, 82))
PIXDIM, VOX_OFFSET, SLOPE, UNITS = 76, 108, 112, 123


def header_of(sform: np.ndarray | None, qform: np.ndarray | None, sform_code: int = 1, qform_code: int = 1) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(VOXELS.dtype)
    header.set_data_shape(VOXELS.shape)
    header["pixdim"][1:4] = np.linalg.norm(AFFINE[:3, :3], axis=0)
    header["vox_offset"] = header.single_vox_offset
    if qform is not None:
        header.set_qform(qform, qform_code)
    if sform is not None:
        header.set_sform(sform, sform_code)
    return header.binaryblock + bytes(4) + VOXELS.tobytes(order="F")


def changed(content: bytes, layout: str, offset: int, *values: float) -> bytes:
    data = bytearray(content)
    struct.pack_into("<" + layout, data, offset, *values)
    return bytes(data)


def itk_places(path: Path) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    ijk_to_lps[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ ijk_to_lps


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- two places in one header -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sform_code", range(6))
@pytest.mark.parametrize("qform_code", range(6))
def test_sform_and_qform_that_disagree_are_taken_as_by_itk_and_named(
    tmp_path: Path, sform_code: int, qform_code: int
) -> None:
    path = written(tmp_path / "a.nii", header_of(AFFINE, OTHER, sform_code, qform_code))
    if sform_code == qform_code == 0:
        with pytest.raises(GeometryError, match="left and right"):
            read_volume(path)
        return
    volume = read_volume(path)
    np.testing.assert_allclose(volume.ijk_to_ras, itk_places(path), atol=1e-4)
    assert any("sform" in note and "qform" in note for note in volume.notes) == bool(sform_code and qform_code)


def turned(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    return Rotation.from_rotvec(np.radians(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()


TURNS = {
    "none": np.eye(3),
    **{"".join("-+"[sign > 0] for sign in signs): np.diag(signs) for signs in product((1.0, -1.0), repeat=3)},
    **{f"{degrees} degrees": turned((0, 0, 1), degrees) for degrees in (0.1, 5, 179)},
    "quarter": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "flipped and turned": np.diag([-1.0, 1, 1]) @ turned((1, 1, 0), 5),
    "half about an oblique axis": turned((1, 2, 3), 180),
    "swapped": np.eye(3)[[1, 0, 2]],
    "cycled": np.eye(3)[[1, 2, 0]],
}


def is_signed_permutation(turn: np.ndarray, spacing: tuple[float, ...]) -> bool:
    """Of axes of one length; not the identity."""
    same_length = np.abs(turn) @ spacing == pytest.approx(spacing)
    return np.array_equal(np.rint(turn), turn) and same_length and not np.array_equal(turn, np.eye(3))


@pytest.mark.parametrize("sform_code", [1, 2, 4])
@pytest.mark.parametrize("spacing", [(2, 2, 3), (0.7, 0.8, 3), (1, 1, 1)])
@pytest.mark.parametrize("base", [np.eye(3), turned((1, 2, 3), 37), turned((3, -1, 1), 160)], ids=["aligned", "a", "b"])
@pytest.mark.parametrize("apart", [0.0, 10.0])
def test_qform_turned_or_mirrored_in_any_way_is_never_read_otherwise_than_by_itk(
    tmp_path: Path, sform_code: int, spacing: tuple[float, ...], base: np.ndarray, apart: float
) -> None:
    for name, turn in TURNS.items():
        for code in (1, 2):
            sform, qform = np.eye(4), np.eye(4)
            sform[:3, :3], qform[:3, :3] = base * spacing, base @ turn * spacing
            qform[:3, 3] = apart
            header = nib.Nifti1Header.from_fileobj(io.BytesIO(header_of(None, None)[:348]))
            header["pixdim"][1:4] = spacing
            header.set_qform(qform, code, strip_shears=False)
            header.set_sform(sform, sform_code)
            path = written(tmp_path / "a.nii", header.binaryblock + bytes(4) + VOXELS.tobytes(order="F"))
            if not apart and sform_code != 1 and is_signed_permutation(turn, spacing):
                with pytest.raises(GeometryError, match=r"sform \(code .* and qform \(code .* axes are mirrored"):
                    read_volume(path)
            else:
                places = read_volume(path).ijk_to_ras
                np.testing.assert_allclose(places, itk_places(path), atol=1e-3, err_msg=name)


def test_sform_and_qform_of_one_place_need_no_word(tmp_path: Path) -> None:
    volume = read_volume(written(tmp_path / "a.nii", header_of(AFFINE, AFFINE, 2, 1)))
    assert not volume.notes
    np.testing.assert_allclose(volume.ijk_to_ras, AFFINE, atol=1e-5)


def test_sheared_sform_is_not_replaced_by_a_qform_that_cannot_say_so(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[:3, 2] += 0.2 * sheared[:3, 1]
    with pytest.raises(GeometryError, match="sheared"):
        read_volume(written(tmp_path / "a.nii", header_of(sheared, AFFINE, 2, 1)))


def test_sform_of_another_voxel_size_than_pixdim_is_refused_with_both(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"1\.4 x 2\.2 x 6 mm by its sform, 0\.7 x 1\.1 x 3 mm by pixdim"):
        read_volume(written(tmp_path / "a.nii", header_of(AFFINE @ np.diag([2, 2, 2, 1]), None)))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_negative_voxel_size_which_mirrors_in_some_readers_is_refused(tmp_path: Path, axis: int) -> None:
    content = header_of(AFFINE, AFFINE)
    (size,) = struct.unpack_from("<f", content, PIXDIM + 4 * axis)
    with pytest.raises(GeometryError, match="negative voxel size"):
        read_volume(written(tmp_path / "a.nii", changed(content, "f", PIXDIM + 4 * axis, -size)))


@pytest.mark.parametrize("units", range(8))
def test_lengths_in_every_unit_are_those_of_itk(tmp_path: Path, units: int) -> None:
    path = written(tmp_path / "a.nii", changed(header_of(AFFINE, AFFINE), "B", UNITS, units))
    np.testing.assert_allclose(read_volume(path).ijk_to_ras, itk_places(path), rtol=1e-4, atol=1e-4)


# --- where voxels begin, and how they are scaled ----------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 100, 348, 351.9, -1, -352, float("nan"), float("inf"), 1e9, 1e30])
def test_voxels_never_begin_within_the_header_or_beyond_the_file(tmp_path: Path, offset: float) -> None:
    with pytest.raises(VolumeReadError):
        read_volume(written(tmp_path / "a.nii", changed(header_of(AFFINE, AFFINE), "f", VOX_OFFSET, offset)))


@pytest.mark.parametrize("gap", [0, 1, 3, 16, 1000])
@pytest.mark.parametrize("packed", [True, False])
def test_voxels_behind_a_gap_of_any_length_are_found(tmp_path: Path, gap: int, packed: bool) -> None:
    content = header_of(AFFINE, AFFINE)
    content = changed(content[:352] + b"\x07" * gap + content[352:], "f", VOX_OFFSET, 352 + gap)
    path = written(tmp_path / ("a.nii.gz" if packed else "a.nii"), gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(read_volume(path).array[0], VOXELS)


@pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf"), 1.0, 2.0, -0.5])
def test_slope_and_intercept_are_applied_as_the_standard_says(tmp_path: Path, slope: float) -> None:
    path = written(tmp_path / "a.nii", changed(header_of(AFFINE, AFFINE), "ff", SLOPE, slope, 5.0))
    volume = read_volume(path)
    scales = np.isfinite(slope) and slope != 0
    np.testing.assert_allclose(volume.array[0], VOXELS * slope + 5.0 if scales else VOXELS)
    np.testing.assert_array_equal(volume.array[0], np.asanyarray(nib.load(path).dataobj))
    assert any("scl_inter" in note for note in volume.notes) != scales


@pytest.mark.parametrize("scaling", [(2.0, float("nan")), (1e-40, 0.0), (1e38, 0.0)])
def test_scaling_that_gives_no_grey_values_is_refused(tmp_path: Path, scaling: tuple[float, float]) -> None:
    with pytest.raises(VolumeReadError, match=r"scaled|infinite"):
        read_volume(written(tmp_path / "a.nii", changed(header_of(AFFINE, AFFINE), "ff", SLOPE, *scaling)))


# --- other forms of the format ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("ending", [".img", ".img.gz"])
def test_pair_of_header_and_voxels_is_read_by_either_name(tmp_path: Path, kind: type, ending: str) -> None:
    image = kind(VOXELS, AFFINE)
    nib.save(image, tmp_path / f"a{ending}")
    for path in sorted(tmp_path.iterdir()):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array[0], VOXELS)
        np.testing.assert_allclose(volume.ijk_to_ras, AFFINE, atol=1e-5)
    assert [path.name.removesuffix(".gz") for path in find_scans([tmp_path])] == ["a.hdr"]


def test_voxels_of_a_pair_must_lie_beside_the_header(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), tmp_path / "a.img")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.img").rename(tmp_path / "elsewhere" / "secret")
    (tmp_path / "a.img").symlink_to(tmp_path / "elsewhere" / "secret")
    with pytest.raises(VolumeReadError, match="link to another folder"):
        read_volume(tmp_path / "a.hdr")


def test_analyze_header_does_not_say_left_from_right(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(VOXELS, np.diag([-2.0, 2, 2, 1])), tmp_path / "a.img")
    with pytest.raises(GeometryError, match="left and right"):
        read_volume(tmp_path / "a.hdr")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_both_byte_orders_and_versions_are_one_image(tmp_path: Path, order: str, kind: Any) -> None:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(f"{order}i2"))
    nib.save(kind(VOXELS, AFFINE, header), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array[0], VOXELS)
    np.testing.assert_allclose(volume.ijk_to_ras, AFFINE, atol=1e-5)


def test_archive_of_several_gzip_members_is_one_file(tmp_path: Path) -> None:
    content = header_of(AFFINE, AFFINE)
    packed = b"".join(gzip.compress(content[first : first + 100]) for first in range(0, len(content), 100))
    np.testing.assert_array_equal(read_volume(written(tmp_path / "a.nii.gz", packed)).array[0], VOXELS)


def test_damaged_checksum_is_noticed(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(header_of(AFFINE, AFFINE)))
    packed[-6] ^= 1
    with pytest.raises(VolumeReadError, match="damaged"):
        read_volume(written(tmp_path / "a.nii.gz", bytes(packed)))


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_gzip_that_unpacks_to_far_more_than_it_promises_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(header_of(AFFINE, AFFINE)) + gzip.compress(bytes(1 << 20)) * 80
    with pytest.raises(VolumeReadError, match="does not promise"):
        read_volume(written(tmp_path / "a.nii.gz", bomb))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("sizes", [(32767, 32767, 32767), (1 << 20, 1 << 20, 1 << 22), (1 << 62, 2, 2)])
def test_size_that_cannot_be_in_the_file_is_refused_with_its_figure(
    tmp_path: Path, sizes: tuple[int, int, int], packed: bool
) -> None:
    header = nib.Nifti2Header()
    header.set_data_dtype(np.int16)
    header.set_sform(AFFINE, 1)
    header["pixdim"][1:4] = np.linalg.norm(AFFINE[:3, :3], axis=0)
    header["dim"][:4] = 3, *sizes
    header["vox_offset"] = 544
    content = header.binaryblock + bytes(1000)
    path = written(tmp_path / ("a.nii.gz" if packed else "a.nii"), gzip.compress(content) if packed else content)
    with pytest.raises(VolumeReadError, match=r"promises [\d,]{14,} bytes|too large"):
        read_volume(path)


MUTATIONS = st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=3)


@given(mutations=MUTATIONS)
@example(mutations=[(VOX_OFFSET + 3, 0)])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_header_gives_a_clear_error_or_the_voxels_that_nibabel_gives(
    tmp_path: Path, mutations: list[tuple[int, int]]
) -> None:
    content = bytearray(header_of(AFFINE, AFFINE))
    for offset, value in mutations:
        content[offset] = value
    path = written(tmp_path / "a.nii", bytes(content))
    with suppress(MAESegmentError):
        array = read_volume(path).array[0]
        expected = np.asanyarray(nib.load(path).dataobj)
        np.testing.assert_allclose(array, expected.reshape(array.shape, order="F"), rtol=1e-5)
