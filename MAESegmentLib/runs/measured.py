"""What a fine-tuning of so many minutes brought on data of our own: measured, or not listed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Measured:
    """Mean Dice of test cases after `minutes` of training steps on one processor thread, from `cases` cases of a
    structure that the start did not know; `source` is the folder of the study, `what` it is there."""

    structure: str
    cases: int
    minutes: float
    dice: float
    source: str
    what: str


@cache
def measured() -> tuple[Measured, ...]:
    """By structure, the shortest first."""
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            Measured(
                row["structure"],
                int(row["cases"]),
                float(row["minutes"]),
                float(row["dice"]),
                row["source"],
                row["what"],
            )
            for row in csv.DictReader(stream)
        )
