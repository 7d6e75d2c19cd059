"""NRRD with attached or detached data, in every encoding that teem and ITK read: as ITK and 3D Slicer read it.

pynrrd parses the fields of the header; key/value pairs and file names are kept in any character set.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np

from ..limits import MOST_BYTES, check_size
from ..volume import Volume
from .decoding import (
    AT_THE_END,
    BZIP2,
    GZIP,
    LPS_TO_RAS,
    RAW,
    StoredBytes,
    check_grid,
    native,
    numbered_names,
    open_file,
    read_pieces,
    reading,
    refuse_colour,
    refuse_short,
    refuse_unoriented,
    refuse_vectors,
    write_packed,
)

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
_RAS, _LPS, _LAS = np.eye(4), LPS_TO_RAS, np.diag([-1.0, 1.0, 1.0, 1.0])
_SPACES_TO_RAS = {
    "right-anterior-superior": _RAS,
    "ras": _RAS,
    "left-posterior-superior": _LPS,
    "lps": _LPS,
    "left-anterior-superior": _LAS,
    "las": _LAS,
}
_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "")
_REQUIRED = ("dimension", "type", "encoding", "sizes")
_FILE_NAMES = ("data file", "datafile")
#: Every field of the format, which ITK and 3D Slicer insist on: what is misspelt would be left out without a word.
_FIELDS = {
    *("content", "number", "type", "block size", "dimension", "sizes", "spacings", "thicknesses", "axis mins"),
    *("axis maxs", "centers", "centerings", "kinds", "labels", "units", "min", "max", "old min", "old max", "endian"),
    *("encoding", "line skip", "byte skip", "data file", "sample units", "space", "space dimension", "space units"),
    *("space origin", "space directions", "measurement frame"),
}
_SPELLINGS = {*_FIELDS, *(name.replace(" ", "") for name in _FIELDS if not name.startswith("space"))}
#: Slicer's segmentations have a kilobyte for each segment.
_MOST_HEADER = 1 << 24
_VECTORS = ("space directions", "space origin", "measurement frame")
_BLANKS = re.compile(r"(?<=[(,])\s+|\s+(?=[,)])")
_ESCAPED = re.compile(r"\\([\\n])")
_COLOUR_KINDS = ("rgb", "hsv", "xyz")
#: Everything that pynrrd, and our own reading, lets through when header or data are not what they should be.
_BROKEN = (nrrd.NRRDError, ValueError, KeyError, IndexError, TypeError, OverflowError)


def read_nrrd(path: Path) -> Volume:
    """A `.nrrd` or `.nhdr` with exactly one 3D grey-value image."""
    layers, header = read_layers(path)
    if len(layers.array) > 1:
        if any(str(kind).lower().startswith(_COLOUR_KINDS) for kind in header.fields.get("kinds", ())):
            refuse_colour(path)
        refuse_vectors(path, len(layers.array))
    return layers


def read_layers(path: Path) -> tuple[Volume, NrrdHeader]:
    """An image of one or more layers (channels) on one grid, which is checked before the voxels are read."""
    with reading(path, _BROKEN), open_file(path) as stream:
        header = _read_header(path, stream)
        shape, ijk_to_ras = header.shape, header.ijk_to_ras
        check_grid(path, shape, ijk_to_ras)
        if min(header.sizes) < 1:
            raise ValueError(f"its sizes are {' x '.join(map(str, header.sizes))}")
        check_size(path.name, header.sizes, header.dtype.itemsize)
        array = _read_data(path, header, stream)
    others = np.flatnonzero(~header.is_spatial)
    layers = np.moveaxis(array, others, range(len(others)))
    return Volume(native(layers.reshape((-1, *shape))), ijk_to_ras), header


def key_values(path: Path) -> dict[str, str]:
    """The `key:=value` pairs of the header alone."""
    with reading(path, _BROKEN), open_file(path) as stream:
        return _lines(stream)[2]


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
        "type": {"float32": "float", "float64": "double"}.get(array.dtype.name, array.dtype.name),
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
        write_packed(stream, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F"))


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(f"{value:.17g}" for value in values) + ")"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\r", " ").replace("\n", "\\n")


# --- the header -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NrrdHeader:
    """`fields` by name, in small letters; `pairs` are `key:=value`; `listed` the lines after `data file: LIST`."""

    fields: Mapping[str, Any]
    pairs: Mapping[str, str]
    listed: tuple[str, ...]

    def field(self, name: str, default: Any = None) -> Any:
        """A field that the format lets one write with a blank or without, e.g. "data file"."""
        return self.fields.get(name, self.fields.get(name.replace(" ", ""), default))

    @property
    def sizes(self) -> list[int]:
        return list(self.fields["sizes"])

    @property
    def is_spatial(self) -> np.ndarray:
        """(ndim,) bool; an axis whose direction is `none` (layers, frames, colours) is not spatial."""
        return ~np.all(np.isnan(np.asarray(self.fields["space directions"], dtype=float)), axis=1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K)"""
        sizes = [size for size, spatial in zip(self.sizes, self.is_spatial, strict=True) if spatial]
        if len(sizes) > 3:
            raise ValueError(f"it has {len(sizes)} axes in space")
        i, j, k = (*sizes, *[1] * (3 - len(sizes)))
        return i, j, k

    @property
    def encoding(self) -> str:
        return str(self.fields["encoding"]).lower()

    @property
    def dtype(self) -> np.dtype:
        """Of one voxel; `ValueError` for what is not a number."""
        name = str(self.fields["type"]).lower()
        if name not in _TYPES:
            raise ValueError(f"voxels of type {name} are not supported")
        if np.dtype(_TYPES[name]).itemsize == 1 or self.encoding in _TEXT:
            return np.dtype(_TYPES[name])
        order = _ORDERS.get(str(self.fields.get("endian", "")).lower())
        if order is None:
            raise ValueError("its header does not say the byte order (endian: little or big)")
        return np.dtype(order + _TYPES[name])

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """(4, 4), mm"""
        to_ras = _SPACES_TO_RAS.get(str(self.fields["space"]).lower())
        if to_ras is None:
            raise ValueError(f'its space "{self.fields["space"]}" is not one of {", ".join(_SPACES_TO_RAS)}')
        units = [str(unit) for unit in self.fields.get("space units", ())]
        if any(unit.strip().lower() not in _MILLIMETRES for unit in units):
            raise ValueError(
                f"its lengths are in {', '.join(units)}, which ITK and 3D Slicer take for mm; save it in mm"
            )
        directions = np.asarray(self.fields["space directions"], dtype=float)[self.is_spatial]
        matrix = np.eye(4)
        if directions.shape == (3, 3):
            matrix[:3, :3] = directions.T
        matrix[:3, 3] = np.asarray(self.fields.get("space origin", np.zeros(3)), dtype=float)
        if not np.all(np.isfinite(matrix)):
            raise ValueError("its space directions or its origin are not finite")
        return to_ras @ matrix


