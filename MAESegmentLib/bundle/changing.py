"""Versions enter and leave the user's models: each by one rename, under a lock that all programs share."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BundleError, OutputError, remedy
from ..storage.atomic_folder import lock_of, sync_folder, write_synced
from ..storage.lock import FileLock
from .folder import METADATA, Bundle, publish

#: Names of folders that exist only while their maker holds the lock; whoever holds it next may delete them.
_UNDER_LOCK = (".adding-", ".removed-")


class VersionTaken(BundleError):
    """The name and version are those of another model, which never changes."""

    code = "version_taken"


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """The right to change the user's models in `folder`, which is made; what others left half done is cleared first.

    `OutputError` if it cannot be written to, or is changed by another program for too long.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder of your models, {folder}, cannot be made: {error.strerror or error}.",
            "Choose another with the environment variable MAESEGMENT_MODELS.",
        ) from error
    with FileLock(folder / ".lock", busy=f"Another program is changing the models in {folder}."):
        _clear_leftovers(folder)
        yield


def copy_in(source: Bundle, store_folder: Path, target: Path) -> None:
    """Copy the files of `source` to `target` within `store_folder`, complete or not at all. For the lock's holder."""
    staging = store_folder / f"{_UNDER_LOCK[0]}{uuid.uuid4().hex[:8]}.part"
    try:
        names = [METADATA, *source.metadata["maesegment"]["files"]]
        for name in names:
            with (source.path / name).open("rb") as content:
                write_synced(content, staging / name)
        for folder in {(staging / name).parent for name in names} | {staging}:
            sync_folder(folder)
        move_in(staging, target)
    except OSError as error:
        raise OutputError(
            f"Model {source.name} {source.version} could not be put among your models: {error.strerror or error}.",
            remedy(error),
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def move_in(staging: Path, target: Path) -> None:
    """Rename the finished folder `staging` to `target`. For the lock's holder."""
    if target.exists() and any(target.iterdir()):
        raise VersionTaken(
            f"There is something else in {target} already, perhaps a damaged model.",
            "Remove it, or save the model under another version; a version never changes.",
        )
    target.parent.mkdir(exist_ok=True)
    publish(staging, target)
    sync_folder(target.parent.parent)


def take_out(bundle: Bundle, store_folder: Path) -> None:
    """Make `bundle` vanish by one rename, then delete it. For the lock's holder."""
    hidden = store_folder / f"{_UNDER_LOCK[1]}{uuid.uuid4().hex[:8]}"
    try:
        bundle.path.rename(hidden)
        sync_folder(bundle.path.parent)
        sync_folder(store_folder)
    except OSError as error:
        raise OutputError(
            f"Model {bundle.name} {bundle.version} could not be removed: {error.strerror or error}.",
            "Check that you may write there and that no other program uses it.",
        ) from error
    shutil.rmtree(hidden, ignore_errors=True)
    with suppress(OSError):
        bundle.path.parent.rmdir()  # if it was the name's last version


def _clear_leftovers(folder: Path) -> None:
    """Delete what writers that were killed left behind: hidden folders that nobody can be working on any more."""
    hidden = [path for path in folder.glob(".*") if path.is_dir()]
    hidden += [path for path in folder.glob("*/.*.part") if path.is_dir()]
    for path in hidden:
        under_lock = path.parent == folder and path.name.startswith(_UNDER_LOCK)
        if not path.is_symlink() and (
            under_lock or (path.suffix == ".part" and not lock_of(path).is_held_by_another())
        ):
            shutil.rmtree(path, ignore_errors=True)
    _remove_free_locks([*folder.glob(".*.part.lock"), *folder.glob("*/.*.part.lock")])
    for file in folder.glob(".selected.json-*.part"):
        with suppress(OSError):
            file.unlink()


def _remove_free_locks(paths: Sequence[Path]) -> None:
    """Of writers that were killed."""
    for path in paths:
        lock = FileLock(path)
        with suppress(OutputError):
            if lock.try_acquire():
                lock.remove()
