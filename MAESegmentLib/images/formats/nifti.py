"""NIfTI-1, NIfTI-2 and FreeSurfer MGH: nibabel reads the headers; of what they promise, no byte more is read."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from ...errors import GeometryError, VolumeReadError
from ..limits import check_size
from ..volume import Grid, Volume
from .decoding import (
    EXPORT_AGAIN,
    GZIP,
    RAW,
    StoredBytes,
    check_grid,
    check_scalar,
    check_shape,
    native,
    open_beside,
    open_file,
    reading,
    refuse_unoriented,
    write_packed,
)

_GZIP_MAGIC = b"\x1f\x8b"
_PAIR_MAGIC = (b"ni1", b"ni2")
#: Where nibabel does not scale, ITK adds the intercept all the same; and ITK takes smaller slopes than this for 1.
_SMALLEST_SLOPE = float(np.finfo(np.float64).eps)
#: NIfTI `xyzt_units` & 7 -> mm; 0 is unknown, by custom mm.
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_CODES = {1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI", 5: "template"}
_SCANNER = 1
#: Voxel sizes are rounded in many headers: together they may move the last voxel by so many mm.
_ROUNDING_MM = 0.05
#: Origins (mm) and direction cosines so close are the same to ITK, or nearly so (it stops at 1e-4).
_SAME = 1e-3


def read_nifti(path: Path) -> Volume:
    """A `.nii`, or a `.hdr` and its `.img`, each perhaps with `.gz`, with scl_slope applied."""
    path = _header_of(path)
    with _opened(path) as stored:
        header, begin = _nifti_header(path, stored)
        check_scalar(path, header.get_data_dtype())
        shape = check_shape(path, header.get_data_shape())
        ijk_to_ras, notes = _affine(path, header, shape)
        check_grid(path, shape, ijk_to_ras)
        _check_voxel_size(path, header, Grid(shape, ijk_to_ras))
        scaled, scaling_notes = _scaling(path, header)
        if header.is_single:
            voxels = _voxels(path, stored, header, shape, begin)
        else:
            with _opened(path, _data_name(path)) as data:
                voxels = _voxels(path, data, header, shape, 0)
    return Volume(scaled(voxels)[None], ijk_to_ras, notes=(*notes, *scaling_notes))


def read_mgh(path: Path) -> Volume:
    """A FreeSurfer `.mgz` or `.mgh`."""
    with _opened(path) as stored:
        block = stored.read(DATA_OFFSET)
        header = _parsed(path, MGHHeader, block[: MGHHeader._hdrdtype.itemsize])
        shape = check_shape(path, header.get_data_shape())
        check_scalar(path, header.get_data_dtype())
        if int(header["goodRASFlag"]) != 1:
            refuse_unoriented(path)
        ijk_to_ras = np.asarray(header.get_affine(), dtype=float)
        check_grid(path, shape, ijk_to_ras)
        return Volume(native(_voxels(path, stored, header, shape, len(block)))[None], ijk_to_ras)


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
        write_packed(stream, data)
    else:
        stream.write(data)


@contextmanager
def _opened(path: Path, data: str = "") -> Iterator[StoredBytes]:
    """The file `path`, or the one that it says holds its `data`; packed ones are read to the end, for the checksum."""
    with reading(path), open_beside(path, data) if data else open_file(path) as file:
        encoding = GZIP if file.read(2) == _GZIP_MAGIC else RAW
        file.seek(0)
        if encoding == RAW and path.suffix.lower() in (".gz", ".mgz"):
            raise VolumeReadError(
                f"{path.name} is named as a compressed file, but its content is not gzip: it is damaged or misnamed.",
                EXPORT_AGAIN,
            )
        stored = StoredBytes(path, file, encoding)
        yield stored
        stored.finish()


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


def _nifti_header(path: Path, stored: StoredBytes) -> tuple[Any, int]:
    """The header, and how many bytes of the file were read for it."""
    size = stored.read(4)
    is_second = Nifti2Header.sizeof_hdr in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    single, pair = (Nifti2Header, Nifti2PairHeader) if is_second else (Nifti1Header, Nifti1PairHeader)
    block = size + stored.read(single.sizeof_hdr - len(size))
    magic = block[4:7] if is_second else block[344:347]
    of_pair = ".hdr" in path.name.lower()[-7:]
    if of_pair and magic not in _PAIR_MAGIC:
        refuse_unoriented(path)  # Analyze 7.5
    if not of_pair and magic in _PAIR_MAGIC:
        raise VolumeReadError(
            f"{path.name} is the header of a pair (.hdr, .img), without voxels of its own.",
            "Give both files their endings again.",
        )
    kind = pair if of_pair else single
    header = _parsed(path, kind, block)
    if np.any(kind(block, check=False)["pixdim"][1:4] < 0):
        raise GeometryError(
            f"{path.name} has a negative voxel size (pixdim), which ITK and 3D Slicer take for a mirrored axis "
            "and others do not.",
            "Export the scan again, or repair the header.",
        )
    offset = float(header["vox_offset"])
    first = 0 if of_pair else single.single_vox_offset
    if not offset >= first or not math.isfinite(offset):
        raise VolumeReadError(
            f"{path.name} says that its voxels begin at byte {offset:g}; the first possible one is {first}.",
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


def _voxels(path: Path, stored: StoredBytes, header: Any, shape: tuple[int, int, int], begin: int) -> np.ndarray:
    """(I, J, K) as stored; `begin` bytes of the file have been read."""
    dtype = header.get_data_dtype()
    count = math.prod(shape) * dtype.itemsize
    offset = int(header.get_data_offset()) - begin
    stored.check_promise(offset + count)
    check_size(path.name, shape, dtype.itemsize)
    stored.skip(offset)
    return stored.take(count).view(dtype).reshape(shape, order="F")


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


# --- where it lies ----------------------------------------------------------------------------------------------------
#
# Its header may say so twice (sform, qform), and readers differ in which one they believe. The rule is ITK's, and so
# 3D Slicer's, so that a result lies on the scan that Slicer shows: the qform, unless it has no code or the sform says
# scanner coordinates (code 1). nibabel and FSL take every sform with a code. Where it matters, a note names both. Two
# that differ by mirrored axes or right angles alone are refused: which one ITK takes then hangs on rounding.


def _affine(path: Path, header: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(4, 4) IJK to RAS in mm, and what a user should know about how it was chosen."""
    scale = _to_mm(header)
    sform, qform = header.get_sform(coded=True)[0], _qform(header)
    codes = {name: int(header[f"{name}_code"]) for name in ("sform", "qform")}
    if sform is None and qform is None:
        refuse_unoriented(path)
    forms = {name: form for name, form in (("sform", sform), ("qform", qform)) if form is not None}
    with np.errstate(invalid="ignore", over="ignore"):
        grids = {name: Grid(shape, scale @ form) for name, form in forms.items()}
    usable = {name: grid for name, grid in grids.items() if not grid.is_singular}
    if not usable:
        raise GeometryError(
            f"{path.name}: its direction matrices (sform, qform) are singular: voxel positions are not defined.",
            "Export the scan again from its source, or repair the header.",
        )
    if len(usable) == 1:
        used = next(iter(usable))
        other = "qform" if used == "sform" else "sform"
        notes = (f"The header's {other} is singular; its {used} was used instead.",) if codes[other] > 0 else ()
        return usable[used].ijk_to_ras, notes
    difference = usable["sform"].difference(usable["qform"])
    # A sheared sform tells of a tilted gantry, which no qform can: it is taken, and refused.
    used = "qform" if difference and codes["sform"] != _SCANNER and _is_regular(usable["sform"]) else "sform"
    both = (
        f"{path.name} says twice where it lies: sform (code {_code(codes['sform'])}) and qform (code "
        f"{_code(codes['qform'])}): {difference}."
    )
    if used == "qform" and _are_mirrored(usable["sform"], usable["qform"]):
        raise GeometryError(
            f"{both} Their axes are mirrored, or turned by right angles, about one origin, and readers differ in which "
            "one they take.",
            "Export the scan again from its source, or set the right one as both sform and qform.",
        )
    return usable[used].ijk_to_ras, (f"{both} The {used} was used, as by 3D Slicer and ITK.",) if difference else ()


