"""README.md's tables from results.csv, and from what ../recipe has done of the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from ...tables import Row, read_rows, table, update_page
from ..data_efficiency import result_files
from ..data_efficiency.statistics import Array, Interval, Resampling, difference, mean_interval
from ..data_efficiency.study import NNUNET
from ..recipe.study import FINAL, Run, Study, run_name

COLUMNS = ("task", "arm", "seed", "budget", "cases", "case", "structure", "dice", "steps", "seconds")
HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipe"
#: Tasks and arms of ../recipe that are ours under another name; its results are means over cases.
SAME_TASKS = {"brain": "brain, 3 cases", "atrium": "left atrium, 4 cases"}
SAME_ARMS = {"plain segresnet, 2 mm": "SegResNet", "plain dynunet, 2 mm": "DynUNet"}
_MEANS = "mean over cases"


def finished(results: Path) -> set[str]:
    """Names of the runs that were done, here or by ../recipe."""
    return {
        run_name(row["task"], row["arm"], row["seed"] + FINAL * (row["cases"] == "final"), row["budget"])
        for row in (*read_rows(results), *taken())
    }


def taken(results: Path = RECIPE / "results.csv") -> list[Row]:
    """Rows of ../recipe as if they were ours."""
    return [
        {
            **{column: row[column] for column in ("seed", "budget", "structure", "dice", "steps", "seconds")},
            "task": SAME_TASKS[row["task"]],
            "arm": SAME_ARMS[row["arm"]],
            "cases": "test",
            "case": _MEANS,
        }
        for row in read_rows(results)
        if row["task"] in SAME_TASKS and row["arm"] in SAME_ARMS and row["structure"] != "mean"
    ]


def nnunet(results: Path = HERE.parent / "data_efficiency" / "results") -> list[Row]:
    """What nnU-Net v2 itself reached on the final cases of the hippocampus, in one of its epochs, beside 10 minutes."""
    runs = {row["run"]: row for row in result_files.read_rows(results / result_files.RUNS)}
    return [
        {
            "task": f"hippocampus, {run['labels']} cases",
            "budget": "600",
            "cases": "final",
            "seed": run["seed"],
            "arm": f"nnU-Net v2 in {float(run['seconds']) / 60:.0f} min",
            "structure": row["label"],
            "case": row["case"],
            "dice": row["dice"],
            "steps": run["steps"],
            "seconds": run["seconds"],
        }
        for row in result_files.read_rows(results / result_files.METRICS)
        if (run := runs.get(row["run"])) and (run["arm"], run["scale"]) == (NNUNET, "small") and row["grid"] == "scan"
    ]


def write_report(study: Study, results: Path, folder: Path) -> None:
    """Refresh the marked parts of `folder`/README.md."""
    planned = {run.name for run in study.runs}
    own = read_rows(results)
    there = finished(results)
    rows = own + [row for row in taken() if run_name(*(row[column] for column in COLUMNS[:4])) in planned] + nnunet()
    missing = [run for run in study.runs if run.name not in there]
    commands = "\n".join(f'$RUN --only "{words}"  # {len(of)} runs' for words, of in _groups(missing).items())
    hours = sum(run.budget for run in missing) / 3600
    update_page(
        folder / "README.md",
        {
            "learnt": _sentences(study.runs, rows),
            "results": _table(study.runs, rows, final=False),
            "final": _table(study.runs, rows, final=True),
            "missing": f"{len(missing)} of {len(study.runs)} runs are missing, {hours:.0f} hours of training.\n\n"
            f"```\n{commands}\n```",
        },
    )


def _groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of the same task, budget and cases, by the words with which `--only` finds them all; in their order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        words = f"{run.task.name}, *{FINAL if run.final else 'seed ?'}, {run.budget:g} s"
        groups.setdefault(words, []).append(run)
    return groups


class _Scores:
    """Dice (S, N, L) of one arm's seeds on one task in one budget; of a seed that was taken over, means (L) alone."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.structures = list(dict.fromkeys(row["structure"] for row in rows))
        own = [row for row in rows if row["case"] != _MEANS]
        self.seeds, self.cases = (sorted({row[column] for row in own}) for column in ("seed", "case"))
        self.dice: Array = np.full((len(self.seeds), len(self.cases), len(self.structures)), np.nan)
        self.of_seeds: dict[str, Array] = {}
        for row in rows:
            label, value = self.structures.index(row["structure"]), float(row["dice"] or "nan")
            if row["case"] == _MEANS:
                self.of_seeds.setdefault(row["seed"], np.full(len(self.structures), np.nan))[label] = value
            else:
                self.dice[self.seeds.index(row["seed"]), self.cases.index(row["case"]), label] = value
        self.of_seeds |= {seed: np.nanmean(self.dice[n], axis=0) for n, seed in enumerate(self.seeds)}
        self.of_seeds = dict(sorted(self.of_seeds.items()))
        self.steps = dict(sorted((row["seed"], row["steps"]) for row in rows))

    def of_structures(self) -> Array:
        means: Array = np.mean(list(self.of_seeds.values()), axis=0)
        return means

    def mean(self) -> float:
        return float(self.of_structures().mean())

    def interval(self) -> str:
        """Of the mean, over cases and seeds; empty where only means are known."""
        return _bounds(mean_interval(self.dice, self.cases, Resampling()), "") if self.cases else ""

    def minus(self, other: _Scores) -> str:
        """The difference on the seeds of both, with an interval where their cases are known."""
        seeds = [seed for seed in self.seeds if seed in other.seeds]
        cases = [case for case in self.cases if case in other.cases]
        if seeds and cases:
            parts = [one._part(seeds, cases) for one in (self, other)]
            found = difference(parts[0], parts[1], cases, Resampling())
            assert found is not None
            return f"{found.by_case.estimate:+.3f}{_bounds(found.by_case_and_seed, '+')}"
        both = [float((self.of_seeds[s] - other.of_seeds[s]).mean()) for s in self.of_seeds if s in other.of_seeds]
        return f"{fmean(both):+.3f}" if both else "-"

    def _part(self, seeds: Sequence[str], cases: Sequence[str]) -> Array:
        return self.dice[np.ix_([self.seeds.index(s) for s in seeds], [self.cases.index(c) for c in cases])]


