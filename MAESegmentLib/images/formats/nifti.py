"""NIfTI-1, NIfTI-2 and FreeSurfer MGH: nibabel reads the headers; of what they promise, no byte more is read."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

from ...errors import GeometryError, VolumeReadError
from ..limits import check_size
from ..volume import Grid
from .decoded import EXPORT_AGAIN, DecodedImage, check_grid, check_scalar, check_shape, native, refuse_unoriented
from .nifti_affine import check_voxel_size, nifti_affine
from .voxel_bytes import GZIP, RAW, check_promise, finish, open_beside, open_file, reading, skip, take, unpacked

_GZIP_MAGIC = b"\x1f\x8b"
_PAIR_MAGIC = (b"ni1", b"ni2")
#: Where nibabel does not scale, ITK adds the intercept all the same; and ITK takes smaller slopes than this for 1.
_SMALLEST_SLOPE = float(np.finfo(np.float64).eps)


class _Stored(NamedTuple):
    """An open file as it lies on the disk, and its content, unpacked while it is read."""

    path: Path
    file: IO[bytes]
    content: IO[bytes]
    encoding: str


def read_nifti(path: Path) -> DecodedImage:
    """A `.nii`, or a `.hdr` and its `.img`, each perhaps with `.gz`, as (I, J, K) with scl_slope applied."""
    path = _header_of(path)
    with _opened(path) as stored:
        header, begin = _nifti_header(stored)
        check_scalar(path, header.get_data_dtype())
        shape = check_shape(path, header.get_data_shape())
        ijk_to_ras, notes = nifti_affine(path, header, shape)
        check_grid(path, shape, ijk_to_ras)
        check_voxel_size(path, header, Grid(shape, ijk_to_ras))
        scaled, scaling_notes = _scaling(path, header)
        if header.is_single:
            voxels = _voxels(stored, header, shape, begin)
        else:
            with _opened(path, _data_name(path)) as data:
                voxels = _voxels(data, header, shape, 0)
    return DecodedImage(scaled(voxels), ijk_to_ras, (*notes, *scaling_notes))


def read_mgh(path: Path) -> DecodedImage:
    """A FreeSurfer `.mgz` or `.mgh`."""
    with _opened(path) as stored:
        block = stored.content.read(DATA_OFFSET)
        header = _parsed(path, MGHHeader, block[: MGHHeader._hdrdtype.itemsize])
        shape = check_shape(path, header.get_data_shape())
        check_scalar(path, header.get_data_dtype())
        if int(header["goodRASFlag"]) != 1:
            refuse_unoriented(path)
        ijk_to_ras = np.asarray(header.get_affine(), dtype=float)
        check_grid(path, shape, ijk_to_ras)
        return DecodedImage(native(_voxels(stored, header, shape, len(block))), ijk_to_ras)


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


@contextmanager
def _opened(path: Path, data: str = "") -> Iterator[_Stored]:
    """The file `path`, or the one that it says holds its `data`; packed ones are read to the end, for the checksum."""
    with reading(path), open_beside(path, data) if data else open_file(path) as file:
        encoding = GZIP if file.read(2) == _GZIP_MAGIC else RAW
        file.seek(0)
        if encoding == RAW and path.suffix.lower() in (".gz", ".mgz"):
            raise VolumeReadError(
                f"{path.name} is named as a compressed file, but its content is not gzip: it is damaged or misnamed.",
                EXPORT_AGAIN,
            )
        stored = _Stored(path, file, unpacked(file, encoding), encoding)
        yield stored
        if encoding == GZIP:
            finish(path, stored.content)


def _header_of(path: Path) -> Path:
    """The `.hdr` of a pair, whichever of the two is given."""
    name = path.name.lower()
    ending = next((e for e in (".img.gz", ".img") if name.endswith(e)), "")
    for other in (".hdr", ".hdr.gz") if ending else ():
        header = path.with_name(path.name[: -len(ending)] + other)
        if header.is_file():
            return header
    return path


def _data_name(header: Path) -> str:
    """The `.img` of a `.hdr`, packed or not."""
    base = header.name[: header.name.lower().rfind(".hdr")]
    packed = header.with_name(f"{base}.img.gz")
    return packed.name if packed.is_file() and not header.with_name(f"{base}.img").is_file() else f"{base}.img"


def _nifti_header(stored: _Stored) -> tuple[Any, int]:
    """The header, and how many bytes of the file were read for it."""
    size = stored.content.read(4)
    is_second = Nifti2Header.sizeof_hdr in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    single, pair = (Nifti2Header, Nifti2PairHeader) if is_second else (Nifti1Header, Nifti1PairHeader)
    block = size + stored.content.read(single.sizeof_hdr - len(size))
    magic = block[4:7] if is_second else block[344:347]
    of_pair = ".hdr" in stored.path.name.lower()[-7:]
    if of_pair and magic not in _PAIR_MAGIC:
        refuse_unoriented(stored.path)  # Analyze 7.5
    if not of_pair and magic in _PAIR_MAGIC:
        raise VolumeReadError(
            f"{stored.path.name} is the header of a pair (.hdr, .img), without voxels of its own.",
            "Give both files their endings again.",
        )
    kind = pair if of_pair else single
    header = _parsed(stored.path, kind, block)
    if np.any(kind(block, check=False)["pixdim"][1:4] < 0):
        raise GeometryError(
            f"{stored.path.name} has a negative voxel size (pixdim), which ITK and 3D Slicer take for a mirrored axis "
            "and others do not.",
            "Export the scan again, or repair the header.",
        )
    offset = float(header["vox_offset"])
    first = 0 if of_pair else single.single_vox_offset
    if not offset >= first or not math.isfinite(offset):
        raise VolumeReadError(
            f"{stored.path.name} says that its voxels begin at byte {offset:g}; the first possible one is {first}.",
            EXPORT_AGAIN,
        )
    return header, len(block)


def _parsed(path: Path, kind: Callable[[bytes], Any], block: bytes) -> Any:
    was_disabled, nibabel_logger.disabled = nibabel_logger.disabled, True  # it remarks on headers we refuse or mend
    try:
        header = kind(block)
        header.get_data_dtype(), header.get_data_shape()  # raise for codes and sizes that there are not
        return header
    except Exception as error:  # nibabel raises many kinds for a broken header, some of them bare ValueErrors
        raise VolumeReadError(
            f"{path.name} has no readable image header: {_first_line(error)}.", EXPORT_AGAIN
        ) from error
    finally:
        nibabel_logger.disabled = was_disabled


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _voxels(stored: _Stored, header: Any, shape: tuple[int, int, int], begin: int) -> np.ndarray:
    """(I, J, K) as stored; `begin` bytes of the file have been read."""
    dtype = header.get_data_dtype()
    count = math.prod(shape) * dtype.itemsize
    offset = int(header.get_data_offset()) - begin
    check_promise(stored.path, stored.file, stored.encoding, offset + count)
    check_size(stored.path.name, shape, dtype.itemsize)
    skip(stored.path, stored.content, offset, stored.encoding)
    return take(stored.path, stored.content, count).view(dtype).reshape(shape, order="F")


def _scaling(path: Path, header: Any) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[str, ...]]:
    """What turns stored voxels into grey values: the standard leaves them as they are if the slope is 0 or none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        ignored = math.isfinite(intercept) and intercept != 0
        note = f"{path.name} has scl_slope {slope:g}, so its scl_inter ({intercept:g}) was not added either."
        return native, (note,) if ignored else ()
    if not math.isfinite(intercept) or abs(slope) < _SMALLEST_SLOPE:
        raise VolumeReadError(
            f"{path.name} cannot be scaled to grey values: scl_slope is {slope:g}, scl_inter {intercept:g}.",
            "Repair the header, or export the scan again.",
        )
    if (slope, intercept) == (1.0, 0.0):
        return native, ()

    def scaled(voxels: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            values = voxels.astype(np.float32)
            values *= np.float32(slope)
            values += np.float32(intercept)
        return values

    return scaled, ()
