"""The voxels of a NRRD: behind its header, in another file, or in several, in every encoding that teem and ITK read."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...limits import MOST_BYTES
from ..decoded import refuse_short
from ..voxel_bytes import (
    BZIP2,
    GZIP,
    RAW,
    check_promise,
    finish,
    numbered_names,
    open_beside,
    remaining,
    skip,
    take,
    take_last,
    unpacked,
)
from .header import NrrdHeader

_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(
        ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"), "i8"
    ),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_ENCODINGS = {"raw": RAW, "gzip": GZIP, "gz": GZIP, "bzip2": BZIP2, "bz2": BZIP2}
_TEXT = ("ascii", "text", "txt")
_HEX = "hex"
_ORDERS = {"little": "<", "big": ">"}
#: A number as text, or a byte in hexadecimal, takes no more than so many characters.
_LONGEST_NUMBER = 32
_PATTERN = re.compile(r"(.*%0?\d*d.*?)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)(?:\s+(\d+))?")
_LIST = re.compile(r"LIST(?:\s+(\d+))?")
_LINE = 1 << 16
#: `byte skip` for data that ends with its file, whatever stands before it.
_AT_THE_END = -1


def data_type(header: Mapping[str, Any]) -> np.dtype:
    """Of one voxel; `ValueError` for what is not a number."""
    name = str(header["type"]).lower()
    if name not in _TYPES:
        raise ValueError(f"voxels of type {name} are not supported")
    size = np.dtype(_TYPES[name]).itemsize
    if size == 1 or str(header["encoding"]).lower() in _TEXT:
        return np.dtype(_TYPES[name])
    order = _ORDERS.get(str(header.get("endian", "")).lower())
    if order is None:
        raise ValueError("its header does not say the byte order (endian: little or big)")
    return np.dtype(order + _TYPES[name])


def read_data(path: Path, header: NrrdHeader, stream: IO[bytes]) -> np.ndarray:
    """Voxels of shape `sizes`; `stream` stands behind the header. The caller has checked the size."""
    fields, sizes = header.fields, header.sizes
    dtype = data_type(fields)
    names = _data_files(fields, header.listed, sizes)
    if not names:
        return _read(path, fields, stream, dtype, math.prod(sizes)).reshape(sizes, order="F")
    parts = []
    for name in names:
        with open_beside(path, name) as data:
            parts.append(_read(path, fields, data, dtype, math.prod(sizes) // len(names)))
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(sizes, order="F")


def _field(header: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A field that the format lets one write with a blank or without, e.g. "data file"."""
    return header.get(name, header.get(name.replace(" ", ""), default))


def _data_files(header: Mapping[str, Any], listed: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The files that hold the voxels, each an equal share of them; none if they follow the header."""
    text = _field(header, "data file")
    if text is None:
        return []
    pattern, in_list = _PATTERN.fullmatch(text), _LIST.fullmatch(text)
    if not pattern and not in_list:
        return [text]
    dimensions = in_list[1] if in_list else pattern[5] if pattern else None
    expected = _pieces(sizes, len(sizes) - 1 if dimensions is None else int(dimensions))
    names = list(listed)
    if pattern:
        first, last, step = (int(pattern[n]) for n in (2, 3, 4))
        names = numbered_names(pattern[1], first, last, step, expected or sizes[-1])
    if not names or (len(names) != expected if expected else sizes[-1] % len(names)):
        raise ValueError(f"it names {len(names)} data files for {expected or sizes[-1]} pieces")
    return names


def _pieces(sizes: Sequence[int], dimensions: int) -> int:
    """How many files of `dimensions` axes make the whole; 0 if each holds a slab of it, as many as there are."""
    if not 0 < dimensions <= len(sizes):
        raise ValueError(f"its data files cannot have {dimensions} of {len(sizes)} axes")
    return math.prod(sizes[dimensions:]) if dimensions < len(sizes) else 0


def _read(path: Path, header: Mapping[str, Any], stream: IO[bytes], dtype: np.dtype, count: int) -> np.ndarray:
    """(count,) voxels of one file; lines are skipped before it is unpacked, bytes after that."""
    _skip_lines(stream, int(_field(header, "line skip", 0)))
    bytes_before = int(_field(header, "byte skip", 0))
    if bytes_before < _AT_THE_END:
        raise ValueError(f"byte skip is {bytes_before}")
    name = str(header["encoding"]).lower()
    if name in _TEXT or name == _HEX:
        skip(path, stream, max(bytes_before, 0))
        text = stream.read(min(count * _LONGEST_NUMBER, MOST_BYTES))
        return _from_hex(path, text, dtype, count) if name == _HEX else _from_text(text, dtype, count)
    if name not in _ENCODINGS:
        raise ValueError(f'its encoding "{name}" is not supported')
    encoding, size = _ENCODINGS[name], count * dtype.itemsize
    check_promise(path, stream, encoding, size + max(bytes_before, 0))
    content = unpacked(stream, encoding)
    if bytes_before == _AT_THE_END and encoding != RAW:
        return take_last(path, content, size).view(dtype)
    skip(path, content, remaining(stream) - size if bytes_before == _AT_THE_END else bytes_before, encoding)
    data = take(path, content, size)
    if encoding != RAW:
        finish(path, content)
    return data.view(dtype)


def _skip_lines(stream: IO[bytes], count: int) -> None:
    if count < 0:
        raise ValueError(f"line skip is {count}")
    for skipped in range(count):
        line = b""
        while not line.endswith(b"\n"):
            line = stream.readline(_LINE)
            if not line:
                raise ValueError(f"its voxels begin after {count:,} lines; {skipped:,} are there")


def _from_text(text: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    with warnings.catch_warnings():  # of what is not a number, which leaves too few
        warnings.simplefilter("ignore", DeprecationWarning)
        values = np.fromstring(text.decode("ascii", "replace"), dtype, sep=" ")
    if len(values) < count:
        raise ValueError(f"its header promises {count:,} numbers, {len(values):,} are there")
    return values[:count]


def _from_hex(path: Path, text: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    data = bytes.fromhex(text.decode("ascii", "replace"))
    if len(data) < count * dtype.itemsize:
        refuse_short(path, count * dtype.itemsize, len(data))
    return np.frombuffer(data, dtype, count)
