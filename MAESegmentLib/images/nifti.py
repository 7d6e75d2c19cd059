"""NIfTI-1, NIfTI-2 and FreeSurfer MGH through nibabel, after checking that the bytes the header promises are there."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger as nibabel_logger

from ..errors import GeometryError, VolumeReadError
from .decoded import (
    EXPORT_AGAIN,
    DecodedImage,
    check_grid,
    check_scalar,
    check_shape,
    native,
    read_bytes,
    refuse_short,
    refuse_unoriented,
)
from .volume import Grid

_GZIP_MAGIC = b"\x1f\x8b"
#: NIfTI `xyzt_units` & 7 -> mm; 0 is unknown, by custom mm.
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def read_nifti(path: Path) -> DecodedImage:
    """A `.nii` or `.nii.gz` as (I, J, K) with scl_slope applied; sform before qform."""
    data = _uncompressed(path)
    kind = nib.Nifti2Image if 540 in _header_sizes(data) else nib.Nifti1Image
    image = _parsed(path, kind, data)
    header = image.header
    check_scalar(path, header.get_data_dtype())
    shape = check_shape(path, header.get_data_shape())
    ijk_to_ras, notes = _nifti_affine(path, header, shape)
    check_grid(path, shape, ijk_to_ras)
    _check_length(path, data, image.dataobj.offset, shape, header.get_data_dtype())
    return DecodedImage(_voxels(image).reshape(shape, order="F"), ijk_to_ras, notes)


def read_mgh(path: Path) -> DecodedImage:
    """A FreeSurfer `.mgz` or `.mgh`."""
    data = _uncompressed(path)
    image = _parsed(path, nib.MGHImage, data)
    header = image.header
    shape = check_shape(path, header.get_data_shape())
    check_scalar(path, header.get_data_dtype())
    if int(header["goodRASFlag"]) != 1:
        refuse_unoriented(path)
    ijk_to_ras = np.asarray(header.get_affine(), dtype=float)
    check_grid(path, shape, ijk_to_ras)
    _check_length(path, data, image.dataobj.offset, shape, header.get_data_dtype())
    return DecodedImage(_voxels(image).reshape(shape, order="F"), ijk_to_ras)


def write_nifti(path: Path, array: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """`array` is (I, J, K) or (I, J, K, C); both sform and qform say scanner coordinates in mm."""
    with path.open("wb") as stream:
        _write(stream, array, ijk_to_ras, compress=path.name.lower().endswith(".gz"))


def pack_nifti(array: np.ndarray, ijk_to_ras: np.ndarray) -> bytes:
    """What `write_nifti` writes to a `.nii.gz`."""
    stream = io.BytesIO()
    _write(stream, array, ijk_to_ras, compress=True)
    return stream.getvalue()


def _write(stream: IO[bytes], array: np.ndarray, ijk_to_ras: np.ndarray, *, compress: bool) -> None:
    image = nib.Nifti1Image(array, ijk_to_ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(ijk_to_ras, code=1)
    image.set_qform(ijk_to_ras, code=1)
    data = image.to_bytes()
    if compress:
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=4, mtime=0) as packed:
            packed.write(data)
    else:
        stream.write(data)


def _uncompressed(path: Path) -> bytes:
    data = read_bytes(path)
    if not data.startswith(_GZIP_MAGIC):
        if path.suffix.lower() in (".gz", ".mgz"):
            raise VolumeReadError(
                f"{path.name} is named as a compressed file, but its content is not gzip: it is damaged or misnamed.",
                EXPORT_AGAIN,
            )
        return data
    try:
        return gzip.decompress(data)
    except EOFError:
        raise VolumeReadError(f"{path.name} is cut off: its compressed data ends too early.", EXPORT_AGAIN) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise VolumeReadError(f"{path.name} is damaged: its compressed data is corrupt.", EXPORT_AGAIN) from error


def _header_sizes(data: bytes) -> set[int]:
    return {int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")}


def _parsed(path: Path, kind: Any, data: bytes) -> Any:  # nibabel's annotations lack what every image has
    was_disabled, nibabel_logger.disabled = nibabel_logger.disabled, True  # it remarks on headers we refuse or mend
    try:
        return kind.from_bytes(data)
    except Exception as error:  # nibabel raises many kinds for a broken header, some of them bare ValueErrors
        raise VolumeReadError(
            f"{path.name} has no readable image header: {_first_line(error)}.", EXPORT_AGAIN
        ) from error
    finally:
        nibabel_logger.disabled = was_disabled


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _check_length(path: Path, data: bytes, offset: int, shape: tuple[int, int, int], dtype: np.dtype) -> None:
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    present = max(len(data) - offset, 0)
    if present < expected:
        refuse_short(path, expected, present)


def _voxels(image: Any) -> np.ndarray:
    proxy = image.dataobj
    if (proxy.slope, proxy.inter) == (1.0, 0.0):
        return native(np.asanyarray(proxy))
    voxels = np.asanyarray(proxy.get_unscaled()).astype(np.float32)
    voxels *= np.float32(proxy.slope)
    voxels += np.float32(proxy.inter)
    return voxels


def _nifti_affine(
    path: Path, header: nib.Nifti1Header, shape: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """sform if its code is > 0, else qform; a singular sform falls back to a good qform, as in ITK."""
    scale = np.diag([_MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)] * 3 + [1.0])
    sform, qform = header.get_sform(coded=True)[0], _qform(header)
    if sform is None and qform is None:
        refuse_unoriented(path)
    if sform is not None and (qform is None or not Grid(shape, sform).is_singular):
        return scale @ sform, ()
    if qform is None or Grid(shape, qform).is_singular:
        raise GeometryError(
            f"{path.name}: its direction matrices (sform, qform) are singular: voxel positions are not defined.",
            "Export the scan again from its source, or repair the header.",
        )
    notes = () if sform is None else ("The header's sform is singular; its qform was used instead.",)
    return scale @ qform, notes


def _qform(header: nib.Nifti1Header) -> np.ndarray | None:
    try:
        return header.get_qform(coded=True)[0]
    except (nib.spatialimages.HeaderDataError, ValueError):  # an impossible quaternion
        return None
