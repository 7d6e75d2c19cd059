"""README.md's tables and curves, from the result files and study.toml alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from MAESegmentLib.storage.atomic_file import write_file
from MAESegmentLib.training.saving import png

from ...tables import table, update_page
from ..data_efficiency.plots import COLOURS, MARKERS, PANEL
from ..data_efficiency.scores import Cell, aligned, labelled, read_results
from ..data_efficiency.statistics import Interval, Resampling, difference, mean_interval
from .study import SCALE, Ends, Ladder, Study

#: For how many tasks one pretraining serves.
TASKS = (1, 3, 10)
SCRATCH = "scratch"
NOTHING = "Nothing has been run."


@dataclass(frozen=True)
class Rung:
    """`flops` of one task's training, `pretext` of the pretraining before it; `check` is on the pool's check cases."""

    steps: int
    check: float
    dice: Interval
    flops: float
    pretext: float
    images: str

    def total(self, tasks: int) -> float:
        """Operations for one of so many tasks that share the pretraining."""
        return self.flops + self.pretext / tasks


class Climbs:
    """The rungs of every ladder of which all seeds have been run."""

    def __init__(self, study: Study, results: Path) -> None:
        self.study, self._results = study, read_results(results)
        self.ends = Ends(study, results)
        self.titles = {plan.dataset: plan.title for plan in study.inner.plans}

    def rungs(self, ladder: Ladder) -> list[Rung]:
        found = []
        for steps in self.study.rungs:
            check = self.ends.check(ladder, steps)
            scores = self._results.final(_cell(ladder), f"{ladder.arm}@{steps}")
            if check is None or scores is None:
                break
            row = self._results.of(_cell(ladder), f"{ladder.arm}@{steps}")[0]
            dice = mean_interval(scores.values, scores.patients, Resampling())
            pretext = float(row["pretext_flops"])
            found.append(Rung(steps, check, dice, float(row["flops"]), pretext, self._images(ladder)))
        return found

    def _images(self, ladder: Ladder) -> str:
        """How many images its pretraining saw; empty without one."""
        name = f"{SCALE}/{ladder.dataset}/{self.study.inner.arm(ladder.arm).pretraining_name}"
        return next((row["images"] for row in self._results.pretexts if row["pretraining"] == name), "")

    def difference(self, ladder: Ladder, steps: int, other: Ladder, other_steps: int) -> str:
        """Dice of one rung minus another's, with the interval by case and seed."""
        pair = [(ladder, steps), (other, other_steps)]
        both = aligned(*(self._results.final(_cell(one), f"{one.arm}@{at}") for one, at in pair))
        found = difference(both[0].values, both[1].values, both[0].patients, Resampling()) if both else None
        if found is None:
            return "-"
        interval = found.by_case_and_seed
        return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"

    def pairs(self) -> Iterator[tuple[Ladder, Ladder]]:
        """Each ladder of a pretext, with that from scratch beside it."""
        scratch = {_cell(ladder): ladder for ladder in self.study.ladders if ladder.arm == SCRATCH}
        for ladder in self.study.ladders:
            if ladder.arm != SCRATCH and self.rungs(ladder) and self.rungs(scratch[_cell(ladder)]):
                yield ladder, scratch[_cell(ladder)]

    def title(self, ladder: Ladder) -> str:
        return f"{self.titles[ladder.dataset]}, {labelled(str(ladder.labels))}"