def _check_voxel_size(path: Path, header: Any, grid: Grid) -> None:
    """Raise `GeometryError` if `pixdim`, which ITK and 3D Slicer take the voxel size from, is not that of `grid`."""
    stored = np.abs(np.asarray(header["pixdim"], dtype=float)[1:4]) * _to_mm(header)[0, 0]
    if np.any(np.abs(stored - grid.spacing) * grid.shape > _ROUNDING_MM):
        raise GeometryError(
            f"{path.name} gives two voxel sizes: {_size(grid.spacing)} mm by its sform, {_size(stored)} mm by pixdim.",
            "Readers differ in which one they take: export the scan again, or repair the header.",
        )


def _to_mm(header: Any) -> np.ndarray:
    return np.diag([_MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)] * 3 + [1.0])


def _qform(header: Any) -> np.ndarray | None:
    """None without a code; an impossible quaternion is a singular matrix."""
    try:
        form = header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        return np.zeros((4, 4))
    return None if form is None else np.asarray(form, dtype=float)


def _is_regular(grid: Grid) -> bool:
    try:
        grid.check()
    except GeometryError:
        return False
    return True


def _are_mirrored(first: Grid, second: Grid) -> bool:
    """Whether the two differ by the sense, or the order, of axes of one length, about the same origin.

    ITK compares singular vectors of both, whose signs are anybody's: it takes the sform of some such files.
    """
    if np.abs(first.ijk_to_ras[:3, 3] - second.ijk_to_ras[:3, 3]).max() > _SAME:
        return False
    axes, others = first.ijk_to_ras[:3, :3], second.ijk_to_ras[:3, :3]
    cosines = (axes / first.spacing).T @ (others / second.spacing)
    swapped = np.rint(cosines)
    if np.abs(cosines - swapped).max() > _SAME or np.array_equal(swapped, np.eye(3)):
        return False
    lengths = np.abs(swapped) @ second.spacing
    return bool(np.abs(lengths - first.spacing).max() <= _SAME * first.spacing.max())


def _code(code: int) -> str:
    return f"{code}, {_CODES[code]}" if code in _CODES else str(code)


def _size(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.6g}" for length in lengths)
