"""The measurements of the finished runs as arrays, arm by arm."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .result_files import METRICS, PRETEXTS, RUNS, read_rows
from .statistics import Array, mean
from .study import Plan

#: Images of one patient at several times, as ACDC names them.
_FRAME = re.compile(r"_frame\d+$")
ALL = "all"


@dataclass(frozen=True)
class Cell:
    """What is equal for all arms that are compared with each other. `labels` is a number or "all"."""

    scale: str
    dataset: str
    labels: str


@dataclass(frozen=True)
class Scores:
    """One measure of one arm: values (S, N, L), or (S, N, T, L) along `steps`; NaN where a figure does not exist."""

    values: Array
    seeds: tuple[str, ...]
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    steps: tuple[int, ...] = ()

    @property
    def patients(self) -> list[str]:
        """Of each case."""
        return [_FRAME.sub("", case) for case in self.cases]

    def on(self, other: Scores) -> Scores | None:
        """Only the seeds, cases and labels that `other` has too; None if there is none."""
        values, kept = self.values, {}
        for axis, name in ((0, "seeds"), (1, "cases"), (-1, "labels")):
            own, others = getattr(self, name), set(getattr(other, name))
            kept[name] = tuple(item for item in own if item in others)
            values = values.take([own.index(item) for item in kept[name]], axis=axis)
        return replace(self, values=values, **kept) if values.size else None


def aligned(first: Scores | None, second: Scores | None) -> tuple[Scores, Scores] | None:
    """Both on the seeds, cases and labels that they share, in the same order."""
    if first is None or second is None:
        return None
    kept = first.on(second)
    other = second.on(kept) if kept else None
    if kept is None or other is None:
        return None
    order = [[getattr(other, n).index(item) for item in getattr(kept, n)] for n in ("seeds", "cases", "labels")]
    values = other.values.take(order[0], 0).take(order[1], 1).take(order[2], -1)
    return kept, replace(other, values=values, seeds=kept.seeds, cases=kept.cases, labels=kept.labels)


class Results:
    """Everything the result files say of runs that have ended."""

    def __init__(
        self,
        runs: Sequence[Mapping[str, str]],
        metrics: Sequence[Mapping[str, str]],
        pretexts: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.runs = {row["run"]: row for row in reversed(runs)}
        self.pretexts = list({row["pretraining"]: row for row in reversed(pretexts)}.values())[::-1]
        self._rows: dict[tuple[str, str], dict[tuple[int, str, str], Mapping[str, str]]] = defaultdict(dict)
        for row in metrics:
            if row["run"] in self.runs:
                key = (int(row["step"]), row["case"], row["label"])
                self._rows[row["run"], row["grid"]].setdefault(key, row)

    def of(self, cell: Cell, arm: str) -> list[Mapping[str, str]]:
        """The arm's runs that were measured on the validation cases, by seed."""
        wanted = (cell.scale, cell.dataset, cell.labels, arm, "validation")
        names = ("scale", "dataset", "labels", "arm", "measured_on")
        found = [row for row in self.runs.values() if tuple(row[name] for name in names) == wanted]
        return sorted(found, key=lambda row: int(row["seed"]))

    def final(self, cell: Cell, arm: str, measure: str = "dice") -> Scores | None:
        """At the end of training, on the scans' own grid.

        A structure that was not found has a surface Dice of 0, as its Dice is; its HD95 does not exist.
        """
        runs = {row["seed"]: self.end(row["run"]) for row in self.of(cell, arm)}
        return _scores({seed: rows for seed, rows in runs.items() if rows}, measure)

    def end(self, run: str) -> dict[tuple[int, str, str], Mapping[str, str]]:
        """Rows of the run's last step on the scans' grid, by (step, case, label)."""
        return self._last(run, "scan")

    def _last(self, run: str, grid: str) -> dict[tuple[int, str, str], Mapping[str, str]]:
        rows = self._rows.get((run, grid), {})
        last = max((step for step, _, _ in rows), default=0)
        return {key: row for key, row in rows.items() if key[0] == last}

    def curve(self, cell: Cell, arm: str) -> Scores | None:
        """Dice on the network's grid at the checkpoints that all seeds have."""
        runs = {row["seed"]: self._rows.get((row["run"], "network"), {}) for row in self.of(cell, arm)}
        return _scores({seed: rows for seed, rows in runs.items() if rows}, "dice", along=True)

    def search(self) -> list[Mapping[str, str]]:
        """Runs of the learning-rate search, which are measured on cases of the pool."""
        return sorted(
            (row for row in self.runs.values() if row["measured_on"] == "check"),
            key=lambda row: (row["scale"], row["dataset"], row["arm"], float(row["learning_rate"]), int(row["seed"])),
        )

    def searched_dice(self, run: str) -> float:
        """Mean over labels of the mean over cases at the end of a run of the search; NaN if it was not measured."""
        rows = self.end(run) or self._last(run, "network")
        scores = _scores({"": rows}, "dice") if rows else None
        return float(mean(scores.values)) if scores else float("nan")

    def label_counts(self, scale: str, dataset: str) -> list[str]:
        """For which there are results, ascending, "all" last."""
        found = {
            row["labels"]
            for row in self.runs.values()
            if (row["scale"], row["dataset"], row["measured_on"]) == (scale, dataset, "validation")
        }
        return sorted(found, key=by_count)


def read_results(folder: Path) -> Results:
    return Results(*(read_rows(folder / name) for name in (RUNS, METRICS, PRETEXTS)))


def by_count(labels: str) -> float:
    """Sorts label counts."""
    return float("inf") if labels == ALL else float(labels)


def labelled(labels: str) -> str:
    return "1 label" if labels == "1" else f"{labels} labels"


def place(plan: Plan) -> str:
    """A data set at a scale, for readers."""
    return f"{plan.title} ({plan.scale})"


def percent(share: float, sign: str = "") -> str:
    return f"{100 * share + 0.0:{sign}.0f} %"


def number(text: str) -> float:
    """NaN for an empty entry."""
    return float(text) if text else float("nan")


def _scores(
    runs: Mapping[str, Mapping[tuple[int, str, str], Mapping[str, str]]], measure: str, along: bool = False
) -> Scores | None:
    """Rows by seed as one array; `along` keeps the steps that all seeds have, else there is one step a run."""
    if not runs:
        return None
    found = [key for rows in runs.values() for key in rows]
    cases = tuple(dict.fromkeys(case for _, case, _ in found))
    labels = tuple(dict.fromkeys(label for _, _, label in found))
    shared = set.intersection(*({step for step, _, _ in rows} for rows in runs.values())) if along else {0}
    if not shared:
        return None
    steps = tuple(sorted(shared))
    values = np.full((len(runs), len(cases), len(steps), len(labels)), np.nan)
    places = [{item: n for n, item in enumerate(axis)} for axis in (cases, steps, labels)]
    for seed, rows in enumerate(runs.values()):
        for (step, case, label), row in rows.items():
            at = step if along else 0
            if at in shared:
                values[seed, places[0][case], places[1][at], places[2][label]] = _value(row, measure)
    return Scores(values if along else values[:, :, 0], tuple(runs), cases, labels, steps if along else ())


def _value(row: Mapping[str, str], measure: str) -> float:
    if measure == "surface_dice" and not row[measure] and row["dice"] and float(row["dice"]) == 0.0:
        return 0.0
    return number(row[measure])
