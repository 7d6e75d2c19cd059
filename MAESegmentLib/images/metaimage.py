"""MetaImage (`.mha`, `.mhd`), read here: ITK fills in what a cut-off file lacks, and a damaged header can crash it."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from ..errors import VolumeReadError
from .decoded import (
    EXPORT_AGAIN,
    LPS_TO_RAS,
    DecodedImage,
    check_grid,
    check_shape,
    native,
    refuse_empty_file,
    refuse_short,
    refuse_vectors,
    unreadable,
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


def read_metaimage(path: Path) -> DecodedImage:
    """Exactly one 3D grey-value image."""
    try:
        fields, data_start = _header(path)
        channels = int(fields.get("ElementNumberOfChannels", "1"))
        if channels > 1:
            refuse_vectors(path, channels)
        sizes = _numbers(fields["DimSize"], int(fields["NDims"]))
        shape = check_shape(path, sizes.astype(int).tolist())
        ijk_to_ras = _ijk_to_ras(fields, len(sizes))
        check_grid(path, shape, ijk_to_ras)
        voxels = _voxels(path, fields, data_start, int(np.prod(shape, dtype=np.int64)))
    except OSError as error:
        raise unreadable(path, error) from error
    except KeyError as error:
        raise VolumeReadError(f"{path.name}: its header lacks {error}.", EXPORT_AGAIN) from error
    except ValueError as error:
        raise VolumeReadError(f"{path.name} is not a readable MetaImage: {error}.", EXPORT_AGAIN) from error
    return DecodedImage(native(voxels.reshape(shape, order="F")), ijk_to_ras)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The `Key = Value` lines up to ElementDataFile, and the offset of what follows."""
    with path.open("rb") as stream:
        text = stream.read(_HEADER_LIMIT)
    if not text:
        refuse_empty_file(path)
    fields: dict[str, str] = {}
    position = 0
    while "ElementDataFile" not in fields:
        end = text.find(b"\n", position)
        line = text[position : end if end >= 0 else len(text)].decode("utf-8", "replace")
        if "=" not in line:
            raise ValueError("its header is incomplete or damaged")
        key, value = line.split("=", 1)
        fields[key.strip()] = value.strip()
        position = end + 1 if end >= 0 else len(text)
    return fields, position


def _ijk_to_ras(fields: dict[str, str], dimensions: int) -> np.ndarray:
    """(4, 4) from the first three axes; each row of TransformMatrix is the direction of one axis, in LPS."""
    n = min(dimensions, 3)
    spacing = _numbers(fields.get("ElementSpacing", " ".join(["1"] * dimensions)), dimensions)[:n]
    origin = _numbers(_first_of(fields, _POSITION) or " ".join(["0"] * dimensions), dimensions)[:n]
    text = _first_of(fields, _DIRECTIONS)
    directions = _numbers(text, dimensions**2).reshape(dimensions, dimensions) if text else np.eye(dimensions)
    matrix = np.eye(4)
    matrix[:n, :n] = directions[:n, :n].T * spacing
    matrix[:n, 3] = origin
    return LPS_TO_RAS @ matrix


def _first_of(fields: dict[str, str], keys: tuple[str, ...]) -> str | None:
    return next((fields[key] for key in keys if key in fields), None)


def _numbers(text: str, count: int) -> np.ndarray:
    values = np.array([float(part) for part in text.split()])
    if len(values) != count or not np.all(np.isfinite(values)):
        raise ValueError(f"its header has '{text}' where {count} numbers are expected")
    return values


def _voxels(path: Path, fields: dict[str, str], data_start: int, count: int) -> np.ndarray:
    """(count,) voxels in file order."""
    if fields.get("BinaryData", "True").lower() == "false":
        raise ValueError("its voxels are written as text; save it in binary form")
    if fields["ElementType"] not in _ELEMENT_TYPES:
        raise ValueError(f"voxels of type {fields['ElementType']} are not supported")
    big_endian = (fields.get("ElementByteOrderMSB") or fields.get("BinaryDataByteOrderMSB", "False")).lower() == "true"
    dtype = np.dtype((">" if big_endian else "<") + _ELEMENT_TYPES[fields["ElementType"]])
    data = _data(path, fields, data_start)
    if len(data) < count * dtype.itemsize:
        refuse_short(path, count * dtype.itemsize, len(data))
    return np.frombuffer(data, dtype, count)


def _data(path: Path, fields: dict[str, str], data_start: int) -> bytes:
    """The uncompressed bytes of the voxels, from this file or from the one it names."""
    data_file = fields["ElementDataFile"]
    local = data_file.upper() == "LOCAL"
    if not local and (data_file.upper().startswith("LIST") or "%" in data_file):
        raise ValueError("its voxels are spread over several files; save it as one file")
    with (path if local else path.parent / data_file).open("rb") as stream:
        stream.seek(data_start if local else max(int(fields.get("HeaderSize", "0")), 0))
        data = stream.read()
    if fields.get("CompressedData", "False").lower() != "true":
        return data
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data)
    except zlib.error as error:
        raise VolumeReadError(f"{path.name} is damaged: its compressed data is corrupt.", EXPORT_AGAIN) from error
