"""The tables of README.md, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...tables import table
from .comparisons import CONTROLS, MAE, SCRATCH, Comparisons
from .scores import Cell, labelled, number, percent, place
from .statistics import Interval, mean, seed_spread
from .study import Arm, Plan

NOTHING = "No run of this has ended yet."
HD95, SURFACE = "hd95_mm", "surface_dice"
Row = Mapping[str, str]


def arms_of(comparisons: Comparisons, *groups: str, beside: Sequence[str] = ()) -> list[Arm]:
    """Arms of these groups in the study's order, after those named in `beside`."""
    arms = comparisons.study.arms
    return [a for name in beside for a in arms if a.name == name] + [
        a for a in arms if a.group in groups and a.name not in beside
    ]


def coverage_table(comparisons: Comparisons) -> str:
    """What the study declares and what has ended, experiment by data set."""
    runs, lines = comparisons.results.runs, []
    for experiment in comparisons.study.experiments:
        for dataset in experiment.datasets:
            declared = [run.name for run in experiment.runs(dataset)]
            plan = comparisons.study.plan(experiment.scale, dataset)
            done = sum(name in runs for name in declared)
            lines.append([experiment.title, place(plan), f"{done} of {len(declared)}"])
    return table(["experiment", "data (scale)", "runs that have ended"], lines)


def dice_table(comparisons: Comparisons, plan: Plan, arms: Iterable[Arm]) -> str:
    """Mean Dice by arm and label count, ± standard deviation between seeds."""
    cells, lines = comparisons.cells(plan), []
    for arm in arms:
        figures = [_mean_and_spread(comparisons, cell, arm.name) for cell in cells]
        if any(figures):
            lines.append([f"{arm.title} (`{arm.name}`)", *(figure or "-" for figure in figures)])
    return table(["arm", *(labelled(cell.labels) for cell in cells)], lines) if lines else NOTHING


def primary_table(comparisons: Comparisons) -> str:
    """Every primary comparison: both arms, their paired difference, and Holm's p."""
    head = ["data (scale)", "labels", "`mae` −", "Dice of `mae`", "Dice of the control", "difference"]
    head += ["by case", "by case and seed", "Holm p", "better in", "seeds × cases"]
    lines = []
    for plan in comparisons.study.plans:
        for cell in comparisons.cells(plan):
            for control in CONTROLS if cell.labels in comparisons.primary_labels else ():
                lines += _primary_line(comparisons, plan, cell, control)
    return table(head, lines) if lines else NOTHING


def difference_table(comparisons: Comparisons, arms: Sequence[Arm], against: str, group: str) -> str:
    """Dice of each arm and its difference to `against`, in cells where arms of `group` have been run."""
    lines = []
    for plan in comparisons.study.plans:
        for cell in comparisons.cells(plan):
            others = [(arm, comparisons.difference(cell, arm.name, against)) for arm in arms if arm.name != against]
            if not any(found for arm, found in others if arm.group == group):
                continue
            own = _mean_and_spread(comparisons, cell, against)
            where = [place(plan), cell.labels]
            lines.append([*where, f"`{against}`", own, "", "", ""])
            for arm, found in others:
                if found:
                    dice = _mean_and_spread(comparisons, cell, arm.name)
                    name = f"{arm.title} (`{arm.name}`)"
                    by = [_range(interval) for interval in found.intervals]
                    lines.append([*where, name, dice, f"{found.by_case.estimate:+.3f}", *by])
    head = ["data (scale)", "labels", "arm", "Dice", f"minus `{against}`", "by case", "by case and seed"]
    return table(head, lines) if lines else NOTHING


def convergence_table(comparisons: Comparisons) -> str:
    """Fine-tuning steps until a share of scratch's final Dice."""
    lines = []
    for plan in comparisons.study.plans:
        for cell in comparisons.cells(plan):
            for arm in arms_of(comparisons, "primary"):
                line = [_steps_to(comparisons, cell, arm, f) for f in comparisons.study.endpoints.fractions]
                if all(line) and (arm.name != SCRATCH or _has_others(comparisons, cell)):
                    lines.append([place(plan), cell.labels, f"`{arm.name}`", *map(str, line)])
    fractions = [f"steps to {percent(f)}" for f in comparisons.study.endpoints.fractions]
    return table(["data (scale)", "labels", "arm", *fractions], lines) if lines else NOTHING


def surface_table(comparisons: Comparisons, arms: Sequence[Arm]) -> str:
    """HD95 and surface Dice at the end; how many structures were not found and so have no HD95."""
    lines = []
    for plan in comparisons.study.plans:
        for cell in comparisons.cells(plan):
            for arm in arms:
                line = _surface_line(comparisons, cell, arm.name)
                lines += [[place(plan), cell.labels, f"`{arm.name}`", *line]] if line else []
    head = ["data (scale)", "labels", "arm", "HD95, mm", f"minus `{SCRATCH}`"]
    head += ["surface Dice", f"minus `{SCRATCH}`", "structures not found"]
    return table(head, lines) if lines else NOTHING


