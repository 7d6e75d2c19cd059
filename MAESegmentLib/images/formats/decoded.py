"""What every file format is turned into before it becomes a `Volume` or a `LabelMap`, and the checks they share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from ...errors import GeometryError, VolumeReadError
from ..volume import Grid

#: RAS <-> LPS: both are mm, two axes change sign.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

EXPORT_AGAIN = "Copy or export the scan again from its source."
_ONE_FRAME = (
    "Pick one frame: in 3D Slicer load it as a sequence, choose the frame in the Sequence Browser and save that volume."
)


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """`array` is (I, J, K), native byte order; `notes` tell the user what was put right while reading."""

    array: np.ndarray
    ijk_to_ras: np.ndarray
    notes: tuple[str, ...] = ()


def check_shape(path: Path, shape: Sequence[int]) -> tuple[int, int, int]:
    """The (I, J, K) of a stored `shape`, trailing axes of length 1 dropped; refuses 4D."""
    sizes = [int(n) for n in shape]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 3:
        raise VolumeReadError(
            f"{path.name} is {len(sizes)}D ({' x '.join(map(str, sizes))}): a time series or several channels, "
            "but one 3D volume is needed.",
            _ONE_FRAME,
        )
    if len(sizes) < 3:
        sizes += [1] * (3 - len(sizes))
    return sizes[0], sizes[1], sizes[2]


def check_grid(path: Path, shape: tuple[int, int, int], ijk_to_ras: np.ndarray) -> None:
    """`Grid.check` with the file named."""
    try:
        Grid(shape, ijk_to_ras).check()
    except GeometryError as error:
        raise GeometryError(f"{path.name}: {error.message}", error.hint) from None


def check_scalar(path: Path, dtype: np.dtype) -> None:
    """Refuse colour (structured) and complex voxels."""
    if dtype.fields is not None:
        refuse_colour(path)
    if dtype.kind == "c":
        raise VolumeReadError(
            f"{path.name} holds complex numbers (raw MR data), not a grey-value image.", "Export the magnitude image."
        )
    if dtype.kind not in "iufb":
        raise VolumeReadError(
            f"{path.name} has voxels of type {dtype}, which is not a grey value.", "Export it as integers or floats."
        )


def refuse_colour(path: Path) -> NoReturn:
    raise VolumeReadError(
        f"{path.name} is a colour (RGB) image; the models need grey values.",
        "Use the original scan rather than a colour overlay or a screenshot of it.",
    )


def refuse_vectors(path: Path, components: int) -> NoReturn:
    raise VolumeReadError(
        f"{path.name} has {components} values per voxel; one 3D volume is needed.",
        f"If these are frames or channels: {_ONE_FRAME}",
    )


def refuse_short(path: Path, expected: int, present: int) -> NoReturn:
    """The voxel data has `present` of `expected` bytes."""
    raise VolumeReadError(
        f"{path.name} is incomplete: its header promises {expected:,} bytes of voxels, {present:,} are there.",
        EXPORT_AGAIN,
    )


def refuse_unoriented(path: Path) -> NoReturn:
    raise GeometryError(
        f"{path.name} does not say how it lies in the patient, so left and right cannot be told apart.",
        "Convert the scan again from DICOM with a tool that keeps the orientation (3D Slicer, dcm2niix).",
    )


def refuse_empty_file(path: Path) -> NoReturn:
    raise VolumeReadError(f"{path.name} is empty (0 bytes).", EXPORT_AGAIN)


def unreadable(path: Path, error: OSError) -> VolumeReadError:
    """The operating system's refusal, in words for the user."""
    if isinstance(error, FileNotFoundError):
        missing = Path(os.fsdecode(error.filename)) if error.filename else path
        if missing.name != path.name:
            return VolumeReadError(
                f"{path.name} keeps its voxels in {missing.name}, which is missing.", "Copy both files together."
            )
        if path.is_symlink():
            return VolumeReadError(
                f"{path.name} is a link to {os.fspath(path.readlink())}, which is not there.",
                "Get the file itself first (of a DataLad or git-annex data set: datalad get).",
            )
        return VolumeReadError(f"{path} does not exist.", "Check the path.")
    if isinstance(error, PermissionError):
        return VolumeReadError(f"{path.name} cannot be read: no permission.", "Ask its owner for read permission.")
    return VolumeReadError(f"{path.name} cannot be read: {error.strerror or error}.", EXPORT_AGAIN)


def native(array: np.ndarray) -> np.ndarray:
    """This machine's byte order; double precision becomes single (float32), as everything downstream computes in it."""
    if array.dtype.kind == "f" and array.dtype.itemsize != 4:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
