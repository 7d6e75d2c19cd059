"""README.md's tables from results.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from MAESegmentLib.inference.settings import SHIFTED

from ...tables import Row, read_rows, table, update_page
from ..recipe.measuring import Ways
from ..recipe.report import missing_runs, results_table
from ..recipe.study import Run, Study

COLUMNS = (
    *("task", "arm", "seed", "budget", "averaging", "structure"),
    *("dice", "cases", "steps", "seconds", "seconds_a_case"),
)
#: What predictions are averaged over; mirrored copies only where a model was trained on mirrored patches. Windows
#: overlap by a quarter, but for the last, which takes about the time of "shifted" without mirrored copies.
WAYS: Ways = {
    "off": {},
    "mirrored": {"mirroring": True},
    "shifted": {"mirroring": SHIFTED},
    "overlap 50 %": {"overlap": 0.5},
}


def write_report(study: Study, results: Path, folder: Path) -> None:
    """Refresh the marked parts of `folder`/README.md."""
    rows = read_rows(results)
    blocks = {"missing": missing_runs(study.runs, rows)}
    for task in dict.fromkeys(run.task.name for run in study.runs):
        own = [row for row in rows if row["task"] == task]
        blocks[f"arms {task}"] = results_table(study.runs, [row for row in own if row["averaging"] == "off"], task)
        blocks[f"averaging {task}"] = _averaging(study.runs, own, task)
    update_page(folder / "README.md", blocks)


def _averaging(runs: Sequence[Run], rows: Sequence[Row], task: str) -> str:
    """A line per arm and budget that was run, means over seeds: Dice, and processor seconds a case."""
    lines = []
    for arm, budget in dict.fromkeys((run.arm.name, f"{run.budget:g}") for run in runs if run.task.name == task):
        own = [row for row in rows if (row["arm"], row["budget"], row["structure"]) == (arm, budget, "mean")]
        cells = [_cell([row for row in own if row["averaging"] == way]) for way in WAYS]
        if own:
            lines.append([arm, budget, str(len({row["seed"] for row in own})), *cells])
    return table(["arm", "seconds", "seeds", *(f"{way}: Dice (s a case)" for way in WAYS)], lines)


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return "-"
    dice, seconds = (fmean(float(row[column]) for row in rows) for column in ("dice", "seconds_a_case"))
    return f"{dice:.3f} ({seconds:.1f})"
