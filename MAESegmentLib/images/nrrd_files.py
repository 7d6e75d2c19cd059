"""NRRD with attached or detached data: pynrrd reads it, and is strict about lengths."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from ..errors import VolumeReadError
from .decoded import (
    EXPORT_AGAIN,
    LPS_TO_RAS,
    DecodedImage,
    check_grid,
    native,
    refuse_colour,
    refuse_empty_file,
    refuse_unoriented,
    refuse_vectors,
    unreadable,
)

_SPACES_TO_RAS = {
    "right-anterior-superior": np.eye(4),
    "ras": np.eye(4),
    "left-posterior-superior": LPS_TO_RAS,
    "lps": LPS_TO_RAS,
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "las": np.diag([-1.0, 1.0, 1.0, 1.0]),
}
_TYPE_NAMES = {
    "u1": "uint8",
    "i1": "int8",
    "u2": "uint16",
    "i2": "int16",
    "u4": "uint32",
    "i4": "int32",
    "f4": "float",
    "f8": "double",
}
_COLOUR_KINDS = ("rgb", "hsv", "xyz")
#: Everything pynrrd lets through when header or data are not what they should be.
_BROKEN = (nrrd.NRRDError, ValueError, KeyError, IndexError, TypeError, EOFError, zlib.error)


def read_nrrd(path: Path) -> DecodedImage:
    """A `.nrrd` or `.nhdr` with exactly one 3D grey-value image."""
    array, header = read_layers(path)
    if array.shape[0] > 1:
        kinds = np.asarray(header.get("kinds", ["list"] * header["dimension"]))
        if any(str(kind).lower().startswith(_COLOUR_KINDS) for kind in kinds):
            refuse_colour(path)
        refuse_vectors(path, array.shape[0])
    return DecodedImage(array[0], header_ijk_to_ras(header))


def read_layers(path: Path) -> tuple[np.ndarray, Mapping[str, Any]]:
    """(L, I, J, K) voxels, L = 1 for a plain image, and the header; the grid is checked before the voxels are read."""
    try:
        if path.stat().st_size == 0:
            refuse_empty_file(path)
        with path.open("rb") as stream:
            header = nrrd.read_header(stream)
            if "space" not in header or "space directions" not in header:
                refuse_unoriented(path)
            spatial = _spatial_axes(header)
            shape = _three(np.asarray(header["sizes"])[spatial])
            check_grid(path, shape, header_ijk_to_ras(header))
            array = nrrd.read_data(header, stream, str(path))
    except OSError as error:
        raise unreadable(path, error) from error
    except _BROKEN as error:
        raise VolumeReadError(f"{path.name} is incomplete or damaged: {error}.", EXPORT_AGAIN) from error
    others = np.flatnonzero(~spatial)
    layers = np.moveaxis(array, others, range(len(others)))
    return native(layers.reshape((-1, *shape))), header


def write_nrrd(
    path: Path, array: np.ndarray, ijk_to_ras: np.ndarray, metadata: Mapping[str, str] | None = None
) -> None:
    """`array` is (I, J, K), or (I, J, K, C) for a vector image; gzip; space is left-posterior-superior.

    Written here because ITK does not notice a disk that fills up with the last block, and pynrrd writes ASCII only.
    """
    ijk_to_lps = LPS_TO_RAS @ ijk_to_ras
    directions = [_vector(column) for column in ijk_to_lps[:3, :3].T]
    kinds = ["domain"] * 3
    if array.ndim == 4:
        array, directions, kinds = np.moveaxis(array, -1, 0), ["none", *directions], ["vector", *kinds]
    fields = {
        "type": _TYPE_NAMES[array.dtype.str[1:]],
        "dimension": str(array.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, array.shape)),
        "space directions": " ".join(directions),
        "kinds": " ".join(kinds),
        "endian": "little",
        "encoding": "gzip",
        "space origin": _vector(ijk_to_lps[:3, 3]),
    }
    header = ["NRRD0004", *(f"{key}: {value}" for key, value in fields.items())]
    header += [f"{key}:={_escaped(value)}" for key, value in (metadata or {}).items()]
    with path.open("wb") as stream:
        stream.write(("\n".join(header) + "\n\n").encode("utf-8"))
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=4, mtime=0) as packed:
            packed.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F"))


def key_values(path: Path) -> dict[str, str]:
    """The `key:=value` pairs of the header; pynrrd drops from them everything outside ASCII."""
    pairs = {}
    with path.open("rb") as stream:
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text:
                break
            key, separator, value = text.partition(":=")
            if separator:
                pairs[key] = value.replace("\\n", "\n").replace("\\\\", "\\")
    return pairs


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(f"{value:.17g}" for value in values) + ")"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\r", " ").replace("\n", "\\n")


def _spatial_axes(header: Mapping[str, Any]) -> np.ndarray:
    """(ndim,) bool; an axis whose direction is `none` (layers, frames, colours) is not spatial."""
    return ~np.all(np.isnan(np.asarray(header["space directions"], dtype=float)), axis=1)


def _three(sizes: np.ndarray) -> tuple[int, int, int]:
    i, j, k = (*(int(n) for n in sizes), *[1] * (3 - len(sizes)))
    return i, j, k


def header_ijk_to_ras(header: Mapping[str, Any]) -> np.ndarray:
    to_ras = _SPACES_TO_RAS.get(str(header["space"]).lower())
    if to_ras is None:
        raise ValueError(f'its space "{header["space"]}" is not one of {", ".join(_SPACES_TO_RAS)}')
    directions = np.asarray(header["space directions"], dtype=float)[_spatial_axes(header)]
    matrix = np.eye(4)
    if directions.shape == (3, 3):
        matrix[:3, :3] = directions.T
    matrix[:3, 3] = np.asarray(header.get("space origin", np.zeros(3)), dtype=float)
    return to_ras @ matrix