def _read_header(path: Path, stream: IO[bytes]) -> NrrdHeader:
    """Leaves `stream` behind the header; raises what pynrrd raises for a broken one, and `ValueError`."""
    magic, texts, pairs, listed = _lines(stream)
    missing = [name for name in _REQUIRED if name not in texts]
    if missing:
        raise ValueError(f"its header lacks {', '.join(missing)}")
    apart = {"sizes", *_FILE_NAMES}
    # The format allows blanks within a vector; pynrrd does not.
    tight = {name: _BLANKS.sub("", text) if name in _VECTORS else text for name, text in texts.items()}
    fields = dict(nrrd.read_header([magic, *(f"{name}: {text}" for name, text in tight.items() if name not in apart)]))
    fields.update({name: texts[name] for name in _FILE_NAMES if name in texts})
    fields["sizes"] = [int(size) for size in texts["sizes"].split()]
    if "space" not in fields or "space directions" not in fields:
        refuse_unoriented(path)
    counts = {len(fields["sizes"]), len(fields["space directions"]), fields["dimension"]}
    if len(counts) > 1 or not fields["sizes"]:
        raise ValueError("dimension, sizes and space directions do not agree in the number of axes")
    return NrrdHeader(fields, pairs, listed)


def _lines(stream: IO[bytes]) -> tuple[str, dict[str, str], dict[str, str], tuple[str, ...]]:
    """The first line, the text of each field, the pairs, and the lines after `data file: LIST`."""
    magic = _line(stream)
    if not magic.startswith("NRRD"):
        raise ValueError("it does not begin with NRRD")
    texts: dict[str, str] = {}
    pairs: dict[str, str] = {}
    while text := _line(stream):
        name, colon, value = text.partition(":")
        if text.startswith("#"):
            continue
        if not colon:
            raise ValueError("its header has a line that is not a field")
        if value.startswith("="):
            pairs[_unescaped(name)] = _unescaped(value[1:])
            continue
        name = name.strip().lower()
        if name not in _SPELLINGS:
            raise ValueError(f"its header has a field {name}, which the format does not know")
        if name in texts:
            raise ValueError(f"its header has two fields {name}")
        texts[name] = value.strip()
        if name in _FILE_NAMES and texts[name].split()[:1] == ["LIST"]:
            rest = stream.read(_MOST_HEADER).decode("utf-8", "surrogateescape").splitlines()
            return magic, texts, pairs, tuple(line for line in rest if line)
    return magic, texts, pairs, ()


