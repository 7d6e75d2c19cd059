"""A zip's own table of contents, measured before anything is made of it."""

from __future__ import annotations

import struct
import zipfile
from typing import IO, Any

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")


def check_directory(stream: IO[bytes], most_bytes: int) -> None:
    """Raise `zipfile.BadZipFile` unless `stream` ends with a zip's table of contents of at most `most_bytes`.

    Each entry takes 46 bytes or more there, but ten times as much once `zipfile` has read it. A comment after the table
    is refused: readers differ in how they look for the table before it.
    """
    size = stream.seek(0, 2)
    end = _read(stream, size - _END.size, _END)
    if end is None or end[0] != b"PK\x05\x06" or end[7] != 0:
        raise zipfile.BadZipFile("its directory is missing")
    directory, offset = end[5], end[6]
    locator = _read(stream, size - _END.size - _LOCATOR.size, _LOCATOR)
    if locator is not None and locator[0] == b"PK\x06\x07":
        end_64 = _read(stream, size - _END.size - _LOCATOR.size - _END_64.size, _END_64)
        if end_64 is None or end_64[0] != b"PK\x06\x06":
            raise zipfile.BadZipFile("its directory is damaged")
        directory, offset = end_64[8], end_64[9]
    if directory > most_bytes:
        raise zipfile.BadZipFile(f"its directory of {directory} bytes is far too long")
    if offset + directory > size:
        raise zipfile.BadZipFile("its directory is damaged")
    stream.seek(0)


def _read(stream: IO[bytes], position: int, form: struct.Struct) -> tuple[Any, ...] | None:
    if position < 0:
        return None
    stream.seek(position)
    return form.unpack(stream.read(form.size))
