"""A file that appears complete or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success it takes `path`'s place, on failure it is removed.

    The temporary name ends like `path`, because writers choose the format by the extension.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise now what `replacing` would raise about the place."""
    temporary = _temporary_beside(path)
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    try:
        has_parent, is_folder = path.parent.is_dir(), path.is_dir()
    except OSError as error:  # a folder above may not be entered
        raise _output_error(path, error) from error
    if not has_parent:
        raise OutputError(
            f"{path.name} cannot be written: the folder {path.parent} does not exist.", "Create the folder first."
        )
    if is_folder:
        raise OutputError(f"{path.name} cannot be written: it is a folder.", "Give the name of a file.")
    return path.parent / f".tmp-{uuid.uuid4().hex[:12]}{''.join(path.suffixes[-2:])}"


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in _NO_SPACE:
        return OutputError(
            f"{path.name} cannot be written: the disk (or your quota) is full.", "Free some space, then try again."
        )
    if error.errno in _NO_PERMISSION:
        return OutputError(
            f"{path.name} cannot be written: no permission to write in {path.parent}.",
            "Choose a folder of your own, or ask for write permission.",
        )
    return OutputError(
        f"{path.name} cannot be written: {error.strerror or error}.", "Choose another place, then try again."
    )
