"""The folders of a store's cases: their names, and which of them are being replaced."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import DatasetError
from ..storage.atomic_file import remove_unfinished_files
from ..storage.atomic_folder import recover, replaced

_CASE = re.compile(r"case-(\d{4,9})")


def case_name(number: int) -> str:
    return f"case-{number:04d}"


def case_number(name: str) -> int:
    """0 if it is not a case's name."""
    match = _CASE.fullmatch(name)
    return int(match[1]) if match else 0


def case_folders(store: Path) -> list[Path]:
    """Those of all cases in their place, sound or not, by number."""
    return case_folders_and_replaced(store)[0]


def case_folders_and_replaced(store: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Those of all cases by number, and (hidden folder, name) of those that are being replaced, or were when their
    writer was killed. Both are seen at one moment. `DatasetError` if the store cannot be read."""
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
    torn = [(store / hidden, name) for hidden, name in replaced(names).items() if case_number(name)]
    return [store / name for name in cases], torn


def recover_cases(store: Path) -> None:
    """Put every case back in its place, and delete what dead writers left; for the holder of the store's lock."""
    recover(store)
    for folder in case_folders(store):
        remove_unfinished_files(folder)
