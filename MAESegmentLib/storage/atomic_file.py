"""A file that appears complete or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError, refused

_PREFIX = ".tmp-"
#: On network disks, and for a folder that may be written to but not listed.
_NO_SYNC_OF_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success it takes `path`'s place, on failure it is removed.

    The temporary name ends like `path`, because writers choose the format by the extension.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise refused(f"{path} cannot be written", error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | str) -> None:
    """Replace the whole content of `path` (text as UTF-8), or nothing; `OutputError` if it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def remove_unfinished_files(folder: Path, suffix: str = "") -> None:
    """Delete what killed processes were writing in `folder`, where nobody else may be writing (files of `suffix`)."""
    for file in folder.glob(f"{_PREFIX}*{suffix}"):
        if file.is_file():
            file.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file's content on the disk, or the renames in a folder (where the file system can do that)."""
    is_folder = path.is_dir()
    if os.name == "nt" and is_folder:
        return
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NO_SYNC_OF_FOLDERS):
            raise


def check_writable(path: Path) -> None:
    """Raise now what `replacing` would raise about the place."""
    temporary = _temporary_beside(path)
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise refused(f"{path} cannot be written", error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    try:
        has_parent, is_folder = path.parent.is_dir(), path.is_dir()
    except OSError as error:  # a folder above may not be entered
        raise refused(f"{path} cannot be written", error) from error
    if not has_parent:
        why = f"{path.parent} is not a folder" if path.parent.exists() else f"the folder {path.parent} does not exist"
        raise OutputError(f"{path.name} cannot be written: {why}.", "Choose another folder, or create it first.")
    if is_folder:
        raise OutputError(f"{path.name} cannot be written: it is a folder.", "Give the name of a file.")
    return path.parent / f"{_PREFIX}{uuid.uuid4().hex[:12]}{''.join(path.suffixes[-2:])}"
