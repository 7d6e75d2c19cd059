"""The table and the plot of README.md, from runs.csv and metrics.csv alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from MAESegmentLib.training.loop.results import png, write_atomically

from ..marked_tables import replace_blocks, table
from .clinic import read_rows

PLOT = "dice.png"
STARTS = {"autoencoder": "pretrained encoder", "random": "from scratch", "pretrained": "segmentation model"}


def write_report(labels: Sequence[str], folder: Path) -> None:
    """Refresh the marked table of `folder`/README.md and the plot."""
    runs, metrics = read_rows(folder / "runs.csv"), read_rows(folder / "metrics.csv")
    runs = sorted(
        runs, key=lambda row: (row["initial_weights"], int(row["cases"]), int(row["steps"]), int(row["seed"]))
    )
    dice = {run["run"]: dice_of(run["run"], metrics) for run in runs}
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else "<!-- dice --><!-- end -->\n"
    write_atomically(folder / PLOT, draw(labels, runs, dice))
    write_atomically(path, replace_blocks(text, {"dice": dice_table(labels, runs, dice)}).encode())


def dice_of(run: str, metrics: Sequence[dict[str, str]]) -> dict[str, np.ndarray]:
    """Dice of every measured case by organ, cases in the same order."""
    result: dict[str, list[float]] = {}
    for row in metrics:
        if row["run"] == run and row["dice"]:
            result.setdefault(row["label"], []).append(float(row["dice"]))
    return {label: np.asarray(values) for label, values in result.items()}


def dice_table(labels: Sequence[str], runs: Sequence[dict[str, str]], dice: dict[str, dict[str, np.ndarray]]) -> str:
    """Mean and standard deviation over cases; the time is that of the training alone."""
    lines = []
    for run in runs:
        own = dice[run["run"]]
        seconds = float(run["training_s"])
        mean = np.mean([own[label].mean() for label in labels])
        figures = [f"{own[label].mean():.3f} ± {own[label].std():.3f}" for label in labels]
        start = STARTS[run["initial_weights"]]
        minutes = f"{seconds / 60:.1f} ({seconds / int(run['steps']):.2f} s a step)"
        lines.append([run["cases"], start, run["steps"], "0", f"**{mean:.3f}**", *figures, minutes])
    return table(["cases", "start", "steps", "Dice before", "mean Dice after", *labels, "minutes"], lines)


def draw(labels: Sequence[str], runs: Sequence[dict[str, str]], dice: dict[str, dict[str, np.ndarray]]) -> bytes:
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
