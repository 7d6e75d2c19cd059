"""The results: one CSV, appended to run by run, from which the table is made again."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MAESegmentLib.storage.lock import FileLock

from .study import Run

COLUMNS = ("task", "arm", "seed", "budget", "structure", "dice", "cases", "steps", "seconds")


def read_results(path: Path) -> list[dict[str, str]]:
    """Rows as text; an absent file has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def finished_runs(path: Path) -> set[tuple[str, str, str, str]]:
    """`Run.key` of every run in the file: its rows are written together, after its end."""
    return {(row["task"], row["arm"], row["seed"], row["budget"]) for row in read_results(path)}


def append_run(path: Path, run: Run, measured: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows of a finished run; several processes may do so at once."""
    fixed = dict(zip(COLUMNS, run.key, strict=False))
    with FileLock(path.with_name(f".{path.name}.lock")):
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows({**fixed, **row} for row in measured)
