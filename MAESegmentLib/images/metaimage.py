"""MetaImage (`.mha`, `.mhd`) through SimpleITK, which fills in what a cut-off file lacks: so it is measured first."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

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

_ELEMENT_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
_HEADER_LIMIT = 1 << 20
_CHUNK = 1 << 22


def read_metaimage(path: Path) -> DecodedImage:
    """Exactly one 3D grey-value image."""
    try:
        fields, data_start = _header(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("MetaImageIO")
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() > 1:
            refuse_vectors(path, reader.GetNumberOfComponents())
        shape = check_shape(path, reader.GetSize())
        matrix = _ijk_to_ras(reader)
        check_grid(path, shape, matrix)
        _check_length(path, fields, data_start, int(np.prod(shape, dtype=np.int64)))
        array = sitk.GetArrayFromImage(reader.Execute()).reshape(shape[::-1])
    except OSError as error:
        raise unreadable(path, error) from error
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise VolumeReadError(f"{path.name} is not a readable MetaImage: {_last_line(error)}", EXPORT_AGAIN) from error
    return DecodedImage(native(array.T), matrix)


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
            raise ValueError("its header is incomplete (no ElementDataFile).")
        key, value = line.split("=", 1)
        fields[key.strip()] = value.strip()
        position = end + 1 if end >= 0 else len(text)
    return fields, position


def _check_length(path: Path, fields: dict[str, str], data_start: int, voxels: int) -> None:
    data_file = fields["ElementDataFile"]
    local = data_file.upper() == "LOCAL"
    if not local and (data_file.upper().startswith("LIST") or "%" in data_file):
        raise ValueError("its voxels are spread over several files; save it as one file.")
    if fields.get("BinaryData", "True").lower() == "false":
        raise ValueError("its voxels are written as text; save it in binary form.")
    expected = voxels * _ELEMENT_BYTES[fields["ElementType"]]
    source = path if local else path.parent / data_file
    start = data_start if local else max(int(fields.get("HeaderSize", "0")), 0)
    if fields.get("CompressedData", "False").lower() == "true":
        present = _uncompressed_length(path, source, start)
    else:
        present = source.stat().st_size - start
    if present < expected:
        refuse_short(path, expected, max(present, 0))


def _uncompressed_length(path: Path, source: Path, start: int) -> int:
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
    length = 0
    with source.open("rb") as stream:
        stream.seek(start)
        try:
            while chunk := stream.read(_CHUNK):
                length += len(unpack.decompress(chunk))
        except zlib.error as error:
            raise VolumeReadError(f"{path.name} is damaged: its compressed data is corrupt.", EXPORT_AGAIN) from error
    return length


def _ijk_to_ras(reader: sitk.ImageFileReader) -> np.ndarray:
    """(4, 4) from the first three axes of the header."""
    n = reader.GetDimension()
    matrix = np.eye(4)
    if n >= 3:
        directions = np.asarray(reader.GetDirection()).reshape(n, n)[:3, :3]
        matrix[:3, :3] = directions * np.asarray(reader.GetSpacing())[:3]
        matrix[:3, 3] = reader.GetOrigin()[:3]
    return LPS_TO_RAS @ matrix


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
