"""A zip's own table of contents, measured before anything is made of it."""

from __future__ import annotations

import struct
import zipfile
from typing import IO, Any

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")


_ENTRY = struct.Struct("<4s24x3H12x")
_LONGEST_COMMENT = (1 << 16) - 1


class DirectoryTooLong(zipfile.BadZipFile):
    """There are more entries, or more bytes about them, than may be read."""


def check_directory(
    stream: IO[bytes], most_bytes: int, most_entries: int | None = None, *, may_have_comment: bool = False
) -> None:
    """Raise `zipfile.BadZipFile` unless `stream` ends with a zip's table of contents of at most `most_bytes`.

    Each entry takes 46 bytes or more there, but ten times as much once `zipfile` has read it: with `most_entries` they
    are counted, since the number that the zip gives need not be true. A comment after the table is refused unless
    `may_have_comment`: readers differ in how they look for the table before it. It is then looked for as by `zipfile`.
    """
    size = stream.seek(0, 2)
    at = size - _END.size
    end = _read(stream, at, _END)
    if may_have_comment and (end is None or end[0] != b"PK\x05\x06" or end[7] != 0):
        first = max(0, at - _LONGEST_COMMENT)
        stream.seek(first)
        at = first + stream.read().rfind(b"PK\x05\x06")
        end = _read(stream, at, _END) if at >= first else None
    if end is None or end[0] != b"PK\x05\x06" or (end[7] != 0 and not may_have_comment):
        raise zipfile.BadZipFile("its directory is missing")
    directory, offset = end[5], end[6]
    locator = _read(stream, at - _LOCATOR.size, _LOCATOR)
    if locator is not None and locator[0] == b"PK\x06\x07":
        at -= _LOCATOR.size + _END_64.size
        end_64 = _read(stream, at, _END_64)
        if end_64 is None or end_64[0] != b"PK\x06\x06":
            raise zipfile.BadZipFile("its directory is damaged")
        directory, offset = end_64[8], end_64[9]
    if directory > most_bytes:
        raise DirectoryTooLong(f"its directory of {directory} bytes is far too long")
    if offset + directory > at:
        raise zipfile.BadZipFile("its directory is damaged")
    if most_entries is not None:
        _check_entries(stream, at - directory, at, most_entries)
    stream.seek(0)


def _check_entries(stream: IO[bytes], begin: int, end: int, most: int) -> None:
    for _entry in range(most):
        if begin >= end:
            return
        found = _read(stream, begin, _ENTRY)
        if found is None or found[0] != b"PK\x01\x02":
            raise zipfile.BadZipFile("its directory is damaged")
        begin += _ENTRY.size + sum(found[1:])
    if begin < end:
        raise DirectoryTooLong(f"its directory has more than {most} entries")


def _read(stream: IO[bytes], position: int, form: struct.Struct) -> tuple[Any, ...] | None:
    if position < 0:
        return None
    stream.seek(position)
    data = stream.read(form.size)
    return form.unpack(data) if len(data) == form.size else None
