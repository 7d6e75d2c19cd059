"""The table of the check of familiarity, from its CSV alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..tables import table
from .familiarity_cases import KNOWN, STRANGE

_GOALS = {KNOWN: "at most 5 % flagged", STRANGE: "at least 90 % flagged, AUC 0.97"}


def familiarity_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A line per model and group; a goal that is missed is marked."""
    if not rows:
        return "Not measured yet."
    head = ["model", "group", "scans", "flagged", "AUC", "grey values", "extent", "stages, finest first", "goal"]
    lines = []
    for row in rows:
        met = meets_goal(row)
        goal = "" if met is None else _GOALS[row["kind"]] + ("" if met else ": **missed**")
        stages = [value for name, value in row.items() if name.startswith("stage") and value]
        measured = [row["model"], row["group"], row["scans"], f"{100 * float(row['flagged']):.0f} %", row["auc"]]
        lines.append([*measured, row["grey_values"], row["extent"], ", ".join(stages), goal])
    return table(head, lines)


def few_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A line per model and number of training scans."""
    if not rows:
        return "Not measured yet."
    lines = [
        [row["model"], row["training_scans"], *(f"{100 * float(row[kind]):.0f} %" for kind in (KNOWN, STRANGE))]
        for row in rows
    ]
    return table(["model", "training scans", "known, flagged", "strange, flagged"], lines)


def meets_goal(row: Mapping[str, str]) -> bool | None:
    """Whether the known are let through and the strange told apart; None where there is no goal."""
    flagged = float(row["flagged"])
    if row["kind"] == KNOWN:
        return flagged <= 0.05
    return flagged >= 0.9 and float(row["auc"]) >= 0.97 if row["kind"] == STRANGE else None
