"""The results: three CSVs that are only appended to, from which every table and figure is made again."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from MAESegmentLib.storage.lock import FileLock
from MAESegmentLib.training.loop.results import write_atomically

#: One row per finished run. `measured_on` is "validation", or "check" for the learning-rate search.
RUN_COLUMNS = (
    "run",
    "scale",
    "dataset",
    "arm",
    "labels",
    "seed",
    "measured_on",
    "steps",
    "learning_rate",
    "pretext_steps",
    "parameters",
    "flops",
    "pretext_flops",
    "seconds",
    "pretext_seconds",
    "device",
    "machine",
    "torch",
    "finished",
)
#: One row per run x checkpoint x case x label. `grid` is "network" (the curve, Dice only) or "scan" (the end).
METRIC_COLUMNS = ("run", "step", "grid", "case", "label", "dice", "hd95_mm", "surface_dice")
#: One row per finished pretraining.
PRETEXT_COLUMNS = (
    "pretraining",
    "scale",
    "dataset",
    "pretext",
    "steps",
    "images",
    "parameters",
    "flops",
    "seconds",
    "final_loss",
    "device",
    "machine",
    "torch",
    "finished",
)
RUNS, METRICS, PRETEXTS = "runs.csv", "metrics.csv", "pretexts.csv"
#: What makes two rows of a file the same measurement.
KEYS: dict[str, tuple[str, ...]] = {
    RUNS: ("run",),
    METRICS: ("run", "step", "grid", "case", "label"),
    PRETEXTS: ("pretraining",),
}
COLUMNS = {RUNS: RUN_COLUMNS, METRICS: METRIC_COLUMNS, PRETEXTS: PRETEXT_COLUMNS}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows as text; an absent file has none. Of a measurement that stands there twice, the first counts."""
    if not path.exists():
        return []
    key = KEYS.get(path.name)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if key is None:
        return rows
    unique: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        unique.setdefault(tuple(row[column] for column in key), row)
    return list(unique.values())


def append_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows under the header; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows(rows)


def finished_runs(folder: Path) -> set[str]:
    """Names of the runs that have ended: their row is written last."""
    return {row["run"] for row in read_rows(folder / RUNS)}


def merge(sources: Sequence[Path], out: Path) -> dict[str, int]:
    """Join the result folders of several machines in `out`; how many rows each file has then.

    A run that two of them did is taken whole from the first; rows of runs that did not end are left out.
    """
    taken: dict[str, Path] = {}
    for source in sources:
        for run in sorted(finished_runs(source)):
            taken.setdefault(run, source)
    joined: dict[str, list[dict[str, str]]] = {name: [] for name in COLUMNS}
    seen: set[tuple[str, ...]] = set()
    for source in sources:
        for name in (RUNS, METRICS):
            joined[name] += [row for row in read_rows(source / name) if taken.get(row["run"]) == source]
        for row in read_rows(source / PRETEXTS):
            if (row["pretraining"],) not in seen:
                seen.add((row["pretraining"],))
                joined[PRETEXTS].append(row)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in joined.items():
        write_atomically(out / name, _as_csv(COLUMNS[name], rows))
    return {name: len(rows) for name, rows in joined.items()}


def _as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    import io

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def now() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
