"""The bytes that a header promises: from regular files beside it, and never more of them than it promises."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ...errors import VolumeReadError
from ..limits import check_regular_file
from .decoded import EXPORT_AGAIN, refuse_empty_file, refuse_short, unreadable

_STEP = 1 << 22
#: Deflate packs 258 bytes into two bits at best: what a header promises beyond that cannot be in the file.
_DEFLATE_AT_MOST = 1032
#: How far packed data may go on behind the voxels before its checksum comes.
_MOST_BEHIND = 1 << 26
#: How much packed data is passed over before the voxels: bzip2 packs gigabytes into a few kilobytes.
_MOST_SKIPPED = 1 << 30

_BAD_HEADER = "its header has a value that cannot be read"
#: Python's words for a text that is not a number, and for what follows from other values that nobody expects.
_NO_NUMBER = re.compile(
    r"(?:(?P<whole>invalid literal for int\(\) with base \d+)|could not convert string to float): (?P<value>.*)",
    re.DOTALL,
)
_OF_PYTHON = re.compile(
    r"sys\.set_int|out of range|\bobject\b|NoneType|\bindex\b|not enough values|too many values|too large to convert|"
    r"cannot convert|must be str|argument|unsupported operand|inhomogeneous|broadcast|reshape"
)

_NUMBER = re.compile(r"%(0?\d{0,2})d")

GZIP, ZLIB, BZIP2, RAW = "gzip", "zlib", "bzip2", "raw"


@contextmanager
def reading(path: Path, broken: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what the system, decompressors and `broken` parsers raise into a `VolumeReadError` about `path`."""
    try:
        yield
    except MemoryError as error:
        raise VolumeReadError(
            f"{path.name} does not fit into memory.", "Close other programs, or crop the scan first."
        ) from error
    except EOFError as error:
        raise VolumeReadError(f"{path.name} is cut off: its compressed data ends too early.", EXPORT_AGAIN) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise VolumeReadError(f"{path.name} is damaged: its compressed data is corrupt.", EXPORT_AGAIN) from error
    except OSError as error:
        if error.errno is None:  # of bz2
            raise VolumeReadError(f"{path.name} is damaged: its compressed data is corrupt.", EXPORT_AGAIN) from error
        raise unreadable(path, error) from error
    except broken as error:
        raise VolumeReadError(f"{path.name} is incomplete or damaged: {_reason(error)}.", EXPORT_AGAIN) from error


def _reason(error: Exception) -> str:
    """What Python says about a bad header, in words for the user."""
    text = str(error).rstrip(".")
    if isinstance(error, KeyError):
        return f"its header lacks {error.args[0]}" if error.args else _BAD_HEADER
    if found := _NO_NUMBER.match(text):
        kind = "whole number" if found["whole"] else "number"
        return f"its header has {found['value'][:80]} where a {kind} is expected"
    return _BAD_HEADER if not text or _OF_PYTHON.search(text) else text


def open_file(path: Path) -> IO[bytes]:
    """`path`, if it is a regular file with something in it."""
    check_regular_file(path)
    stream = path.open("rb")
    if not os.fstat(stream.fileno()).st_size:
        stream.close()
        refuse_empty_file(path)
    return stream


def open_beside(header: Path, name: str) -> IO[bytes]:
    """The file `name` that `header` says holds its voxels: only one that lies in the same folder, not behind a link.

    A header may come from anyone, and must not make us read what else is on this machine.
    """
    text = name.removeprefix("./")
    if not text or text in (".", "..") or any(mark in text for mark in "/\\\0") or Path(text).is_absolute():
        raise VolumeReadError(
            f'{header.name} keeps its voxels in "{name}", which is not a file beside it.',
            "Put the header and its data into one folder, and name the data file alone in the header.",
        )
    path = header.parent / text
    if path.resolve().parent != header.parent.resolve():
        raise VolumeReadError(
            f'{header.name} keeps its voxels in "{name}", a link to another folder, which is not followed.',
            "Copy the data itself beside the header.",
        )
    return open_file(path)


