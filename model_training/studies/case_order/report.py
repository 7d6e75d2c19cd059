"""Tables of the study's README, from its CSV files: `python -m model_training.studies.case_order.report`."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RANDOM = "random"
#: (clinic, order, count) -> seed -> test case -> Dice
Runs = dict[tuple[str, str, int], dict[str, dict[str, float]]]


def read_runs(path: Path) -> tuple[Runs, dict[tuple[str, str, int], list[int]]]:
    """The runs, and how many cases of the other scanner each of their seeds took."""
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    altered: dict[tuple[str, str, int], dict[str, int]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            key = (row["clinic"], row["order"], int(row["count"]))
            runs[key][row["seed"]][row["test"]] = float(row["dice"])
            altered[key][row["seed"]] = int(row["altered_cases"])
    return runs, {key: list(seeds.values()) for key, seeds in altered.items()}


def run_table(runs: Runs, altered: Mapping[tuple[str, str, int], Sequence[int]]) -> list[str]:
    """One line a clinic, count and order: mean Dice, and its paired difference to the mean of the random orders."""
    lines = [
        "| clinic | cases added | order | of the other scanner | mean Dice | minus random (mean ± standard error) "
        "| better in | random orders it beats |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (clinic, order, count), seeds in sorted(runs.items(), key=lambda item: (item[0][0], item[0][2], item[0][1])):
        means = [statistics.fmean(dice.values()) for dice in seeds.values()]
        spread = f" ({min(means):.4f} to {max(means):.4f})" if len(means) > 1 else ""
        taken = "/".join(map(str, altered[clinic, order, count]))
        others = runs.get((clinic, RANDOM, count))
        compared = ["", "", ""]
        if others and order != RANDOM:
            differences = paired(next(iter(seeds.values())), others.values())
            error = statistics.stdev(differences) / len(differences) ** 0.5
            beaten = sum(means[0] > statistics.fmean(dice.values()) for dice in others.values())
            compared = [
                f"{statistics.fmean(differences):+.4f} ± {error:.4f}",
                f"{sum(d > 0 for d in differences)} of {len(differences)}",
                f"{beaten} of {len(others)}",
            ]
        cells = [clinic, str(count), order, taken, f"{statistics.fmean(means):.4f}{spread}", *compared]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def paired(dice: Mapping[str, float], others: Iterable[Mapping[str, float]]) -> list[float]:
    """Test case by test case: Dice minus the mean of the `others`."""
    others = list(others)
    return [value - statistics.fmean(other[test] for other in others) for test, value in dice.items()]


def case_table(path: Path) -> list[str]:
    """How well each measure tells how good the base is on a scan, before anybody has corrected it."""
    lines = [
        "| clinic | measure | rank correlation with the base's Dice | mean, other scanner | mean, usual scanner |",
        "|---|---|---|---|---|",
    ]
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for clinic in dict.fromkeys(row["clinic"] for row in rows):
        own = [row for row in rows if row["clinic"] == clinic]
        for measure in ("entropy", "disagreement", "reconstruction_error"):
            values = np.array([float(row[measure]) for row in own])
            dice = np.array([float(row["base_dice"]) for row in own])
            is_altered = np.array([row["altered"] == "1" for row in own])
            means = [f"{values[chosen].mean():.3f}" if chosen.any() else "" for chosen in (is_altered, ~is_altered)]
            lines.append("| " + " | ".join([clinic, measure, f"{_rank_correlation(values, dice):+.2f}", *means]) + " |")
    return lines


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.argsort().argsort(), second.argsort().argsort())[0, 1])


if __name__ == "__main__":
    print("\n".join(case_table(HERE / "cases.csv")), "\n")
    print("\n".join(run_table(*read_runs(HERE / "runs.csv"))))
