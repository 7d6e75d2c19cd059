"""README.md's tables from results.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..marked_tables import replace_blocks, table
from .results import read_results
from .study import Run, Study


def write_report(study: Study, results: Path, readme: Path) -> None:
    """Put each task's table, and the number of runs that are missing, between the marks of `readme`."""
    rows = read_results(results)
    tasks = dict.fromkeys(run.task.name for run in study.runs)
    blocks = {
        f"results {task}": _table(study.runs, [row for row in rows if row["task"] == task], task) for task in tasks
    }
    done = {(row["task"], row["arm"], row["seed"], row["budget"]) for row in rows}
    missing = [run for run in study.runs if run.key not in done]
    commands = "\n".join(f'$RUN --only "{run.line}"' for run in missing)
    blocks["missing"] = f"{len(missing)} of {len(study.runs)} runs are missing.\n\n```\n{commands}\n```"
    readme.write_text(replace_blocks(readme.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def _table(runs: Sequence[Run], rows: Sequence[dict[str, str]], task: str) -> str:
    """A line per arm and budget that was run, the best mean first: Dice of every seed, their mean, and structures."""
    structures = list(dict.fromkeys(row["structure"] for row in rows if row["structure"] != "mean"))
    lines: list[tuple[float, float, list[str]]] = []
    for arm, budget in dict.fromkeys((run.arm.name, f"{run.budget:g}") for run in runs if run.task.name == task):
        own = [row for row in rows if row["arm"] == arm and row["budget"] == budget]
        means = [float(row["dice"]) for row in own if row["structure"] == "mean"]
        if not means:
            continue
        each = [[float(row["dice"]) for row in own if row["structure"] == name] for name in structures]
        steps = ", ".join(row["steps"] for row in own if row["structure"] == "mean")
        mean = sum(means) / len(means)
        cells = [arm, budget, steps, ", ".join(f"{dice:.3f}" for dice in means), f"**{mean:.3f}**"]
        lines.append((float(budget), -mean, cells + [f"{sum(dice) / len(dice):.3f}" for dice in each]))
    head = ["arm", "seconds", "steps", "Dice per seed", "mean", *structures]
    return table(head, [cells for *_, cells in sorted(lines)])