def numbered_names(template: str, first: int, last: int, step: int, most: int) -> list[str]:
    """File names for the numbers from `first` to `last`, each put for the one `%d` or `%03d` of `template`."""
    numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    if not 0 < len(numbers) <= most:
        raise ValueError(f"it numbers its files from {first} to {last} by {step}; from 1 to {most} files are expected")
    parts = _NUMBER.split(template)
    if len(parts) != 3:
        raise ValueError(f'"{template}" does not name its files by one number')
    before, form, after = parts
    return [f"{before}{number:{form}d}{after}" for number in numbers]


def remaining(stream: IO[bytes]) -> int:
    """How many bytes a file that is not packed has from here on."""
    return max(os.fstat(stream.fileno()).st_size - stream.tell(), 0)


def unpacked(stream: IO[bytes], encoding: str) -> IO[bytes]:
    """What `stream`, an open file, holds from here on, unpacked while it is read; it must be one of our encodings."""
    if encoding == GZIP:
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    if encoding == BZIP2:
        return bz2.BZ2File(stream)
    return io.BufferedReader(_Zlib(stream)) if encoding == ZLIB else stream


def check_promise(path: Path, stream: IO[bytes], encoding: str, count: int) -> None:
    """Raise `VolumeReadError` if the open file `stream` cannot hold `count` bytes from here on, packed as it is."""
    if encoding == RAW:
        if remaining(stream) < count:
            refuse_short(path, count, remaining(stream))
        return
    packed = os.fstat(stream.fileno()).st_size
    if encoding != BZIP2 and packed * _DEFLATE_AT_MOST < count:
        raise VolumeReadError(
            f"{path.name} is incomplete: its header promises {count:,} bytes of voxels; {packed:,} bytes of compressed "
            "data cannot hold them.",
            EXPORT_AGAIN,
        )


def skip(path: Path, stream: IO[bytes], count: int, encoding: str = RAW) -> None:
    """Pass over `count` bytes; seeking would take a packed file's word for its size."""
    if encoding != RAW and count > _MOST_SKIPPED:
        raise VolumeReadError(
            f"{path.name} says that its voxels begin after {count:,} bytes of compressed data; at most "
            f"{_MOST_SKIPPED:,} are passed over.",
            "Save the scan alone in its file.",
        )
    left = count
    while left:
        passed = len(stream.read(min(left, _STEP)))
        if not passed:
            raise VolumeReadError(
                f"{path.name} is incomplete: its voxels begin after {count:,} bytes; {count - left:,} are there.",
                EXPORT_AGAIN,
            )
        left -= passed


def take(path: Path, stream: IO[bytes], count: int) -> np.ndarray:
    """The next `count` bytes, (count,) uint8; the caller has checked that so many may be."""
    data = np.empty(count, np.uint8)
    view = data.data
    done = 0
    while done < count:
        read = stream.readinto(view[done : done + _STEP])  # type: ignore[attr-defined]
        if not read:
            refuse_short(path, count, done)
        done += read
    return data


def take_last(path: Path, stream: IO[bytes], count: int) -> np.ndarray:
    """The last `count` bytes of a packed stream, (count,) uint8; never more than two pieces of that size are kept."""
    kept, total = bytearray(), 0
    while piece := stream.read(_STEP):
        kept += piece
        total += len(piece)
        if total > count + _MOST_SKIPPED:
            _refuse_endless(path, total)
        if len(kept) > 2 * count + _STEP:
            del kept[:-count]
    if total < count:
        refuse_short(path, count, total)
    return np.frombuffer(kept, np.uint8)[len(kept) - count :]


def finish(path: Path, stream: IO[bytes]) -> None:
    """Read a packed stream to its end, where its checksum is compared."""
    behind = 0
    while piece := stream.read(_STEP):
        behind += len(piece)
        if behind > _MOST_BEHIND:
            _refuse_endless(path, behind)


def _refuse_endless(path: Path, count: int) -> None:
    raise VolumeReadError(
        f"{path.name} is damaged: its compressed data goes on for more than {count:,} bytes that its header does not "
        "promise.",
        EXPORT_AGAIN,
    )


class _Zlib(io.RawIOBase):
    """Deflated data with zlib's frame, unpacked piece by piece."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._unpack = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._unpack.eof:
            packed = self._unpack.unconsumed_tail or self._stream.read(1 << 16)
            if not packed:
                raise EOFError
            piece = self._unpack.decompress(packed, len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
        return 0
