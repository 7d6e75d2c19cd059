"""Evaluation results for people and programs: `metrics.csv`, `summary.json`, a table on the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..images.atomic import replacing
from .metrics import Score
from .summary import Figure, LabelSummary, mean_dice

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("case", "label", "dice", "hd95_mm", "surface_dice", "volume_error_ml")


def write_metrics_csv(path: Path, scores: Sequence[Score]) -> Path:
    """One row per case and label; an empty cell is a figure that does not exist (structure missing on one side)."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(getattr(score, column)) for column in COLUMNS] for score in scores)
    return path


def write_summary_json(
    path: Path, summaries: Sequence[LabelSummary], failures: Mapping[str, str], details: Mapping[str, Any]
) -> Path:
    """Figures per label, cases that could not be evaluated with the reason, and `details` of the run."""
    content = {
        **details,
        "mean_dice": mean_dice(summaries),
        "labels": [summary.to_dict() for summary in summaries],
        "failed_cases": dict(failures),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def summary_table(summaries: Sequence[LabelSummary], *, title: str, tolerance_mm: float) -> Table:
    """Mean and standard deviation per structure, and on how many cases they rest."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("structure", overflow="fold")
    surface = f"surface\nDice ({tolerance_mm:g} mm)"
    for heading in ("Dice", "HD95\n(mm)", surface, "volume\nerror (ml)", "n", "missing"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in summaries:
        table.add_row(
            summary.label,
            _mean_and_spread(summary.dice, 3),
            _mean_and_spread(summary.hd95_mm, 2),
            _mean_and_spread(summary.surface_dice, 3),
            _mean_and_spread(summary.volume_error_ml, 2, sign="+"),
            str(summary.dice.n),
            str(len(summary.missing_in_prediction)),
        )
    overall = mean_dice(summaries)
    if overall is not None and len(summaries) > 1:
        table.add_section()
        table.add_row("mean", f"{overall:.3f}", "", "", "", "", "")
    return table


def remarks(summaries: Sequence[LabelSummary]) -> list[str]:
    """What the figures leave out, one line per structure and kind."""
    lines = []
    for summary in summaries:
        if summary.not_known:
            lines.append(f"{summary.label}: not a structure of this model; not evaluated.")
        if summary.missing_in_prediction:
            lines.append(f"{summary.label}: missing in the prediction of {_cases(summary.missing_in_prediction)}.")
        if summary.not_in_reference:
            extra = f", but predicted in {_cases(summary.false_positives)}" if summary.false_positives else ""
            lines.append(
                f"{summary.label}: not in the reference of {_cases(summary.not_in_reference)}{extra}; left out."
            )
    return lines


def _cases(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _mean_and_spread(figure: Figure, digits: int, *, sign: str = "") -> str:
    if figure.mean is None:
        return "-"
    spread = f"±{figure.std:.{digits}f}" if figure.n > 1 else ""
    return f"{figure.mean:{sign}.{digits}f}{spread}"


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
