"""Folders with patients' data: nobody but their owner may read them."""

from __future__ import annotations

from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it with mode 0700 (on Windows as its parent); `OSError` if that fails.

    What is there already keeps its mode: it may be shared with a group on purpose.
    """
    missing = [folder]
    while not missing[-1].parent.is_dir() and missing[-1].parent != missing[-1]:
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