def _line(stream: IO[bytes]) -> str:
    if stream.tell() > _MOST_HEADER:
        raise ValueError(f"its header is longer than {_MOST_HEADER:,} bytes")
    return stream.readline(_MOST_HEADER).decode("utf-8", "surrogateescape").rstrip()


def _unescaped(text: str) -> str:
    """Text of a pair; bytes in no character set are replaced, as nothing could write them again."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else "\\", text)


# --- the voxels: behind the header, in another file, or in several ----------------------------------------------------


def _read_data(path: Path, header: NrrdHeader, stream: IO[bytes]) -> np.ndarray:
    """Voxels of shape `sizes`; `stream` stands behind the header. The caller has checked the size."""

    def read(data: IO[bytes], count: int) -> np.ndarray:
        return _read(path, header, data, count)

    return read_pieces(path, stream, _data_files(header), math.prod(header.sizes), read).reshape(
        header.sizes, order="F"
    )


def _data_files(header: NrrdHeader) -> Sequence[str]:
    """The files that hold the voxels, each an equal share of them; none if they follow the header."""
    sizes, text = header.sizes, header.field("data file")
    if text is None:
        return ()
    pattern, in_list = _PATTERN.fullmatch(text), _LIST.fullmatch(text)
    if not pattern and not in_list:
        return [text]
    given = in_list[1] if in_list else pattern[5] if pattern else None
    dimensions = len(sizes) - 1 if given is None else int(given)
    if not 0 < dimensions <= len(sizes):
        raise ValueError(f"its data files cannot have {dimensions} of {len(sizes)} axes")
    # With all axes, each holds a slab of the whole, as many as there are.
    expected = math.prod(sizes[dimensions:]) if dimensions < len(sizes) else 0
    names: Sequence[str] = header.listed
    if pattern:
        first, last, step = (int(pattern[n]) for n in (2, 3, 4))
        names = numbered_names(pattern[1], first, last, step, expected or sizes[-1])
    if not names or (len(names) != expected if expected else sizes[-1] % len(names)):
        raise ValueError(f"it names {len(names)} data files for {expected or sizes[-1]} pieces")
    return names


def _read(path: Path, header: NrrdHeader, stream: IO[bytes], count: int) -> np.ndarray:
    """(count,) voxels of one file; lines are skipped before it is unpacked, bytes after that."""
    _skip_lines(stream, int(header.field("line skip", 0)))
    before = int(header.field("byte skip", 0))
    if before < AT_THE_END:
        raise ValueError(f"byte skip is {before}")
    encoding, dtype = header.encoding, header.dtype
    if encoding in _ENCODINGS:
        return StoredBytes(path, stream, _ENCODINGS[encoding]).take_behind(before, count * dtype.itemsize).view(dtype)
    if encoding not in (*_TEXT, _HEX):
        raise ValueError(f'its encoding "{encoding}" is not supported')
    StoredBytes(path, stream).skip(max(before, 0))
    text = stream.read(min(count * _LONGEST_NUMBER, MOST_BYTES)).decode("ascii", "replace")
    return _from_hex(path, text, dtype, count) if encoding == _HEX else _from_text(text, dtype, count)


def _skip_lines(stream: IO[bytes], count: int) -> None:
    if count < 0:
        raise ValueError(f"line skip is {count}")
    for skipped in range(count):
        line = b""
        while not line.endswith(b"\n"):
            line = stream.readline(_LINE)
            if not line:
                raise ValueError(f"its voxels begin after {count:,} lines; {skipped:,} are there")


def _from_text(text: str, dtype: np.dtype, count: int) -> np.ndarray:
    with warnings.catch_warnings():  # of what is not a number, which leaves too few
        warnings.simplefilter("ignore", DeprecationWarning)
        values = np.fromstring(text, dtype, sep=" ")
    if len(values) < count:
        raise ValueError(f"its header promises {count:,} numbers, {len(values):,} are there")
    return values[:count]


def _from_hex(path: Path, text: str, dtype: np.dtype, count: int) -> np.ndarray:
    data = bytes.fromhex(text)
    if len(data) < count * dtype.itemsize:
        refuse_short(path, count * dtype.itemsize, len(data))
    return np.frombuffer(data, dtype, count)
