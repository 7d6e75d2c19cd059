"""What the panels say that a time brought is what the studies measured."""

from __future__ import annotations

import csv
from statistics import fmean

import pytest

from MAESegmentLib.runs.measured import measured
from Testing.skips import REPOSITORY

#: Seconds of a step on one thread that nothing else uses, as the study's README has them.
STEP_S = {"mr-new-labels": 0.80, "ct-new-labels": 1.35}


def results_of(study):
    path = REPOSITORY / "model_training" / "studies" / study / "results.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def recipe(what):
    """(Dice, minutes) of an arm, over its seeds and structures."""
    task, arm, budget = what.split("; ")
    rows = [row for row in results_of("recipe") if (row["task"], row["arm"], row["budget"]) == (task, arm, budget)]
    return fmean(float(row["dice"]) for row in rows), float(budget) / 60


def finetune_defaults(what):
    """(Dice, minutes) of a run at its end, on the test cases."""
    scenario, run = what.split("; ")
    rows = [row for row in results_of("finetune_defaults") if (row["scenario"], row["run"]) == (scenario, run)]
    ended = [row for row in rows if row["step"] == row["steps"] and row["weights"] == "average"]
    dice = fmean(float(row["dice"]) for row in ended if row["part"] == "test")
    return dice, int(ended[0]["steps"]) * STEP_S[scenario] / 60


STUDIES = {"recipe": recipe, "finetune_defaults": finetune_defaults}


@pytest.mark.parametrize("row", measured(), ids=lambda row: f"{row.structure} {row.minutes:g}")
def test_row_is_the_result_of_its_study(row):
    dice, minutes = STUDIES[row.source](row.what)
    assert row.dice == pytest.approx(dice, abs=0.001)
    assert row.minutes == pytest.approx(minutes, rel=0.02)
