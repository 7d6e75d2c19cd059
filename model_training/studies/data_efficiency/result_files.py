"""The results: three CSVs that are only appended to, from which every table and figure is made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import tables

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
#: Dice of the check cases at the end, where the plan asks for it: what may choose something.
CHECK_GRID = "check"
#: One row per run x checkpoint x case x label. `grid` is "network" (the curve, Dice only), "scan" (the end) or "check".
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


def read_rows(path: Path) -> list[tables.Row]:
    """Rows as text; a missing file has none. Of a measurement that stands there twice, the first counts."""
    return tables.read_rows(path, KEYS.get(path.name, ()))


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to one of the three files; several processes may do so at once."""
    tables.append_rows(path, COLUMNS[path.name], rows)


def finished_runs(folder: Path) -> set[str]:
    """Names of the runs that have ended: their row is written last."""
    return {row["run"] for row in read_rows(folder / RUNS)}


def merge(sources: Sequence[Path], out: Path) -> dict[str, int]:
    """Join the result folders of several machines in `out`; how many rows each file has then.

    A run that two of them did is taken whole from the first; rows of runs that did not end are left out.
    """
    taken: dict[str, Path] = {}
    for source in sources:
        for run in finished_runs(source):
            taken.setdefault(run, source)
    joined = {
        name: [row for source in sources for row in read_rows(source / name) if taken.get(row["run"]) == source]
        for name in (RUNS, METRICS)
    }
    joined[PRETEXTS] = tables.merge_rows([source / PRETEXTS for source in sources], KEYS[PRETEXTS])
    for name, rows in joined.items():
        tables.write_rows(out / name, COLUMNS[name], rows)
    return {name: len(rows) for name, rows in joined.items()}
