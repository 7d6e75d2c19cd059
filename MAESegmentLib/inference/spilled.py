"""Sums of class scores that may be larger than memory: beyond a bound they lie in a temporary file."""

from __future__ import annotations

import errno
import logging
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np

from ..arrays import zeros
from ..device import Device

_log = logging.getLogger(__name__)

#: Sums of up to so many bytes stay in memory. 61 classes of a large CT take gigabytes.
IN_MEMORY = 256 * 2**20
#: So much of the file stays mapped between two calls of `release`.
_MAPPED = 64 * 2**20


class SpilledTensor:
    """`rows` is float32 zeros of `shape` on `device`: in memory if small or on a GPU, else in a file without a name.

    The system writes the file's pages to disk when it needs the memory, and keeps them cached otherwise. Without
    `release`, all of them would count as this process's own memory.
    """

    def __init__(self, shape: tuple[int, ...], device: Device, *, in_memory: int | None = None) -> None:
        """`in_memory` (bytes) takes the place of `IN_MEMORY`."""
        size = 4 * math.prod(shape)
        bound = IN_MEMORY if in_memory is None else in_memory
        self._map = _map_file(size) if device.type == "cpu" and size > bound else None
        if self._map is None:
            self.rows = zeros(shape, device)
        else:
            self.rows = np.frombuffer(self._map, np.float32).reshape(shape)
        self._row_bytes = size // shape[0]
        self._mapped = 0

    @property
    def is_in_memory(self) -> bool:
        return self._map is None

    def pieces(self, first: int) -> Iterator[tuple[slice, slice]]:
        """Every row once, from row `first` to the last and from row 0 to there: (rows, their places in that order).

        As few pieces as there can be, of as many rows as may be used between two calls of `release`.
        """
        count = len(self.rows)
        step = count if self._map is None else max(1, _MAPPED // self._row_bytes)
        for begin, end in ((first, count), (0, first)):
            for row in range(begin, end, step):
                stop = min(row + step, end)
                place = (row - first) % count
                yield slice(row, stop), slice(place, place + stop - row)

    def release(self, rows: slice) -> None:
        """To be called after `rows` were used; their values stay."""
        if self._map is None:
            return
        self._mapped += self._row_bytes * (rows.stop - rows.start)
        if self._mapped >= _MAPPED and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._mapped = 0


def _map_file(size: int) -> mmap.mmap | None:
    """`size` zero bytes; None if the disk has no room, which would else end the process at some later write."""
    try:
        folder = _folder()
        if shutil.disk_usage(folder).free < 2 * size:  # others need some, too
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile(prefix="maesegment-", dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except (OSError, ValueError) as error:
        _log.warning("No temporary file of %.1f GiB (%s): using memory.", size / 2**30, error)
        return None


def _folder() -> str:
    """On many systems /tmp is memory; /var/tmp is on a disk. A choice by TMPDIR counts."""
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK):
        return "/var/tmp"
    return tempfile.gettempdir()
