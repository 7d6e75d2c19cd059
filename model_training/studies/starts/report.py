"""README.md's tables from results.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from ...tables import Row, read_rows, table, update_page
from .study import Run, Study


def write_report(study: Study, results: Path, folder: Path) -> None:
    """Put each task's table, and the commands of the runs that are missing, between the marks of `folder`/README.md."""
    rows = read_rows(results)
    done = {(row["task"], row["start"], row["seed"], row["budget"]) for row in rows}
    missing = [run for run in study.runs if run.key not in done]
    commands = "\n".join(f'$RUN --only "{run.name}"' for run in missing)
    blocks = {"missing": f"{len(missing)} of {len(study.runs)} runs are missing.\n\n```\n{commands}\n```"}
    for task in dict.fromkeys(run.task.name for run in study.runs):
        own = [row for row in rows if row["task"] == task]
        blocks[f"results {task}"] = _table(study, [run for run in study.runs if run.task.name == task], own)
    update_page(folder / "README.md", blocks)


def _table(study: Study, runs: Sequence[Run], rows: Sequence[Row]) -> str:
    """A line per start and budget that was run, the best mean first within a budget."""
    if not rows:
        return "Nothing was run yet."
    structures = list(dict.fromkeys(row["structure"] for row in rows if row["structure"] != "mean"))
    lines: list[tuple[float, float, list[str]]] = []
    for run in {(run.start.name, run.budget): run for run in runs}.values():
        own = [row for row in rows if row["start"] == run.start.name and row["budget"] == f"{run.budget:g}"]
        dice = {name: [float(row["dice"]) for row in own if row["structure"] == name] for name in (*structures, "mean")}
        if not dice["mean"]:
            continue
        mean = fmean(dice["mean"])
        shipped, before = study.seconds_before(run)
        cells = [run.start.name, *(f"{seconds:g}" for seconds in (shipped, before, run.budget))]
        cells += [f"{shipped + before + run.budget:g}", ", ".join(f"{value:.3f}" for value in dice["mean"])]
        cells += [f"**{mean:.3f}**", *(f"{fmean(dice[name]):.3f}" for name in structures)]
        lines.append((run.budget, -mean, cells))
    head = ["start", "shipped, s", "pretraining, s", "task, s", "all, s", "Dice per seed", "mean", *structures]
    return table(head, [cells for *_, cells in sorted(lines)])
