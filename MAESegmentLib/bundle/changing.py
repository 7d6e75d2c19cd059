"""Versions enter and leave the user's models: each by one rename, under a lock that all programs share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..errors import BundleError, refused
from ..storage.atomic_file import sync
from ..storage.atomic_folder import publish, recover, remove, writing
from ..storage.lock import FileLock
from ..storage.user_folders import conversion_file
from .folder import METADATA, Bundle


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
        hint = "Choose another with the environment variable MAESEGMENT_MODELS."
        raise refused(f"The folder of your models, {folder}, cannot be made", error, hint) from error
    with FileLock(folder / ".lock", busy=f"Another program is changing the models in {folder}."):
        for one in (folder, *(path for path in folder.glob("[!.]*") if path.is_dir())):
            with suppress(OSError):
                recover(one)
        yield


def copy_in(source: Bundle, target: Path) -> None:
    """Copy the files of `source` to `target`, complete or not at all. For the lock's holder."""
    try:
        target.parent.mkdir(exist_ok=True)
        with writing(target) as staging:
            copy_files(source, staging)
            move_in(replace(source, path=staging), target)
    except OSError as error:
        raise refused(f"Model {source.name} {source.version} could not be put among your models", error) from error


def copy_files(bundle: Bundle, folder: Path) -> None:
    for name in [METADATA, *bundle.metadata["maesegment"]["files"]]:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(bundle.path / name, folder / name)


def move_in(staged: Bundle, target: Path) -> None:
    """Rename the finished folder of `staged` to `target`. For the lock's holder."""
    try:
        target.parent.mkdir(exist_ok=True)
        publish(staged.path, target)
    except FileExistsError:
        raise VersionTaken(
            f"There is something else in {target} already, perhaps a damaged model.",
            "Remove it, or save the model under another version; a version never changes.",
        ) from None
    sync(target.parent.parent)


def take_out(bundle: Bundle) -> None:
    """Make `bundle` vanish by one rename, then delete it. For the lock's holder."""
    try:
        remove(bundle.path)
    except OSError as error:
        hint = "Check that you may write there and that no other program uses it."
        raise refused(f"Model {bundle.name} {bundle.version} could not be removed", error, hint) from error
    with suppress(OSError):
        conversion_file(bundle.path.parents[1], bundle.content_hash).unlink(missing_ok=True)
        bundle.path.parent.rmdir()  # if it was the name's last version
