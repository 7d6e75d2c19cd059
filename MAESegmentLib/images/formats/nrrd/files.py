"""NRRD with attached or detached data, as ITK and 3D Slicer read it."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nrrd
import numpy as np

from ...limits import check_size
from ..decoded import LPS_TO_RAS, DecodedImage, check_grid, native, refuse_colour, refuse_vectors
from ..voxel_bytes import open_file, reading
from .data import data_type, read_data
from .header import read_header, read_pairs

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
#: Everything that pynrrd, and our own reading, lets through when header or data are not what they should be.
_BROKEN = (nrrd.NRRDError, ValueError, KeyError, IndexError, TypeError, OverflowError)


@dataclass(frozen=True, eq=False)
class Layers:
    """`array` is (L, I, J, K), L = 1 for a plain image; `pairs` are the header's `key:=value`."""

    array: np.ndarray
    ijk_to_ras: np.ndarray
    pairs: Mapping[str, str]
    kinds: tuple[str, ...]


def read_nrrd(path: Path) -> DecodedImage:
    """A `.nrrd` or `.nhdr` with exactly one 3D grey-value image."""
    layers = read_layers(path)
    if layers.array.shape[0] > 1:
        if any(kind.lower().startswith(_COLOUR_KINDS) for kind in layers.kinds):
            refuse_colour(path)
        refuse_vectors(path, layers.array.shape[0])
    return DecodedImage(layers.array[0], layers.ijk_to_ras)


def read_layers(path: Path) -> Layers:
    """An image of one or more layers on one grid, which is checked before the voxels are read."""
    with reading(path, _BROKEN), open_file(path) as stream:
        header = read_header(path, stream)
        shape, ijk_to_ras = header.shape, header.ijk_to_ras
        check_grid(path, shape, ijk_to_ras)
        if min(header.sizes) < 1:
            raise ValueError(f"its sizes are {' x '.join(map(str, header.sizes))}")
        check_size(path.name, header.sizes, data_type(header.fields).itemsize)
        array = read_data(path, header, stream)
    others = np.flatnonzero(~header.is_spatial)
    layers = np.moveaxis(array, others, range(len(others)))
    kinds = tuple(str(kind) for kind in header.fields.get("kinds", ()))
    return Layers(native(layers.reshape((-1, *shape))), ijk_to_ras, header.pairs, kinds)


def key_values(path: Path) -> dict[str, str]:
    """The `key:=value` pairs of the header alone."""
    with reading(path, _BROKEN), open_file(path) as stream:
        return read_pairs(stream)


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


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(f"{value:.17g}" for value in values) + ")"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\r", " ").replace("\n", "\\n")
