"""The table and the plot of README.md, from runs.csv and metrics.csv alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from MAESegmentLib.storage.atomic_file import write_file
from MAESegmentLib.training.saving import png

from ...tables import Row, read_rows, table_of, update_page
from .clinic import METRICS, RUNS, Clinic

PLOT = "dice.png"
STARTS = {"autoencoder": "pretrained encoder", "random": "from scratch", "pretrained": "segmentation model"}


def write_report(clinic: Clinic, results: Path, folder: Path) -> None:
    """Refresh the marked table of `folder`/README.md and the plot."""
    runs, metrics = read_rows(results / RUNS), read_rows(results / METRICS)
    runs.sort(key=lambda row: (row["initial_weights"], int(row["cases"]), int(row["steps"]), int(row["seed"])))
    dice = {run["run"]: dice_of(run["run"], metrics) for run in runs}
    write_file(folder / PLOT, draw(clinic.labels, runs, dice))
    update_page(folder / "README.md", {"dice": dice_table(clinic.labels, runs, dice)})


def dice_of(run: str, metrics: Sequence[Row]) -> dict[str, np.ndarray]:
    """Dice of every measured case by organ, cases in the same order."""
    result: dict[str, list[float]] = {}
    for row in metrics:
        if row["run"] == run and row["dice"]:
            result.setdefault(row["label"], []).append(float(row["dice"]))
    return {label: np.asarray(values) for label, values in result.items()}


def dice_table(labels: Sequence[str], runs: Sequence[Row], dice: dict[str, dict[str, np.ndarray]]) -> str:
    """Mean and standard deviation over cases; the time is that of the training alone."""

    def mean(run: Mapping[str, str]) -> str:
        return f"**{np.mean([dice[run['run']][label].mean() for label in labels]):.3f}**"

    def of(label: str) -> Callable[[Mapping[str, str]], str]:
        return lambda run: f"{dice[run['run']][label].mean():.3f} ± {dice[run['run']][label].std():.3f}"

    def minutes(run: Mapping[str, str]) -> str:
        seconds = float(run["training_s"])
        return f"{seconds / 60:.1f} ({seconds / int(run['steps']):.2f} s a step)"

    return table_of(
        runs,
        {
            "cases": "cases",
            "start": lambda run: STARTS[run["initial_weights"]],
            "steps": "steps",
            "Dice before": lambda _: "0",
            "mean Dice after": mean,
            **{label: of(label) for label in labels},
            "minutes": minutes,
        },
    )


def draw(labels: Sequence[str], runs: Sequence[Row], dice: dict[str, dict[str, np.ndarray]]) -> bytes:
    """Mean Dice over the number of corrected cases, by organ, at the number of steps that most case counts have."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    panel = figure.subplots()
    lengths = [int(run["steps"]) for run in runs if run["initial_weights"] != "random"]
    steps = max(lengths, key=lambda length: (lengths.count(length), length), default=0)
    for number, label in enumerate(labels):
        colour = f"C{number}"
        own = [run for run in runs if run["initial_weights"] != "random" and int(run["steps"]) == steps]
        points = [(0, 0.0), *((int(run["cases"]), float(dice[run["run"]][label].mean())) for run in own)]
        panel.plot(*zip(*points, strict=True), marker="o", color=colour, label=label)
        for run in runs:
            if run["initial_weights"] == "random":
                panel.plot(int(run["cases"]), dice[run["run"]][label].mean(), marker="x", color=colour)
    panel.set(xlabel=f"corrected cases ({steps} steps)", ylabel="mean Dice on validation", ylim=(0, 1))
    panel.set_xticks(sorted({0, *(int(run["cases"]) for run in runs)}))
    panel.grid(color="0.92")
    panel.legend(fontsize=8)
    return png(figure)
