"""A folder that appears whole or not at all, and stays through a power cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .lock import FileLock

_CHUNK = 2**20


@contextmanager
def being_written(temporary: Path) -> Iterator[None]:
    """The folder `temporary` is some program's unfinished work, and goes in the end.

    A lock beside it, whose folder is made, says so for as long as that program lives, whatever the clocks say.
    """
    temporary.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_of(temporary)
    lock.acquire()
    try:
        yield
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        lock.remove()


def lock_of(temporary: Path) -> FileLock:
    """What `being_written` holds."""
    return FileLock(temporary.with_name(f"{temporary.name}.lock"))


def write_synced(content: IO[bytes], target: Path) -> None:
    """Copy a stream to the new file `target`, whose folders are made, down to the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as stream:
        shutil.copyfileobj(content, stream, _CHUNK)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut (a no-op on Windows, which cannot open folders)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)
