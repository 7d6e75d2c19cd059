"""From scores of single cases to figures per structure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .metrics import Score, Status


@dataclass(frozen=True)
class Figure:
    """Mean, standard deviation, median and range over `n` cases; `n` alone where there is no case."""

    n: int
    mean: float | None = None
    std: float | None = None
    median: float | None = None
    lowest: float | None = None
    highest: float | None = None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Figure:
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return cls(0)
        spread = statistics.stdev(known) if len(known) > 1 else 0.0
        return cls(len(known), statistics.fmean(known), spread, statistics.median(known), min(known), max(known))


@dataclass(frozen=True)
class LabelSummary:
    """One structure over all cases. Dice counts a structure missing in the prediction as 0; distances leave it out.

    `false_positives` are cases whose reference lacks the structure while the prediction has it.
    """

    label: str
    dice: Figure
    hd95_mm: Figure
    surface_dice: Figure
    volume_error_ml: Figure
    absolute_volume_error_ml: Figure
    missing_in_prediction: tuple[str, ...]
    not_in_reference: tuple[str, ...]
    false_positives: tuple[str, ...]
    not_known: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarise(scores: Sequence[Score]) -> list[LabelSummary]:
    """One summary per label, in the order in which the labels first appear."""
    return [
        _summary(label, [s for s in scores if s.label == label]) for label in dict.fromkeys(s.label for s in scores)
    ]


def mean_dice(summaries: Sequence[LabelSummary]) -> float | None:
    """Mean over the structures of their mean Dice; structures without a comparable case do not count."""
    return Figure.of([summary.dice.mean for summary in summaries]).mean


def _summary(label: str, scores: Sequence[Score]) -> LabelSummary:
    errors = [score.volume_error_ml for score in scores]
    absent = [score for score in scores if score.status is Status.NOT_IN_REFERENCE]
    return LabelSummary(
        label=label,
        dice=Figure.of([score.dice for score in scores]),
        hd95_mm=Figure.of([score.hd95_mm for score in scores]),
        surface_dice=Figure.of([score.surface_dice for score in scores]),
        volume_error_ml=Figure.of(errors),
        absolute_volume_error_ml=Figure.of([None if error is None else abs(error) for error in errors]),
        missing_in_prediction=tuple(s.case for s in scores if s.status is Status.MISSING_IN_PREDICTION),
        not_in_reference=tuple(s.case for s in absent),
        false_positives=tuple(s.case for s in absent if s.predicted_ml > 0),
        not_known=all(s.status is Status.NOT_KNOWN for s in scores),
    )