def _bounds(interval: Interval, sign: str) -> str:
    return f" [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _cells(runs: Sequence[Run], rows: Sequence[Row], *, final: bool) -> dict[tuple[str, str], dict[str, _Scores]]:
    """By task and budget, and by arm: what has results. In the study's order, budgets rising."""
    tasks = list(dict.fromkeys(run.task.name for run in runs))
    arms = list(dict.fromkeys(run.arm.name for run in runs))
    groups: dict[tuple[str, str], dict[str, list[Row]]] = {}
    chosen = [row for row in rows if (row["cases"] == "final") == final and row["task"] in tasks]
    chosen.sort(key=lambda row: (tasks.index(row["task"]), float(row["budget"]), [*arms, row["arm"]].index(row["arm"])))
    for row in chosen:
        groups.setdefault((row["task"], row["budget"]), {}).setdefault(row["arm"], []).append(row)
    return {key: {arm: _Scores(own) for arm, own in of.items()} for key, of in groups.items()}


def _ours(arms: Mapping[str, _Scores]) -> tuple[str, _Scores | None]:
    """The first arm that is fine-tuning."""
    return next(((arm, scores) for arm, scores in arms.items() if arm.startswith("ours")), ("", None))


def _sentences(runs: Sequence[Run], rows: Sequence[Row]) -> str:
    """What each task and budget teaches, on final cases where these have been measured."""
    final = _cells(runs, rows, final=True)
    lines = []
    for (task, budget), arms in {**_cells(runs, rows, final=False), **final}.items():
        ours, first = _ours(arms)
        if first is None or len(arms) < 2:
            continue
        others = [f"{arm} {scores.mean():.3f} ({first.minus(scores)})" for arm, scores in arms.items() if arm != ours]
        where = "validation" if (task, budget) in final else "pool"
        seeds = f"{len(first.of_seeds)} seed{'s' * (len(first.of_seeds) != 1)}"
        said = f"{ours} {first.mean():.3f}; {'; '.join(others)}"
        lines.append(f"* **{task}, {float(budget) / 60:g} min** ({where}, {seeds}): {said}.")
    return "\n".join(lines) or "Nothing can be compared yet."


def _table(runs: Sequence[Run], rows: Sequence[Row], *, final: bool) -> str:
    """A table per task: a line per budget and arm, the best of a budget first."""
    cells = _cells(runs, rows, final=final)
    tables = []
    for task in dict.fromkeys(task for task, _ in cells):
        lines: list[list[str]] = []
        structures: list[str] = []
        for (_, budget), arms in ((key, arms) for key, arms in cells.items() if key[0] == task):
            _, first = _ours(arms)
            structures = next(iter(arms.values())).structures
            for arm, scores in sorted(arms.items(), key=lambda item: -item[1].mean()):
                seeds = ", ".join(f"{values.mean():.3f}" for values in scores.of_seeds.values())
                minus = "" if first is None or scores is first else first.minus(scores)
                own = [f"{value:.3f}" for value in scores.of_structures()]
                dice = f"**{scores.mean():.3f}**{scores.interval()}"
                lines.append([budget, arm, dice, seeds, minus, *own, ", ".join(scores.steps.values())])
        head = ["seconds", "arm", "Dice", "per seed", "ours minus it", *structures, "steps"]
        tables.append(f"**{task}**\n\n{table(head, lines)}")
    return "\n\n".join(tables) or "Nothing has been run."
