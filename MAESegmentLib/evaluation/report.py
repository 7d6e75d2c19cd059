"""From scores of single cases to figures per structure: `metrics.csv`, `summary.json`."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..storage.atomic_file import write_file
from ..text import csv_cell, listed
from .log import append
from .metrics import Score, Status

METRICS = "metrics.csv"
COLUMNS = ("case", "label", "dice", "hd95_mm", "surface_dice", "volume_error_ml")


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


def write_metrics_csv(path: Path, scores: Sequence[Score]) -> Path:
    """One row per case and label; an empty cell is a figure that does not exist (structure missing on one side).

    Names are as `csv_cell` writes them: a case called "=1+1" stands there with an apostrophe before it.
    """
    write_file(path, ",".join(COLUMNS) + "\n" + _rows(scores))
    return path


def _rows(scores: Sequence[Score]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_cell(getattr(score, column)) for column in COLUMNS] for score in scores)
    return stream.getvalue()


class MetricsTable:
    """`metrics.csv` while it grows: the rows of a case are on the disk as soon as it is measured."""

    def __init__(self, path: Path, scores: Sequence[Score]) -> None:
        """Begins with `scores`, whatever the file held before."""
        self._path = write_metrics_csv(path, scores)

    def add(self, scores: Sequence[Score]) -> None:
        append(self._path, _rows(scores).encode("utf-8"))


def write_summary_json(
    path: Path, summaries: Sequence[LabelSummary], failures: Mapping[str, str], details: Mapping[str, Any]
) -> Path:
    """Figures per label, cases that could not be evaluated with the reason, and `details` of the run."""
    content = {
        **details,
        "mean_dice": mean_dice(summaries),
        "labels": [asdict(summary) for summary in summaries],
        "failed_cases": dict(failures),
    }
    write_file(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def remarks(summaries: Sequence[LabelSummary]) -> list[str]:
    """What the figures leave out: in one line what the model does not know, then one per structure and kind."""
    not_known = [summary.label for summary in summaries if summary.not_known]
    lines = [f"Not structures of this model, and not evaluated: {', '.join(not_known)}."] if not_known else []
    for summary in summaries:
        if summary.missing_in_prediction:
            lines.append(f"{summary.label}: missing in the prediction of {listed(summary.missing_in_prediction)}.")
        if summary.not_in_reference:
            extra = f", but predicted in {listed(summary.false_positives)}" if summary.false_positives else ""
            lines.append(
                f"{summary.label}: not in the reference of {listed(summary.not_in_reference)}{extra}; left out."
            )
    return lines


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else csv_cell(str(value))
