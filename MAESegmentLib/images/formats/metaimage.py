"""MetaImage (`.mha`, `.mhd`), read here as ITK does, which makes up what a file lacks and crashes on some headers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..limits import check_size
from ..volume import Volume
from .decoding import (
    AT_THE_END,
    GZIP,
    LPS_TO_RAS,
    ZLIB,
    StoredBytes,
    check_grid,
    check_shape,
    native,
    numbered_names,
    open_file,
    read_pieces,
    reading,
    refuse_vectors,
)

_ELEMENT_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_HEADER_LIMIT = 1 << 20
_POSITION = ("Offset", "Position", "Origin")
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_SPACING = ("ElementSpacing", "ElementSize")
_BYTE_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_PATTERN = re.compile(r"(\S.*)\s(\d+)\s+(\d+)\s+(\d+)")
_LIST = re.compile(r"LIST(?:\s+(\d+)D?)?")


@dataclass(frozen=True)
class _Header:
    """`fields` up to ElementDataFile; `listed` are the lines behind it; voxels within the file begin at `begin`."""

    fields: Mapping[str, str]
    listed: tuple[str, ...]
    begin: int

    def numbers(self, key: str, count: int) -> np.ndarray:
        values = np.array([float(part) for part in self.fields[key].split()])
        if len(values) != count or not np.all(np.isfinite(values)):
            raise ValueError(f"{key} is '{self.fields[key]}' where {count} numbers are expected")
        return values

    def one_of(self, keys: tuple[str, ...], default: np.ndarray) -> np.ndarray:
        """The numbers that may stand under any of `keys`; readers differ in which one they believe."""
        found = {key: self.numbers(key, default.size) for key in keys if key in self.fields}
        first = next(iter(found.values()), default.ravel())
        if any(not np.allclose(first, other, rtol=1e-6, atol=1e-6) for other in found.values()):
            raise ValueError(f"{' and '.join(found)} contradict each other")
        return first.reshape(default.shape)

    def flag(self, keys: tuple[str, ...], default: bool) -> bool:
        values = {self._is_true(key) for key in keys if key in self.fields}
        if len(values) > 1:
            raise ValueError(f"{' and '.join(keys)} contradict each other")
        return values.pop() if values else default

    def _is_true(self, key: str) -> bool:
        first = self.fields[key][:1].upper()
        if not first or first not in "TF10":
            raise ValueError(f"{key} is '{self.fields[key]}', neither True nor False")
        return first in "T1"


def read_metaimage(path: Path) -> Volume:
    """Exactly one 3D grey-value image."""
    with reading(path, (KeyError, ValueError, OverflowError)):
        header = _header(path)
        channels = int(header.fields.get("ElementNumberOfChannels", "1"))
        if channels > 1:
            refuse_vectors(path, channels)
        dimensions = int(header.fields["NDims"])
        sizes = [int(part) for part in header.fields["DimSize"].split()]
        if len(sizes) != dimensions:
            raise ValueError(f"DimSize is '{header.fields['DimSize']}' where {dimensions} numbers are expected")
        shape = check_shape(path, sizes)
        ijk_to_ras = _ijk_to_ras(header, dimensions)
        check_grid(path, shape, ijk_to_ras)
        return Volume(native(_voxels(path, header, shape))[None], ijk_to_ras)


def _header(path: Path) -> _Header:
    with open_file(path) as stream:
        text = stream.read(_HEADER_LIMIT)
    fields: dict[str, str] = {}
    position = 0
    while "ElementDataFile" not in fields:
        end = text.find(b"\n", position)
        line = text[position : end if end >= 0 else len(text)].decode("utf-8", "surrogateescape")
        key, separator, value = line.partition("=") if "=" in line else line.partition(":")
        if not separator:
            raise ValueError("its header ends too early, or has a line that is not a field")
        fields[key.strip()] = value.strip()
        position = end + 1 if end >= 0 else len(text)
    listed: list[str] = []
    if _LIST.fullmatch(fields["ElementDataFile"]):
        listed = [line.strip() for line in text[position:].decode("utf-8", "surrogateescape").splitlines()]
    return _Header(fields, tuple(line for line in listed if line), position)


def _ijk_to_ras(header: _Header, dimensions: int) -> np.ndarray:
    """(4, 4) from the first three axes; each row of TransformMatrix is the direction of one axis, in LPS."""
    unit = header.fields.get("DistanceUnits", "mm")
    if unit not in ("mm", "?"):
        raise ValueError(f"its lengths are in {unit}, which ITK and 3D Slicer take for mm; save it in mm")
    n = min(dimensions, 3)
    spacing = header.one_of(_SPACING[:1] if _SPACING[0] in header.fields else _SPACING, np.ones(dimensions))[:n]
    origin = header.one_of(_POSITION, np.zeros(dimensions))[:n]
    directions = header.one_of(_DIRECTIONS, np.eye(dimensions))
    matrix = np.eye(4)
    matrix[:n, :n] = directions[:n, :n].T * spacing
    matrix[:n, 3] = origin
    return LPS_TO_RAS @ matrix


def _voxels(path: Path, header: _Header, shape: tuple[int, int, int]) -> np.ndarray:
    """(I, J, K) as stored."""
    fields = header.fields
    if not header.flag(("BinaryData",), True):
        raise ValueError("its voxels are written as text; save it in binary form")
    if fields["ElementType"] not in _ELEMENT_TYPES:
        raise ValueError(f"voxels of type {fields['ElementType']} are not supported")
    order = ">" if header.flag(_BYTE_ORDER, False) else "<"
    dtype = np.dtype(order + _ELEMENT_TYPES[fields["ElementType"]])
    check_size(path.name, shape, dtype.itemsize)
    names, is_packed = _data_files(header, shape), header.flag(("CompressedData",), False)
    if len(names) > 1 and is_packed:
        raise ValueError("its compressed voxels are spread over several files; save it as one file")
    start, begin = int(fields.get("HeaderSize", "0")), 0 if names else header.begin
    if start < AT_THE_END or 0 < start < begin:
        raise ValueError(f"HeaderSize is {start}")

    def read(stream: IO[bytes], count: int) -> np.ndarray:
        """Packed voxels never say that they are at the end."""
        stream.seek(max(start, begin))
        if not is_packed:
            return StoredBytes(path, stream).take_behind(min(start, 0), count)
        encoding = GZIP if stream.read(2) == b"\x1f\x8b" else ZLIB
        stream.seek(max(start, begin))
        return StoredBytes(path, stream, encoding).take_behind(0, count)

    with open_file(path) as stream:
        data = read_pieces(path, stream, names, math.prod(shape) * dtype.itemsize, read)
    return data.view(dtype).reshape(shape, order="F")


def _data_files(header: _Header, shape: tuple[int, int, int]) -> list[str]:
    """The files that hold the voxels, in their order: one, or one for each slice; none if the header's own does."""
    text = header.fields["ElementDataFile"]
    if text.upper() == "LOCAL":
        return []
    pattern, in_list = _PATTERN.fullmatch(text), _LIST.fullmatch(text)
    if in_list:
        if in_list[1] not in (None, "2"):
            raise ValueError(f"its files hold {in_list[1]}D pieces; only slices are read")
        names = list(header.listed)
    elif pattern and "%" in text:
        names = numbered_names(pattern[1], int(pattern[2]), int(pattern[3]), int(pattern[4]), shape[2])
    else:
        return [text]
    if len(names) != shape[2]:
        raise ValueError(f"it names {len(names)} files for {shape[2]} slices")
    return names
