"""The case folders of a store: each appears, is replaced and disappears by renaming, whenever its writer is killed.

A hidden folder is `.case-0001.new-<random>` (being written), `.old-` (replaced, or about to be) or `.removed-`. All but
reading is for the holder of the store's lock.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from pathlib import Path

from ..errors import DatasetError
from ..storage.atomic_folder import sync_files, sync_folder

_CASE = re.compile(r"case-(\d{4,9})")
_HIDDEN = re.compile(r"\.(case-\d{4,9})\.(new|old|removed)-[0-9a-f]+")
#: What `storage.atomic_file.replacing` leaves behind if its process is killed.
_TEMPORARY_FILES = ".tmp-*"


def case_name(number: int) -> str:
    return f"case-{number:04d}"


def case_number(name: str) -> int:
    """0 if it is no case's name."""
    match = _CASE.fullmatch(name)
    return int(match[1]) if match else 0


def look(store: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The folders of all cases, sound or not, by number; and (hidden folder, name) of those out of their place.

    These are being replaced, or were when their writer was killed. Both are seen at one moment. `DatasetError` if the
    store cannot be read.
    """
    try:
        with os.scandir(store) as entries:
            names = {entry.name for entry in entries if entry.is_dir()}
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        raise DatasetError(
            f"The cases in {store} cannot be read: {error.strerror or error}.",
            "Check that the disk is connected, and ask for permission to read the folder.",
        ) from error
    cases = sorted((name for name in names if case_number(name)), key=case_number)
    hidden = [match for match in map(_HIDDEN.fullmatch, sorted(names)) if match]
    torn = [(store / match[0], match[1]) for match in hidden if match[2] == "old" and match[1] not in names]
    return [store / name for name in cases], torn


def case_folders(store: Path) -> list[Path]:
    """Those of all cases in their place, sound or not, by number."""
    return look(store)[0]


def begin(store: Path, name: str) -> Path:
    """A new hidden folder to write the case `name` to."""
    folder = _hidden(store / name, "new")
    folder.mkdir()
    return folder


def publish(written: Path, target: Path) -> None:
    """Put the finished folder `written` in the place of `target`, which may be there; down to the disk."""
    sync_files(written)
    if not target.exists():
        written.rename(target)
        sync_folder(target.parent)
        return
    old = _hidden(target, "old")
    target.rename(old)
    try:
        written.rename(target)
    except OSError:
        old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def retire(target: Path) -> None:
    """Take the case away; its files may stay, hidden, until the next writer comes."""
    removed = _hidden(target, "removed")
    target.rename(removed)
    sync_folder(target.parent)
    shutil.rmtree(removed, ignore_errors=True)


def recover(store: Path) -> None:
    """Put every case back in its place, and delete what dead writers left."""
    for old, name in look(store)[1]:
        old.rename(store / name)
        sync_folder(store)
    for path in list(store.iterdir()):
        if _HIDDEN.fullmatch(path.name) and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    for folder in (store, *case_folders(store)):
        for file in folder.glob(_TEMPORARY_FILES):
            if file.is_file():
                file.unlink(missing_ok=True)


def _hidden(target: Path, state: str) -> Path:
    return target.parent / f".{target.name}.{state}-{uuid.uuid4().hex[:12]}"