def ahead_from(own: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float | None:
    """Compute from which on `own` is ahead for good; None if it is behind at the end.

    Both are (compute, Dice), rising in compute; between two points, an arm has the Dice of the longest training paid.
    """

    def paid(points: Sequence[tuple[float, float]], compute: float) -> float:
        return max((point for point in points if point[0] <= compute), default=(0.0, -1.0))[1]

    costs = sorted({compute for compute, _ in (*own, *other)})
    ahead = [paid(own, compute) > paid(other, compute) for compute in costs]
    if not ahead[-1]:
        return None
    behind = max((n for n, is_ahead in enumerate(ahead) if not is_ahead), default=-1)
    return costs[behind + 1]


def write_report(study: Study, results: Path, folder: Path) -> None:
    """Refresh the marked parts of `folder`/README.md and the plot there."""
    climbs = Climbs(study, results)
    missing = [run for run in study.runs if run.name not in climbs.ends.finished | climbs.ends.needless()]
    blocks = {
        "learnt": _sentences(climbs),
        "rungs": _rungs(climbs),
        "crossings": _crossings(climbs),
        "plot": NOTHING,
        "missing": f"At most {len(missing)} of {len(study.runs)} runs are still to be done.",
    }
    if image := _plot(climbs):
        write_file(folder / "curves.png", image)
        blocks["plot"] = "![Dice over total compute](curves.png)"
    update_page(folder / "README.md", blocks)


def _sentences(climbs: Climbs) -> str:
    """Per data set, label count and pretext: where both ladders stand, and from where on pretraining pays."""
    lines = []
    for ladder, scratch in climbs.pairs():
        own, other = climbs.rungs(ladder)[-1], climbs.rungs(scratch)[-1]
        state = " and ".join(
            f"`{one.arm}` {rung.dice.estimate:.3f} after {rung.steps:,} steps"
            + ("" if climbs.ends.end(one) else " (its ladder goes on)")
            for one, rung in ((ladder, own), (scratch, other))
        )
        gained = climbs.difference(ladder, own.steps, scratch, other.steps)
        lines.append(f"* **{climbs.title(ladder)}**: {state}: {gained}. {_pays(climbs, ladder, scratch)}")
    return "\n".join(lines) or NOTHING


def _pays(climbs: Climbs, ladder: Ladder, scratch: Ladder) -> str:
    parts = []
    for tasks in TASKS:
        at = _ahead(climbs, ladder, scratch, tasks)
        where = "is behind at the end" if at is None else f"is ahead from {at / 1e12:.1f} TFLOP on"
        parts.append(f"for {tasks} task{'s' * (tasks > 1)} it {where}")
    return f"Pretraining counted: {', '.join(parts)}."


def _ahead(climbs: Climbs, ladder: Ladder, scratch: Ladder, tasks: int) -> float | None:
    curves = [[(r.total(tasks), r.dice.estimate) for r in climbs.rungs(one)] for one in (ladder, scratch)]
    return ahead_from(*curves)


def _rungs(climbs: Climbs) -> str:
    lines = []
    for ladder in climbs.study.ladders:
        end = climbs.ends.end(ladder)
        for rung in climbs.rungs(ladder):
            dice = f"{rung.dice.estimate:.3f} [{rung.dice.low:.3f}, {rung.dice.high:.3f}]"
            compute = [f"{rung.flops / 1e12:.1f}", f"{rung.pretext / 1e12:.1f}" if rung.pretext else "", rung.images]
            last = "the end" if rung.steps == end else ""
            lines.append(
                [climbs.title(ladder), ladder.arm, f"{rung.steps:,}", f"{rung.check:.3f}", dice, *compute, last]
            )
    head = ["data", "arm", "steps", "Dice, check", "Dice, validation", "TFLOP", "pretraining, TFLOP", "its images", ""]
    return table(head, lines) if lines else NOTHING


def _crossings(climbs: Climbs) -> str:
    """TFLOP from which on each pretext is ahead of scratch for good, by the number of tasks that share it."""
    lines = []
    for ladder, scratch in climbs.pairs():
        found = [_ahead(climbs, ladder, scratch, tasks) for tasks in TASKS]
        cells = ["never so far" if at is None else f"{at / 1e12:.1f}" for at in found]
        lines.append([climbs.title(ladder), ladder.arm, *cells])
    return table(["data", "arm", *(f"{n} task{'s' * (n > 1)}" for n in TASKS)], lines) if lines else NOTHING


def _plot(climbs: Climbs) -> bytes | None:
    """A panel per data set and label count: Dice over total compute."""
    cells = {_cell(ladder): (ladder, scratch) for ladder, scratch in climbs.pairs() if ladder.arm == "mae"}
    if not cells:
        return None
    from matplotlib.figure import Figure

    width, height = PANEL
    figure = Figure(figsize=(width * len(cells), height), layout="constrained")
    for panel, (ladder, scratch) in zip(figure.subplots(1, len(cells), squeeze=False)[0], cells.values(), strict=True):
        curves = [("from scratch", climbs.rungs(scratch), 1)]
        curves += [(f"MAE, shared by {n}", climbs.rungs(ladder), n) for n in TASKS]
        for number, (name, rungs, tasks) in enumerate(curves):
            x, y = [rung.total(tasks) / 1e12 for rung in rungs], [rung.dice.estimate for rung in rungs]
            panel.plot(x, y, MARKERS[number] + "-", color=COLOURS[number], label=name)
        panel.set_xscale("log")
        panel.set_title(climbs.title(ladder), fontsize=10)
        panel.set_xlabel("total compute of a task, TFLOP")
        panel.set_ylabel("mean Dice, validation cases")
        panel.grid(color="0.9")
        panel.legend(fontsize=8)
    return png(figure)


def _cell(ladder: Ladder) -> Cell:
    return Cell(SCALE, ladder.dataset, str(ladder.labels))
