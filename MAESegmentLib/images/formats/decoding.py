"""What the readers of every file format share: the bytes that a header promises and no more, and the refusals."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from ...errors import GeometryError, MAESegmentError, VolumeReadError
from ..limits import check_regular_file
from ..volume import Grid

#: RAS <-> LPS: both are mm, two axes change sign.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

EXPORT_AGAIN = "Copy or export the scan again from its source."
_ONE_FRAME = (
    "Pick one frame: in 3D Slicer load it as a sequence, choose the frame in the Sequence Browser and save that volume."
)
GZIP, ZLIB, BZIP2, RAW = "gzip", "zlib", "bzip2", "raw"
#: Bytes to pass over that mean: the voxels end with the file, whatever stands before them.
AT_THE_END = -1

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
    except (OSError, zlib.error) as error:
        if isinstance(error, zlib.error) or error.errno is None:  # of gzip, bz2
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


@contextmanager
def named(name: str) -> Iterator[None]:
    """Put the `name` of a file or series before what is refused."""
    try:
        yield
    except MAESegmentError as error:
        raise type(error)(f"{name}: {error.message}", error.hint) from error


# --- refusals ---------------------------------------------------------------------------------------------------------


def check_shape(path: Path, shape: Sequence[int]) -> tuple[int, int, int]:
    """The (I, J, K) of a stored `shape`, trailing axes of length 1 dropped; refuses 4D."""
    sizes = [int(n) for n in shape]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 3:
        raise VolumeReadError(
            f"{path.name} is {len(sizes)}D ({' x '.join(map(str, sizes))}): a time series or several channels, "
            "but one 3D volume is needed.",
            _ONE_FRAME,
        )
    i, j, k = (*sizes, *[1] * (3 - len(sizes)))
    return i, j, k


def check_grid(path: Path, shape: tuple[int, int, int], ijk_to_ras: np.ndarray) -> None:
    """`Grid.check` with the file named."""
    with named(path.name):
        Grid(shape, ijk_to_ras).check()


def check_scalar(path: Path, dtype: np.dtype) -> None:
    """Refuse colour (structured) and complex voxels."""
    if dtype.fields is not None:
        refuse_colour(path)
    if dtype.kind == "c":
        raise VolumeReadError(
            f"{path.name} holds complex numbers (raw MR data), not a grey-value image.", "Export the magnitude image."
        )
    if dtype.kind not in "iufb":
        raise VolumeReadError(
            f"{path.name} has voxels of type {dtype}, which is not a grey value.", "Export it as integers or floats."
        )


def refuse_colour(path: Path) -> NoReturn:
    raise VolumeReadError(
        f"{path.name} is a colour (RGB) image; the models need grey values.",
        "Use the original scan rather than a colour overlay or a screenshot of it.",
    )


def refuse_vectors(path: Path, components: int) -> NoReturn:
    raise VolumeReadError(
        f"{path.name} has {components} values per voxel; one 3D volume is needed.",
        f"If these are frames or channels: {_ONE_FRAME}",
    )


def refuse_short(path: Path, expected: int, present: int, hint: str = EXPORT_AGAIN) -> NoReturn:
    """The voxel data has `present` of `expected` bytes."""
    raise VolumeReadError(
        f"{path.name} is incomplete: its header promises {expected:,} bytes of voxels, {present:,} are there.", hint
    )


def refuse_unoriented(path: Path) -> NoReturn:
    raise GeometryError(
        f"{path.name} does not say how it lies in the patient, so left and right cannot be told apart.",
        "Convert the scan again from DICOM with a tool that keeps the orientation (3D Slicer, dcm2niix).",
    )


def unreadable(path: Path, error: OSError) -> VolumeReadError:
    """The operating system's refusal, in words for the user."""
    if isinstance(error, PermissionError):
        return VolumeReadError(f"{path.name} cannot be read: no permission.", "Ask its owner for read permission.")
    if not isinstance(error, FileNotFoundError):
        return VolumeReadError(f"{path.name} cannot be read: {error.strerror or error}.", EXPORT_AGAIN)
    missing = Path(os.fsdecode(error.filename)) if error.filename else path
    if missing.name != path.name:
        return VolumeReadError(
            f"{path.name} keeps its voxels in {missing.name}, which is missing.", "Copy both files together."
        )
    if path.is_symlink():
        return VolumeReadError(
            f"{path.name} is a link to {os.fspath(path.readlink())}, which is not there.",
            "Get the file itself first (of a DataLad or git-annex data set: datalad get).",
        )
    return VolumeReadError(f"{path} does not exist.", "Check the path.")


def native(array: np.ndarray) -> np.ndarray:
    """This machine's byte order; double precision becomes single (float32), as everything downstream computes in it."""
    if array.dtype.kind == "f" and array.dtype.itemsize != 4:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


# --- files ------------------------------------------------------------------------------------------------------------


