"""A folder that appears, is replaced and disappears by one rename, whenever its writer is killed or power fails.

A hidden folder is `.NAME.new-<random>` (being written), `.old-` (replaced, or about to be) or `.removed-`. Its writer
holds the lock of the folder that it is in, or a lock of its own beside it (`<hidden folder>.lock`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError
from .atomic_file import remove_unfinished_files, sync
from .lock import FileLock

#: The other forms are those of earlier versions.
_HIDDEN = re.compile(r"\.(.+)\.(new|old|removed)-[0-9a-f]+|\..+\.part|\.removed-[0-9a-f]+")


@contextlib.contextmanager
def writing(target: Path, *, mode: int = 0o777, own_lock: bool = False) -> Iterator[Path]:
    """Yield a new hidden folder beside `target`, to fill and to `publish`; what is left of it in the end is deleted.

    Unless the caller holds the lock of `target`'s parent, `own_lock` tells `recover` for as long as this process lives
    that it is at work; then the parent is made, too.
    """
    written = _hidden(target, "new")
    lock = lock_beside(written)
    if own_lock:
        written.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        written.mkdir(mode=mode)
        yield written
    finally:
        shutil.rmtree(written, ignore_errors=True)
        if own_lock:
            lock.remove()


def lock_beside(written: Path) -> FileLock:
    """What a writer without the parent's lock holds."""
    return FileLock(written.with_name(f"{written.name}.lock"))


def publish(written: Path, target: Path, *, replace: bool = False) -> None:
    """Put the finished folder `written` in the place of `target`; `FileExistsError` if that is taken, unless `replace`.

    An empty folder is no obstacle. All of it is on the disk when this returns.
    """
    _sync_tree(written)
    old = None
    if target.exists():
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        elif replace:
            old = _hidden(target, "old")
            target.rename(old)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        written.rename(target)
    except OSError:
        if old is not None:
            old.rename(target)
        raise
    sync(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def remove(target: Path) -> None:
    """Take the folder away; its files may stay, hidden, until the next `recover`."""
    removed = _hidden(target, "removed")
    target.rename(removed)
    sync(target.parent)
    shutil.rmtree(removed, ignore_errors=True)


def replaced(names: set[str]) -> dict[str, str]:
    """Of the names in one folder: hidden folder -> name of what is out of its place, as its writer is or was at it."""
    matches = [match for match in map(_HIDDEN.fullmatch, sorted(names)) if match]
    return {match[0]: match[1] for match in matches if match[2] == "old" and match[1] not in names}


def recover(parent: Path) -> None:
    """Put back what is out of its place, and delete what killed writers left. For the holder of `parent`'s lock."""
    for hidden, name in replaced({path.name for path in parent.iterdir()}).items():
        (parent / hidden).rename(parent / name)
        sync(parent)
    for path in list(parent.iterdir()):
        if _HIDDEN.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            if not lock_beside(path).is_held_by_another():
                shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".lock" and _HIDDEN.fullmatch(path.stem):
            lock = FileLock(path)
            with contextlib.suppress(OutputError):
                if lock.try_acquire():
                    lock.remove()
    remove_unfinished_files(parent)


def _hidden(target: Path, state: str) -> Path:
    return target.parent / f".{target.name}.{state}-{uuid.uuid4().hex[:12]}"


def _sync_tree(folder: Path) -> None:
    for path, _folders, files in os.walk(folder, topdown=False):
        for file in files:
            sync(Path(path, file))
        sync(Path(path))
