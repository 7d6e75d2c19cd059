"""What the results say of each claim, by rules that were fixed before there were results.

A cell is one data set at one label count (for convergence also one fraction). It speaks *for* a claim where every
interval lies above 0; *against* it where every upper bound is below the margin, so that a gain of use to anyone is
excluded; else it is *open*. A cell with fewer than `LEAST_SEEDS` seeds is open.

On a data set a claim is supported where every planned cell speaks for it; not supported where a cell speaks against it
and none for it; not run where no cell has results; else undecided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from .comparisons import CONTROLS, EQUAL, MAE, SAME_RECIPE, SCRATCH, Comparisons
from .scores import ALL, Cell, labelled, percent, place
from .statistics import Interval
from .study import Plan

LEAST_SEEDS = 3
#: Smaller savings of steps, and smaller reductions of the standard deviation, are of no use to anyone.
STEPS_MARGIN, SPREAD_MARGIN = 0.05, 0.10


class Verdict(str, Enum):
    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Evidence:
    """One cell: intervals of a gain (none: no results), and the same in words."""

    name: str
    intervals: tuple[Interval, ...] = ()
    words: str = ""
    seeds: int = 0
    #: Holm's p, for the primary comparisons.
    adjusted: float | None = None

    def speaks(self, margin: float) -> str:
        if self.seeds < LEAST_SEEDS:
            return "open"
        if all(interval.low > 0 for interval in self.intervals):
            return "for"
        return "against" if all(interval.high < margin for interval in self.intervals) else "open"


@dataclass(frozen=True)
class Claim:
    """`gather` yields the planned cells of a plan, with what was found."""

    title: str
    compared: str
    margin: float
    gather: Callable[[Comparisons, Plan], Iterator[Evidence]]


@dataclass(frozen=True)
class Finding:
    """A claim on one data set."""

    claim: Claim
    plan: Plan
    cells: tuple[Evidence, ...]

    @property
    def verdict(self) -> Verdict:
        return decide(self.cells, self.claim.margin)

    def place(self, alpha: float) -> str:
        """With what a reader has to know before believing in a support."""
        notes = []
        if self.verdict is Verdict.SUPPORTED:
            if any(cell.adjusted is not None and cell.adjusted >= alpha for cell in self.cells):
                notes.append("though not in every cell after Holm's correction")
            if any(cell.intervals[0].estimate < self.claim.margin for cell in self.cells):
                notes.append("though in part by less than is of use")
        return ", ".join([place(self.plan), *notes])


def decide(cells: Sequence[Evidence], margin: float) -> Verdict:
    """By the rule above; a planned cell without results keeps a claim from being supported."""
    spoken = [cell.speaks(margin) for cell in cells if cell.intervals]
    if not spoken:
        return Verdict.NOT_RUN
    if len(spoken) == len(cells) and set(spoken) == {"for"}:
        return Verdict.SUPPORTED
    return Verdict.NOT_SUPPORTED if "against" in spoken and "for" not in spoken else Verdict.UNDECIDED


def claims(comparisons: Comparisons) -> list[Claim]:
    """In the order of the question; the arm is always `mae`."""
    margin = comparisons.study.endpoints.margin
    few = "Higher Dice from few labels than"
    made = [
        _dice_claim(f"{few} from scratch", SCRATCH, margin),
        _dice_claim(f"{few} from scratch at equal total compute", EQUAL, margin),
        _dice_claim(f"{few} from random weights with the same recipe", SAME_RECIPE, margin),
        Claim("Faster convergence than from scratch", f"`{MAE}` and `{SCRATCH}`, steps", STEPS_MARGIN, _steps),
        _dice_claim("Higher Dice from all labels than from scratch", SCRATCH, margin, full=True),
        _dice_claim("Higher Dice from all labels than from scratch at equal total compute", EQUAL, margin, full=True),
    ]
    pretexts = [arm for arm in comparisons.study.arms if arm.group == "pretext"]
    made += [_dice_claim(f"{few} after {arm.title}", arm.name, margin) for arm in pretexts]
    spread = f"`{MAE}` and `{SCRATCH}`, standard deviation of Dice"
    return [*made, Claim("Less variance between seeds than from scratch", spread, SPREAD_MARGIN, _spread)]


def findings(comparisons: Comparisons, claim: Claim) -> list[Finding]:
    """For each data set on which the study plans the comparison."""
    gathered = ((plan, tuple(claim.gather(comparisons, plan))) for plan in comparisons.study.plans)
    return [Finding(claim, plan, cells) for plan, cells in gathered if cells]


def claims_text(comparisons: Comparisons) -> str:
    """A sentence per claim, and below it the figures on which it rests."""
    lines = []
    alpha = 1.0 - comparisons.study.endpoints.confidence
    for claim in claims(comparisons):
        found = findings(comparisons, claim)
        if not found:
            continue
        lines.append(f"* **{claim.title}** ({claim.compared}): {_sentence(found, alpha)}")
        for finding in found:
            cells = [_cell_words(cell, claim.margin) for cell in finding.cells]
            if finding.verdict is not Verdict.NOT_RUN:
                lines.append(f"    * {place(finding.plan)}, {finding.verdict.value}: {'; '.join(cells)}.")
    return "\n".join(lines) or "The study plans no comparison."


def _sentence(found: Sequence[Finding], alpha: float) -> str:
    parts = []
    for verdict in (Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.UNDECIDED):
        places = [finding.place(alpha) for finding in found if finding.verdict is verdict]
        parts += [f"**{verdict.value}** on {_listed(places)}"] if places else []
    missing = _not_run(found)
    if missing:
        parts.append(f"not run on {_listed(missing)}" if parts else "not run")
    return "; ".join(parts) + "."


def _not_run(found: Sequence[Finding]) -> list[str]:
    """Data sets without results; a scale at which there are none for any of several is named once."""
    missing = [finding.plan for finding in found if finding.verdict is Verdict.NOT_RUN]
    names = []
    for scale in dict.fromkeys(plan.scale for plan in missing):
        own = [plan for plan in missing if plan.scale == scale]
        whole = len(own) > 1 and len(own) == sum(finding.plan.scale == scale for finding in found)
        names += [f"any data ({scale})"] if whole else [place(plan) for plan in own]
    return names


def _cell_words(cell: Evidence, margin: float) -> str:
    if not cell.intervals:
        return f"{cell.name} not run"
    spoken = cell.speaks(margin)
    if spoken == "for" and cell.intervals[0].estimate < margin:
        spoken = "for, but too small to be of use"
    if spoken == "against" and all(interval.high < 0 for interval in cell.intervals):
        spoken = "against: worse"
    if cell.seeds < LEAST_SEEDS:
        spoken = f"open, {cell.seeds} seed{'s' if cell.seeds > 1 else ''} only"
    return f"{cell.name} {cell.words} ({spoken})"


def _dice_claim(title: str, against: str, margin: float, full: bool = False) -> Claim:
    def gather(comparisons: Comparisons, plan: Plan) -> Iterator[Evidence]:
        for count in _planned(comparisons, plan, against, full):
            cell = Cell(plan.scale, plan.dataset, count)
            found = comparisons.difference(cell, MAE, against)
            if found is None:
                yield Evidence(labelled(count))
                continue
            words = (
                f"{found.by_case.estimate:+.3f} [{found.by_case_and_seed.low:+.3f}, {found.by_case_and_seed.high:+.3f}]"
            )
            adjusted = comparisons.adjusted_p(cell, against) if against in CONTROLS else None
            words += "" if adjusted is None else f", Holm p = {adjusted:.2g}"
            yield Evidence(labelled(count), found.intervals, words, found.seeds, adjusted)

    return Claim(title, f"`{MAE}` − `{against}`", margin, gather)


def _steps(comparisons: Comparisons, plan: Plan) -> Iterator[Evidence]:
    for count in _planned(comparisons, plan, SCRATCH):
        cell = Cell(plan.scale, plan.dataset, count)
        for fraction in comparisons.study.endpoints.fractions:
            name = f"{labelled(count)}, {percent(fraction)}:"
            found = comparisons.convergence(cell, MAE, fraction)
            if found is None:
                yield Evidence(name)
                continue
            words = f"not reached, instead of after {found.reference_steps:.0f} steps"
            if math.isfinite(found.steps):
                saved = f"{_percent(found.saved[0].estimate)} {_range(found.saved[1])}"
                words = f"after {found.steps:.0f} steps instead of {found.reference_steps:.0f}, saved {saved}"
            yield Evidence(name, found.saved, words, found.seeds)


def _spread(comparisons: Comparisons, plan: Plan) -> Iterator[Evidence]:
    cells = [Cell(plan.scale, plan.dataset, count) for count in _planned(comparisons, plan, SCRATCH)]
    spreads = {cell: pair for cell in cells if (pair := comparisons.spreads(cell, MAE, SCRATCH))}
    yield from (Evidence(labelled(cell.labels)) for cell in cells if cell not in spreads)
    found = comparisons.spread_reduction(list(spreads), MAE, SCRATCH)
    if found is not None:
        words = f"smaller by {_percent(found.estimate)} {_range(found)}"
        name = f"{_listed([cell.labels for cell in spreads])} labels together:"
        yield Evidence(name, (found,), words, min(seeds for _, _, seeds in spreads.values()))


def _planned(comparisons: Comparisons, plan: Plan, against: str, full: bool = False) -> list[str]:
    wanted = [ALL] if full else comparisons.primary_labels
    return [count for count in comparisons.declared(plan, MAE, against) if count in wanted]


def _percent(share: float) -> str:
    return percent(share, "+") if math.isfinite(share) else "never"


def _range(interval: Interval) -> str:
    return f"[{_percent(interval.low)}, {_percent(interval.high)}]"


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