def open_file(path: Path) -> IO[bytes]:
    """`path`, if it is a regular file with something in it."""
    check_regular_file(path)
    stream = path.open("rb")
    if not os.fstat(stream.fileno()).st_size:
        stream.close()
        raise VolumeReadError(f"{path.name} is empty (0 bytes).", EXPORT_AGAIN)
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


def read_pieces(
    path: Path, stream: IO[bytes], names: Sequence[str], count: int, read: Callable[[IO[bytes], int], np.ndarray]
) -> np.ndarray:
    """`count` items, an equal share of each of the files `names` beside `path`; of `stream` if there are none.

    `read(stream, count)` reads a share.
    """
    if not names:
        return read(stream, count)
    pieces = []
    for name in names:
        with open_beside(path, name) as data:
            pieces.append(read(data, count // len(names)))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


# --- bytes ------------------------------------------------------------------------------------------------------------


class StoredBytes:
    """What the open `file` holds from here on, unpacked while it is read; `path` is named in messages."""

    def __init__(self, path: Path, file: IO[bytes], encoding: str = RAW) -> None:
        self._path, self._file, self._is_raw = path, file, encoding == RAW
        # Deflate bounds how much a file of some length can hold; bzip2 does not.
        self._most = math.inf if encoding == BZIP2 else _DEFLATE_AT_MOST * os.fstat(file.fileno()).st_size
        self._content: IO[bytes] = file
        if encoding == GZIP:
            self._content = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
        elif encoding == BZIP2:
            self._content = bz2.BZ2File(file)
        elif encoding == ZLIB:
            self._content = io.BufferedReader(_Zlib(file))

    def read(self, count: int) -> bytes:
        return self._content.read(count)

    def check_promise(self, count: int) -> None:
        """Raise `VolumeReadError` if `count` bytes cannot be here."""
        if self._is_raw and self._remaining < count:
            refuse_short(self._path, count, self._remaining)
        if not self._is_raw and self._most < count:
            raise VolumeReadError(
                f"{self._path.name} is incomplete: its header promises {count:,} bytes of voxels; its compressed data "
                f"cannot hold more than {self._most:,}.",
                EXPORT_AGAIN,
            )

    @property
    def _remaining(self) -> int:
        return max(os.fstat(self._file.fileno()).st_size - self._file.tell(), 0)

    def take_behind(self, before: int, count: int) -> np.ndarray:
        """The `count` bytes behind the first `before`, or `AT_THE_END`; packed data is read to its checksum."""
        self.check_promise(count + max(before, 0))
        if before == AT_THE_END and not self._is_raw:
            return self._take_last(count)
        self.skip(self._remaining - count if before == AT_THE_END else before)
        data = self.take(count)
        self.finish()
        return data

    def skip(self, count: int) -> None:
        """Pass over `count` bytes; seeking would take a packed file's word for its size."""
        if not self._is_raw and count > _MOST_SKIPPED:
            raise VolumeReadError(
                f"{self._path.name} says that its voxels begin after {count:,} bytes of compressed data; at most "
                f"{_MOST_SKIPPED:,} are passed over.",
                "Save the scan alone in its file.",
            )
        left = count
        while left:
            passed = len(self.read(min(left, _STEP)))
            if not passed:
                raise VolumeReadError(
                    f"{self._path.name} is incomplete: its voxels begin after {count:,} bytes; {count - left:,} are "
                    "there.",
                    EXPORT_AGAIN,
                )
            left -= passed

    def take(self, count: int) -> np.ndarray:
        """The next `count` bytes, (count,) uint8; the caller has checked that so many may be."""
        data = np.empty(count, np.uint8)
        view = data.data
        done = 0
        while done < count:
            read = self._content.readinto(view[done : done + _STEP])  # type: ignore[attr-defined]
            if not read:
                refuse_short(self._path, count, done)
            done += read
        return data

    def _take_last(self, count: int) -> np.ndarray:
        """Of a packed stream; never more than two pieces of that size are kept."""
        kept, total = bytearray(), 0
        while piece := self.read(_STEP):
            kept += piece
            total += len(piece)
            self._check_end(total - count, _MOST_SKIPPED)
            if len(kept) > 2 * count + _STEP:
                del kept[:-count]
        if total < count:
            refuse_short(self._path, count, total)
        return np.frombuffer(kept, np.uint8)[len(kept) - count :]

    def finish(self) -> None:
        """Read packed data to its end, where its checksum is compared."""
        behind = 0
        while not self._is_raw and (piece := self.read(_STEP)):
            behind += len(piece)
            self._check_end(behind, _MOST_BEHIND)

    def _check_end(self, behind: int, most: int) -> None:
        if behind > most:
            raise VolumeReadError(
                f"{self._path.name} is damaged: its compressed data goes on for more than {behind:,} bytes that its "
                "header does not promise.",
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


def write_packed(stream: IO[bytes], data: bytes) -> None:
    """As gzip, the same bytes for the same data."""
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=4, mtime=0) as packed:
        packed.write(data)
