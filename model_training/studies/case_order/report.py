"""The tables of README.md, from its CSV files: `python -m model_training.studies.case_order.report`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from ...tables import read_rows, table, update_page

HERE = Path(__file__).parent
RANDOM = "random"
#: (clinic, order, count) -> seed -> test case -> Dice
Runs = dict[tuple[str, str, int], dict[str, dict[str, float]]]


def run_table(path: Path) -> str:
    """One line a clinic, count and order: mean Dice, and its paired difference to the mean of the random orders."""
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    altered: dict[tuple[str, str, int], dict[str, str]] = defaultdict(dict)
    for row in read_rows(path):
        key = (row["clinic"], row["order"], int(row["count"]))
        runs[key][row["seed"]][row["test"]] = float(row["dice"])
        altered[key][row["seed"]] = row["altered_cases"]
    lines = []
    for key, seeds in sorted(runs.items(), key=lambda item: (item[0][0], item[0][2], item[0][1])):
        clinic, order, count = key
        means = [fmean(dice.values()) for dice in seeds.values()]
        spread = f" ({min(means):.4f} to {max(means):.4f})" if len(means) > 1 else ""
        others = runs.get((clinic, RANDOM, count))
        compared = ["", "", ""]
        if others and order != RANDOM:
            differences = paired(next(iter(seeds.values())), others.values())
            error = stdev(differences) / len(differences) ** 0.5
            beaten = sum(means[0] > fmean(dice.values()) for dice in others.values())
            compared = [
                f"{fmean(differences):+.4f} ± {error:.4f}",
                f"{sum(d > 0 for d in differences)} of {len(differences)}",
                f"{beaten} of {len(others)}",
            ]
        taken = "/".join(altered[key].values())
        lines.append([clinic, str(count), order, taken, f"{fmean(means):.4f}{spread}", *compared])
    head = ["clinic", "cases added", "order", "of the other scanner", "mean Dice"]
    return table([*head, "minus random (mean ± standard error)", "better in", "random orders it beats"], lines)


def paired(dice: Mapping[str, float], others: Iterable[Mapping[str, float]]) -> list[float]:
    """Test case by test case: Dice minus the mean of the `others`."""
    others = list(others)
    return [value - fmean(other[test] for other in others) for test, value in dice.items()]


def case_table(path: Path) -> str:
    """How well each measure tells how good the base is on a scan, before it has been corrected."""
    lines, rows = [], read_rows(path)
    for clinic in dict.fromkeys(row["clinic"] for row in rows):
        own = [row for row in rows if row["clinic"] == clinic]
        for measure in ("entropy", "disagreement", "reconstruction_error"):
            values, dice = (np.array([float(row[name]) for row in own]) for name in (measure, "base_dice"))
            is_altered = np.array([row["altered"] == "1" for row in own])
            means = [f"{values[chosen].mean():.3f}" if chosen.any() else "" for chosen in (is_altered, ~is_altered)]
            ranks = np.corrcoef(values.argsort().argsort(), dice.argsort().argsort())[0, 1]
            lines.append([clinic, measure, f"{ranks:+.2f}", *means])
    head = ["clinic", "measure", "rank correlation with the base's Dice", "mean, other scanner", "mean, usual scanner"]
    return table(head, lines)


if __name__ == "__main__":
    update_page(HERE / "README.md", {"cases": case_table(HERE / "cases.csv"), "runs": run_table(HERE / "runs.csv")})
