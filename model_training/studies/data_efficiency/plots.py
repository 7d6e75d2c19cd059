"""The plots of README.md: PNG bytes, or None where nothing that they would show has been run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from MAESegmentLib.training.saving import png

from .comparisons import CONTROLS, MAE, SCRATCH, Comparisons
from .scores import Scores, by_count, labelled, place
from .statistics import Interval, mean
from .study import Arm, Plan

#: Okabe and Ito's, without yellow, which print loses; shapes tell the arms apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "os^DvPX<>h"
#: Inches.
PANEL = (4.2, 3.4)


def plot_dice(comparisons: Comparisons, arms: Sequence[Arm], group: str) -> bytes | None:
    """Dice over the number of labels, a panel per data set on which arms of `group` have been run.

    Bars are intervals by case and seed.
    """
    wanted = {arm.name for arm in arms if arm.group == group}
    drawn = [(plan, _means(comparisons, plan, arms)) for plan in comparisons.study.plans]
    plans = [(plan, found) for plan, found in drawn if wanted & set(found)]
    if not plans:
        return None
    figure, panels = _panels(len(plans))
    for panel, (plan, means_of) in zip(panels, plans, strict=True):
        counts = sorted({count for found in means_of.values() for count in found}, key=by_count)
        for number, arm in enumerate(arms):
            if found := means_of.get(arm.name):
                shift = 0.08 * (number - (len(arms) - 1) / 2)
                _bars(panel, {counts.index(n) + shift: found[n] for n in counts if n in found}, number, arm.title)
        panel.set_title(place(plan), fontsize=10)
        panel.set_xticks(range(len(counts)), counts)
        panel.set_xlim(-0.5, len(counts) - 0.5)
        panel.set_xlabel("labelled cases")
        panel.grid(axis="y", color="0.9")
    panels[0].set_ylabel("mean Dice, validation cases")
    _legend(figure, panels)
    return png(figure)


def plot_differences(comparisons: Comparisons) -> bytes | None:
    """Every primary difference with its intervals; what lies in the grey band is of no use to anyone."""
    lines = [
        (f"{place(plan)}, {labelled(cell.labels)}", control, found)
        for plan in comparisons.study.plans
        for cell in comparisons.cells(plan)
        if cell.labels in comparisons.primary_labels
        for control in CONTROLS
        if (found := comparisons.difference(cell, MAE, control))
    ]
    if not lines:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 1.4 + 0.3 * len(lines)), layout="constrained")
    panel = figure.subplots()
    margin = comparisons.study.endpoints.margin
    panel.axvspan(-margin, margin, color="0.92")
    panel.axvline(0.0, color="0.4", linewidth=0.8)
    for row, (_, control, found) in enumerate(lines):
        number = CONTROLS.index(control)
        for interval, width in zip(found.intervals, (3.5, 1.2), strict=True):
            panel.hlines(-row, interval.low, interval.high, color=COLOURS[number], linewidth=width)
        label = None if control in [line[1] for line in lines[:row]] else f"{MAE} − {control}"
        panel.plot(found.by_case.estimate, -row, MARKERS[number], color=COLOURS[number], label=label)
    panel.set_yticks([-row for row in range(len(lines))], [name for name, _, _ in lines], fontsize=8)
    panel.set_ylim(0.5 - len(lines), 0.5)
    panel.set_xlabel("difference of mean Dice; thick: interval by case, thin: by case and seed", fontsize=9)
    _legend(figure, [panel])
    return png(figure)


def plot_curves(comparisons: Comparisons, arms: Sequence[Arm]) -> bytes | None:
    """Learning curves: mean over seeds and the seeds' range, a row per data set, a column per label count."""
    drawn = [(plan, _curves(comparisons, plan, arms)) for plan in comparisons.study.plans]
    rows = [(plan, found) for plan, found in drawn if found]
    if not rows:
        return None
    from matplotlib.figure import Figure

    columns = max(len(found) for _, found in rows)
    figure = Figure(figsize=(max(6.0, 3.2 * columns), 2.9 * len(rows) + 0.5), layout="constrained")
    panels = figure.subplots(len(rows), columns, sharey="row", squeeze=False)
    for line, (plan, found) in zip(panels, rows, strict=True):
        counts = sorted(found, key=by_count)
        for panel, count in zip(line, counts, strict=False):
            _draw_curves(panel, found[count], arms, comparisons.study.endpoints.fractions)
            panel.set_title(f"{place(plan)}, {labelled(count)}", fontsize=9)
        for panel in line[len(counts) :]:
            panel.set_visible(False)
        line[0].set_ylabel("mean Dice on the network's grid", fontsize=8)
    _legend(figure, panels.flat)
    return png(figure)


def _means(comparisons: Comparisons, plan: Plan, arms: Iterable[Arm]) -> dict[str, dict[str, Interval]]:
    """By arm and label count, of what has been run."""
    found: dict[str, dict[str, Interval]] = {}
    for arm in arms:
        for cell in comparisons.cells(plan):
            if interval := comparisons.mean(cell, arm.name):
                found.setdefault(arm.name, {})[cell.labels] = interval
    return found


def _curves(comparisons: Comparisons, plan: Plan, arms: Iterable[Arm]) -> dict[str, dict[str, Scores]]:
    """By label count and arm, of what has been run."""
    found: dict[str, dict[str, Scores]] = {}
    for arm in arms:
        for cell in comparisons.cells(plan):
            if scores := comparisons.results.curve(cell, arm.name):
                found.setdefault(cell.labels, {})[arm.name] = scores
    return found


def _draw_curves(panel: Any, curves: dict[str, Scores], arms: Sequence[Arm], fractions: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for number, arm in enumerate(arms):
        if scores := curves.get(arm.name):
            seeds = np.array([mean(scores.values[n : n + 1]) for n in range(len(scores.seeds))])
            colour = _colour(number)
            panel.plot(scores.steps, mean(scores.values), _marker(number), ls="-", ms=4, color=colour, label=arm.title)
            panel.fill_between(scores.steps, seeds.min(axis=0), seeds.max(axis=0), color=colour, alpha=0.15, lw=0)
    if scratch := curves.get(SCRATCH):
        for fraction in fractions:
            panel.axhline(fraction * float(mean(scratch.values)[-1]), color="0.6", linewidth=0.8, linestyle=":")
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("step")
    panel.grid(color="0.92")


def _panels(count: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, PANEL[0] * count), PANEL[1] + 0.5), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _bars(panel: Any, points: dict[float, Interval], number: int, title: str) -> None:
    values = list(points.values())
    errors = [[v.estimate - v.low for v in values], [v.high - v.estimate for v in values]]
    heights = [v.estimate for v in values]
    style = {"color": _colour(number), "markersize": 5, "linewidth": 1.2, "elinewidth": 1.0, "capsize": 2}
    panel.errorbar(list(points), heights, np.maximum(errors, 0.0), fmt=f"{_marker(number)}-", label=title, **style)


def _legend(figure: Any, panels: Iterable[Any]) -> None:
    """One for all panels, below them."""
    entries: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    columns = max(1, min(4, math.ceil(len(entries) / 2)))
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