def structures_table(comparisons: Comparisons, plan: Plan, arms: Sequence[Arm]) -> str:
    """Dice of each structure at the end, mean over cases and seeds."""
    lines, names = [], []
    for cell in comparisons.cells(plan):
        for arm in arms:
            scores = comparisons.results.final(cell, arm.name)
            if scores:
                figures = {name: float(mean(scores.values[..., [n]])) for n, name in enumerate(scores.labels)}
                names += [name for name in figures if name not in names]
                lines.append((cell.labels, arm.name, figures))
    rows = [[count, f"`{arm}`", *(_dice(figures.get(name)) for name in names)] for count, arm, figures in lines]
    return table(["labels", "arm", *names], rows) if rows else NOTHING


def spread_table(comparisons: Comparisons) -> str:
    """Standard deviation between seeds of the mean Dice."""
    arms, lines = arms_of(comparisons, "primary"), []
    for plan in comparisons.study.plans:
        for cell in comparisons.cells(plan):
            found = {arm.name: comparisons.results.final(cell, arm.name) for arm in arms}
            spreads = [f"{seed_spread(s.values):.4f} ({len(s.seeds)})" if s else "-" for s in found.values()]
            if any(s and len(s.seeds) > 1 for s in found.values()):
                lines.append([place(plan), cell.labels, *(s.replace("nan", "-") for s in spreads)])
    return table(["data (scale)", "labels", *(f"`{arm.name}`" for arm in arms)], lines) if lines else NOTHING


def search_table(comparisons: Comparisons) -> str:
    """Dice on the check cases by learning rate: the mean of the seeds that tried it, each in brackets if several did.

    The rates that most seeds tried are the two best of seed 0; the better of these is what the recipe's runs use.
    """
    searched: dict[tuple[str, str, str, str], dict[float, list[float]]] = {}
    for row in comparisons.results.search():
        key = (row["scale"], row["dataset"], row["arm"], row["labels"])
        dice = comparisons.results.searched_dice(row["run"])
        if math.isfinite(dice):
            searched.setdefault(key, {}).setdefault(float(row["learning_rate"]), []).append(dice)
    rates = sorted({rate for found in searched.values() for rate in found})
    lines = []
    for (scale, dataset, arm, labels), found in searched.items():
        best = max(found, key=lambda rate: (len(found[rate]), sum(found[rate]) / len(found[rate])))
        figures = [_by_seed(found.get(rate, []), bold=rate == best) for rate in rates]
        lines.append([place(comparisons.study.plan(scale, dataset)), f"`{arm}`", labels, *figures])
    return table(["data (scale)", "recipe", "labels", *(f"{r:g}" for r in rates)], lines) if lines else NOTHING


def _by_seed(dice: list[float], *, bold: bool) -> str:
    mark = "**" if bold else ""
    each = f" ({', '.join(f'{value:.3f}' for value in dice)})" if len(dice) > 1 else ""
    return f"{mark}{_dice(sum(dice) / len(dice) if dice else None)}{mark}{each}"


def compute_table(comparisons: Comparisons) -> str:
    """What a run of each arm costs; where runs of an arm differ, the smallest and the largest."""
    lines = []
    for plan in comparisons.study.plans:
        for arm in comparisons.study.arms:
            rows = _validation_runs(comparisons, plan, arm.name)
            if rows:
                lines.append([place(plan), f"`{arm.name}`", str(len(rows)), *_costs(rows)])
    head = [
        "data (scale)",
        "arm",
        "runs",
        "parameters, M",
        "learning rate",
        "pretraining steps",
        "steps",
        "pretraining, TFLOP",
    ]
    head += ["training, TFLOP", "together", "pretraining, min", "training, min"]
    return table(head, lines) if lines else NOTHING


def machines_table(comparisons: Comparisons) -> str:
    """What ran where, the learning-rate search and the pretraining included."""
    places: dict[tuple[str, ...], list[tuple[str, Row]]] = {}
    rows = [("run", row) for row in comparisons.results.runs.values()]
    for kind, row in [*rows, *(("pretraining", row) for row in comparisons.results.pretexts)]:
        key = (
            row["machine"],
            row["device"],
            row["torch"],
            place(comparisons.study.plan(row["scale"], row["dataset"])),
        )
        places.setdefault(key, []).append((kind, row))
    lines = []
    for where, found in sorted(places.items()):
        hours = sum(number(row["seconds"]) for _, row in found) / 3600
        days = sorted(row["finished"][:10] for _, row in found)
        counts = [str(sum(kind == wanted for kind, _ in found)) for wanted in ("run", "pretraining")]
        lines.append([*where, *counts, f"{hours:.1f}", " to ".join(dict.fromkeys([days[0], days[-1]]))])
    head = ["machine", "device", "torch", "data (scale)", "runs", "pretrainings", "hours together", "ended"]
    return table(head, lines) if lines else NOTHING


