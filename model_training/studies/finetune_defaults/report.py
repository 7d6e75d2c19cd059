"""Tables and plot from results.csv alone, put between the marks of README.md; its words stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from MAESegmentLib.storage.atomic_file import write_file
from MAESegmentLib.training.saving import png

from ...tables import read_rows, table, update_page
from .study import FACTORS, Scenario

PLOT = "curves.png"
#: Where learning is quick the table has each step that was measured; after that, multiples of this.
_EVERY_STEP_UP_TO = 200


@dataclass(frozen=True)
class RunResult:
    """What was measured of one run. `dice` is {(step, weights, part): {label: mean over cases}}."""

    scenario: str
    name: str
    row: dict[str, str]
    dice: dict[tuple[int, str, str], dict[str, float]]

    @property
    def steps(self) -> int:
        return int(self.row["steps"])

    def mean(self, step: int, part: str = "test", weights: str = "average") -> float:
        """Mean over labels of the mean over cases; NaN where it was not measured."""
        values = [v for v in self.dice.get((step, weights, part), {}).values() if not math.isnan(v)]
        return sum(values) / len(values) if values else math.nan

    def curve(self, part: str) -> list[tuple[int, float]]:
        """(step, mean Dice) of the averaged weights."""
        steps = sorted(step for step, weights, measured in self.dice if (weights, measured) == ("average", part))
        return [(step, self.mean(step, part)) for step in steps]

    def best_checked(self) -> int:
        """The step that early stopping would have kept: the best on the check cases (the model from before included
        where it could be measured)."""
        return max(self.curve("check"), key=lambda point: point[1])[0]


def load_runs(path: Path) -> list[RunResult]:
    """Runs in the order in which they ended."""
    runs: dict[tuple[str, str], RunResult] = {}
    for row in read_rows(path):
        key = (row["scenario"], row["run"])
        run = runs.setdefault(key, RunResult(*key, row, {}))
        where = (int(row["step"]), row["weights"], row["part"])
        run.dice.setdefault(where, {})[row["label"]] = float(row["dice"])
    return list(runs.values())


def write_report(scenarios: Sequence[Scenario], results: Path, folder: Path) -> None:
    """Refresh the marked tables of `folder`/README.md (made with the marks alone if it is missing) and curves.png."""
    runs = load_runs(results)
    blocks = {f"runs {s.name}": runs_table(s, [r for r in runs if r.scenario == s.name]) for s in scenarios}
    blocks |= {f"steps {s.name}": steps_table(s, [r for r in runs if r.scenario == s.name]) for s in scenarios}
    blocks["weights"] = weights_table(scenarios, runs)
    blocks["stopping"] = stopping_table(scenarios, runs)
    write_file(folder / PLOT, draw(scenarios, runs))
    update_page(folder / "README.md", blocks)


def runs_table(scenario: Scenario, runs: Sequence[RunResult]) -> str:
    """One line per run: what differs from the centre, and Dice at its end."""
    if not runs:
        return "No run of this scenario has ended yet."
    known_before = any(run.curve("test")[0][0] == 0 for run in runs)
    unchanged = any(run.curve("unchanged") for run in runs)
    labels = list(runs[0].dice[runs[0].steps, "average", "test"])
    head = ["changed", "cases", "steps", *(["before"] if known_before else []), "Dice", *labels]
    head += ["on unchanged images"] if unchanged else []
    lines = []
    for run in _in_order(scenario, runs):
        end = run.dice[run.steps, "average", "test"]
        line = [_changes(scenario, run), run.row["cases"], str(run.steps)]
        line += [_number(run.mean(0))] if known_before else []
        line += [f"**{_number(run.mean(run.steps))}**", *(_number(end[label]) for label in labels)]
        if unchanged:
            before, after = run.mean(0, "unchanged"), run.mean(run.steps, "unchanged")
            line.append(f"{_number(before)} → {_number(after)}")
        lines.append(line)
    return table(head, lines)


def steps_table(scenario: Scenario, runs: Sequence[RunResult]) -> str:
    """Mean Dice on the test cases along each run."""
    if not runs:
        return "No run of this scenario has ended yet."
    measured = sorted({step for run in runs for step, _ in run.curve("test")})
    steps = [step for step in measured if step <= _EVERY_STEP_UP_TO or step % _EVERY_STEP_UP_TO == 0]
    lines = [
        [_changes(scenario, run), run.row["cases"], *(_number(run.mean(step)) for step in steps)]
        for run in _in_order(scenario, runs)
    ]
    return table(["changed", "cases", *(f"step {step}" for step in steps)], lines)


def weights_table(scenarios: Sequence[Scenario], runs: Sequence[RunResult]) -> str:
    """The moving average against the weights of the last step, over the runs that measured both."""
    lines = []
    for scenario in scenarios:
        pairs = [
            (run.mean(run.steps), run.mean(run.steps, weights="last"))
            for run in runs
            if run.scenario == scenario.name and (run.steps, "last", "test") in run.dice
        ]
        if pairs:
            averaged, last = ([pair[n] for pair in pairs] for n in (0, 1))
            better = sum(a > b for a, b in pairs)
            lines.append(
                [scenario.name, str(len(pairs)), _number(fmean(averaged)), _number(fmean(last)), f"{better} runs"]
            )
    return table(["scenario", "runs", "moving average", "last step", "average is better in"], lines)


def stopping_table(scenarios: Sequence[Scenario], runs: Sequence[RunResult]) -> str:
    """Test Dice at the end and at the step that the check cases choose."""
    lines = []
    for scenario in scenarios:
        own = [run for run in runs if run.scenario == scenario.name and run.curve("check")]
        if not own:
            continue
        ends = [run.mean(run.steps) for run in own]
        chosen = [run.mean(run.best_checked()) for run in own]
        earlier = sum(run.best_checked() < run.steps for run in own)
        oracle = [max(value for _, value in run.curve("test")) for run in own]
        lines.append(
            [scenario.name, str(len(own)), str(earlier), *(_number(fmean(values)) for values in (ends, chosen, oracle))]
        )
    return table(
        [
            "scenario",
            "runs",
            "stopped before the end",
            "end",
            "best on check cases",
            "best on the test cases themselves",
        ],
        lines,
    )


def draw(scenarios: Sequence[Scenario], runs: Sequence[RunResult]) -> bytes:
    """Test Dice over steps, a panel per scenario: its learning rates and numbers of steps; dashed, unchanged images."""
    from matplotlib.figure import Figure

    shown = [s for s in scenarios if any(run.scenario == s.name for run in runs)] or list(scenarios)[:1]
    figure = Figure(figsize=(3.6 * len(shown), 3.4), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for panel, scenario in zip(panels, shown, strict=True):
        own = [run for run in runs if run.scenario == scenario.name]
        for run in _in_order(scenario, own):
            if not _only(scenario, run, ("learning_rate", "steps")):
                continue
            steps, values = zip(*run.curve("test"), strict=True)
            label = f"{float(run.row['learning_rate']):g}, {run.steps} steps"
            (line,) = panel.plot(steps, values, marker=".", label=label)
            if unchanged := run.curve("unchanged"):
                panel.plot(*zip(*unchanged, strict=True), linestyle="--", color=line.get_color())
        panel.set_title(scenario.name, fontsize=10)
        panel.set_xlabel("step")
        panel.grid(color="0.92")
        panel.legend(fontsize=7, title="learning rate", title_fontsize=7)
    panels[0].set_ylabel("mean Dice, test cases")
    return png(figure)


def _in_order(scenario: Scenario, runs: Iterable[RunResult]) -> list[RunResult]:
    order = {run.label: n for n, run in enumerate(scenario.runs)}
    return sorted(runs, key=lambda run: order.get(run.name, len(order)))


def _differing(scenario: Scenario, run: RunResult) -> list[str]:
    """Factors in which the run differs from the centre, and its seed."""
    return [name for name in FACTORS if run.row[name] != str(scenario.centre[name])]


def _only(scenario: Scenario, run: RunResult, names: Sequence[str]) -> bool:
    same = {"cases": str(scenario.cases), "seed": str(scenario.seed)}
    return set(_differing(scenario, run)) <= set(names) and all(run.row[k] == v for k, v in same.items())


def _changes(scenario: Scenario, run: RunResult) -> str:
    changes = [f"{name} {run.row[name]}" for name in _differing(scenario, run)]
    changes += [f"seed {run.row['seed']}"] if run.row["seed"] != str(scenario.seed) else []
    return ", ".join(changes) or ("nothing (centre)" if run.row["cases"] == str(scenario.cases) else "only the cases")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
