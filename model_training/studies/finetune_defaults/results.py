"""The results: one CSV, appended to run by run, from which everything else is made again."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MAESegmentLib.storage.lock import FileLock

from .study import FACTORS, Run, Scenario

COLUMNS = (
    "scenario",
    "run",
    "cases",
    "seed",
    *FACTORS,
    "step",
    "weights",
    "part",
    "label",
    "measured",
    "dice",
    "sd",
    "seconds",
)


def read_results(path: Path) -> list[dict[str, str]]:
    """Rows as text; an absent file has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def finished_runs(path: Path) -> set[tuple[str, str]]:
    """(scenario, run) of every run in the file: rows of a run are written together, after its end."""
    return {(row["scenario"], row["run"]) for row in read_results(path)}


def append_run(path: Path, scenario: Scenario, run: Run, measured: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows of a finished run; several processes may do so at once."""
    fixed = {"scenario": scenario.name, "run": run.name, "cases": run.cases, "seed": run.seed, **run.values}
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows({**fixed, **row} for row in measured)


def merge_results(paths: Sequence[Path], out: Path) -> None:
    """Join result files of several machines; a run that is in two of them is taken from the first."""
    taken: dict[tuple[str, str], int] = {}
    rows: list[dict[str, str]] = []
    for number, path in enumerate(paths):
        rows += [row for row in read_results(path) if taken.setdefault((row["scenario"], row["run"]), number) == number]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
