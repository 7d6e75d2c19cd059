"""README.md's tables from results.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from ...tables import Row, read_rows, table, update_page
from .study import Run, Study


def write_report(study: Study, results: Path, folder: Path) -> None:
    """Put each task's table, and the number of runs that are missing, between the marks of `folder`/README.md."""
    rows = read_rows(results)
    tasks = dict.fromkeys(run.task.name for run in study.runs)
    blocks = {
        f"results {task}": results_table(study.runs, [row for row in rows if row["task"] == task], task)
        for task in tasks
    }
    update_page(folder / "README.md", {**blocks, "missing": missing_runs(study.runs, rows)})


def missing_runs(runs: Sequence[Run], rows: Sequence[Row]) -> str:
    """How many have no row yet, and the command of each."""
    done = {(row["task"], row["arm"], row["seed"], row["budget"]) for row in rows}
    missing = [run for run in runs if run.key not in done]
    commands = "\n".join(f'$RUN --only "{run.name}"' for run in missing)
    return f"{len(missing)} of {len(runs)} runs are missing.\n\n```\n{commands}\n```"


def results_table(runs: Sequence[Run], rows: Sequence[Row], task: str) -> str:
    """A line per arm and budget that was run, the best mean first: Dice of every seed, their mean, and structures."""
    structures = list(dict.fromkeys(row["structure"] for row in rows if row["structure"] != "mean"))
    lines: list[tuple[float, float, list[str]]] = []
    for arm, budget in dict.fromkeys((run.arm.name, f"{run.budget:g}") for run in runs if run.task.name == task):
        own = [row for row in rows if row["arm"] == arm and row["budget"] == budget]
        dice = {name: [float(row["dice"]) for row in own if row["structure"] == name] for name in (*structures, "mean")}
        if not dice["mean"]:
            continue
        steps = ", ".join(row["steps"] for row in own if row["structure"] == "mean")
        mean = fmean(dice["mean"])
        cells = [arm, budget, steps, ", ".join(f"{value:.3f}" for value in dice["mean"]), f"**{mean:.3f}**"]
        lines.append((float(budget), -mean, cells + [f"{fmean(dice[name]):.3f}" for name in structures]))
    head = ["arm", "seconds", "steps", "Dice per seed", "mean", *structures]
    return table(head, [cells for *_, cells in sorted(lines)])