def pretraining_table(comparisons: Comparisons) -> str:
    """Every pretraining that has ended."""
    lines = []
    for row in comparisons.results.pretexts:
        costs = [_millions([row["parameters"]]), _range_of([row["flops"]], 1e12), _range_of([row["seconds"]], 60.0)]
        name = f"`{row['pretraining']}`"
        lines.append([name, row["steps"], row["images"], *costs, f"{number(row['final_loss']):.4g}"])
    head = ["pretraining", "steps", "images", "parameters, M", "TFLOP", "minutes", "last loss"]
    return table(head, lines) if lines else NOTHING


def _primary_line(comparisons: Comparisons, plan: Plan, cell: Cell, control: str) -> list[list[str]]:
    found = comparisons.difference(cell, MAE, control)
    if found is None:
        return []
    adjusted = comparisons.adjusted_p(cell, control)
    dice = [_mean_and_spread(comparisons, cell, arm) for arm in (MAE, control)]
    line = [place(plan), cell.labels, f"`{control}`", *dice, f"**{found.by_case.estimate:+.3f}**"]
    line += [_range(interval) for interval in found.intervals]
    line += ["-" if adjusted is None else f"{adjusted:.2g}", percent(found.better), f"{found.seeds} × {found.cases}"]
    return [line]


def _steps_to(comparisons: Comparisons, cell: Cell, arm: Arm, fraction: float) -> str:
    found = comparisons.convergence(cell, arm.name, fraction)
    if found is None:
        return ""
    if not math.isfinite(found.steps):
        return f"not reached ({SCRATCH}: {found.reference_steps:.0f})"
    saved = found.saved[1]
    if arm.name == SCRATCH:
        return f"{found.steps:.0f}"
    low, high = (percent(x, "+") if math.isfinite(x) else "never" for x in (saved.low, saved.high))
    return f"{found.steps:.0f} ({percent(saved.estimate, '+')} saved [{low}, {high}])"


def _has_others(comparisons: Comparisons, cell: Cell) -> bool:
    return any(
        comparisons.results.curve(cell, arm.name) is not None
        for arm in arms_of(comparisons, "primary")
        if arm.name != SCRATCH
    )


def _surface_line(comparisons: Comparisons, cell: Cell, arm: str) -> list[str]:
    line: list[str] = []
    for measure, unit in ((HD95, "{:.2f}"), (SURFACE, "{:.3f}")):
        scores = comparisons.results.final(cell, arm, measure)
        if scores is None:
            return []
        line.append(unit.format(float(mean(scores.values))).replace("nan", "-"))
        found = comparisons.difference(cell, arm, SCRATCH, measure) if arm != SCRATCH else None
        sign = unit.replace("{:", "{:+")
        line.append("" if found is None else _difference(found.by_case, found.by_case_and_seed, sign))
    dice, distances = (comparisons.results.final(cell, arm, measure) for measure in ("dice", HD95))
    assert dice is not None
    assert distances is not None
    missing = int((np.isfinite(dice.values) & ~np.isfinite(distances.values)).sum())
    return [*line, f"{missing} of {int(np.isfinite(dice.values).sum())}"]


def _difference(first: Interval, second: Interval, form: str) -> str:
    return f"{form.format(first.estimate)} [{form.format(second.low)}, {form.format(second.high)}]"


def _validation_runs(comparisons: Comparisons, plan: Plan, arm: str) -> list[Row]:
    return [row for cell in comparisons.cells(plan) for row in comparisons.results.of(cell, arm)]


def _costs(rows: Sequence[Row]) -> list[str]:
    def of(name: str) -> list[str]:
        return [row[name] for row in rows]

    together = [str(number(row["flops"]) + number(row["pretext_flops"])) for row in rows]
    flops = [_range_of(values, 1e12) for values in (of("pretext_flops"), of("flops"), together)]
    minutes = [f"{np.mean([number(text) for text in of(name)]) / 60:.1f}" for name in ("pretext_seconds", "seconds")]
    steps = [_range_of(of(name), 1.0) for name in ("pretext_steps", "steps")]
    rates = list(dict.fromkeys(f"{rate:g}" for rate in sorted(map(number, of("learning_rate"))) if rate == rate))
    return [
        _millions(of("parameters")),
        " and ".join(rates) or "-",
        *steps,
        *flops,
        *(text.replace("nan", "-") for text in minutes),
    ]


def _range_of(values: Sequence[str], unit: float) -> str:
    """The one value in this unit, or the smallest and the largest."""
    known = sorted(number(value) / unit for value in values if value)
    texts = list(dict.fromkeys(f"{x:,.0f}" if x >= 100 or x == 0 else f"{x:.3g}" for x in known[:1] + known[-1:]))
    return " to ".join(texts) or "-"


def _millions(values: Sequence[str]) -> str:
    return _range_of(values, 1e6)


def _mean_and_spread(comparisons: Comparisons, cell: Cell, arm: str) -> str:
    scores = comparisons.results.final(cell, arm)
    if scores is None:
        return ""
    spread = seed_spread(scores.values)
    return f"{float(mean(scores.values)):.3f} " + (f"± {spread:.3f}" if math.isfinite(spread) else "(1 seed)")


def _dice(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _range(interval: Interval) -> str:
    return f"{interval.low:+.3f} to {interval.high:+.3f}"
