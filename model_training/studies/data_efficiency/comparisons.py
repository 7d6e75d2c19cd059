"""Two arms under equal conditions: every difference that tables, claims and plots speak of, computed once."""

from __future__ import annotations

from dataclasses import dataclass, field

from .scores import ALL, Cell, Results, aligned, by_count
from .statistics import (
    Difference,
    Interval,
    Resampling,
    StepsSaved,
    difference,
    holm,
    mean_interval,
    seed_spread,
    spread_reduction,
    steps_saved,
)
from .study import Plan, Study

MAE, SCRATCH, EQUAL, SAME_RECIPE = "mae", "scratch", "scratch-equal", "random-mae-recipe"
#: The primary comparisons: `mae` against each of these.
CONTROLS = (SCRATCH, EQUAL, SAME_RECIPE)


@dataclass
class Comparisons:
    """Of one study and its results."""

    study: Study
    results: Results
    _known: dict[tuple[Cell, str, str, str], Difference | None] = field(default_factory=dict)
    _adjusted: dict[tuple[Cell, str], float] | None = None

    @property
    def resampling(self) -> Resampling:
        ends = self.study.endpoints
        return Resampling(ends.bootstrap, ends.confidence, ends.seed)

    @property
    def primary_labels(self) -> list[str]:
        return [str(count) for count in self.study.endpoints.primary_labels]

    def cells(self, plan: Plan) -> list[Cell]:
        """Of the plan's results, by label count."""
        return [Cell(plan.scale, plan.dataset, n) for n in self.results.label_counts(plan.scale, plan.dataset)]

    def declared(self, plan: Plan, *arms: str) -> list[str]:
        """Label counts for which the study plans, or has, runs of each of these arms; ascending."""
        planned = [self._planned(plan, arm) for arm in arms]
        return sorted(set.intersection(*planned), key=by_count)

    def _planned(self, plan: Plan, arm: str) -> set[str]:
        found = {
            row["labels"]
            for row in self.results.runs.values()
            if (row["scale"], row["dataset"], row["arm"], row["measured_on"])
            == (plan.scale, plan.dataset, arm, "validation")
        }
        for run in self.study.runs():
            if (run.scale, run.dataset, run.arm) == (plan.scale, plan.dataset, arm):
                found.add(ALL if run.labels is None else str(run.labels))
        return found

    def difference(self, cell: Cell, arm: str, against: str, measure: str = "dice") -> Difference | None:
        """`arm` minus `against` at the end of training; None where they share no seed, case and label."""
        key = (cell, arm, against, measure)
        if key not in self._known:
            both = aligned(*(self.results.final(cell, name, measure) for name in (arm, against)))
            self._known[key] = (
                difference(both[0].values, both[1].values, both[0].patients, self.resampling) if both else None
            )
        return self._known[key]

    def adjusted_p(self, cell: Cell, against: str) -> float | None:
        """Holm's p of a primary comparison; the family is all of them, on all data sets, that have results."""
        if self._adjusted is None:
            family = {}
            for plan in self.study.plans:
                for count in self.primary_labels:
                    for control in CONTROLS:
                        here = Cell(plan.scale, plan.dataset, count)
                        if found := self.difference(here, MAE, control):
                            family[here, control] = found.p
            self._adjusted = dict(zip(family, holm(list(family.values())), strict=True))
        return self._adjusted.get((cell, against))

    def mean(self, cell: Cell, arm: str, measure: str = "dice") -> Interval | None:
        """With the interval over cases and seeds."""
        scores = self.results.final(cell, arm, measure)
        return mean_interval(scores.values, scores.patients, self.resampling) if scores else None

    def convergence(self, cell: Cell, arm: str, fraction: float, reference: str = SCRATCH) -> StepsSaved | None:
        """Fine-tuning steps of `arm` until `fraction` of the reference's final Dice."""
        both = aligned(*(self.results.curve(cell, name) for name in (arm, reference)))
        if both is None:
            return None
        curves = [(scores.steps, scores.values) for scores in both]
        return steps_saved(curves[0], curves[1], fraction, both[0].patients, self.resampling)

    def spreads(self, cell: Cell, arm: str, against: str) -> tuple[float, float, int] | None:
        """Standard deviations between the seeds that both have, and how many those are."""
        both = aligned(*(self.results.final(cell, name) for name in (arm, against)))
        if both is None or len(both[0].seeds) < 2:
            return None
        return seed_spread(both[0].values), seed_spread(both[1].values), len(both[0].seeds)

    def spread_reduction(self, cells: list[Cell], arm: str, against: str) -> Interval | None:
        """How much smaller `arm`'s standard deviation between seeds is, as a share, pooled over cells."""
        found = [spreads for cell in cells if (spreads := self.spreads(cell, arm, against))]
        return spread_reduction(found, self.study.endpoints.confidence)
