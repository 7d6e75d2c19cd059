"""What a finished run leaves for the user: report.json, curves.png and the model card's account of itself."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...storage.atomic_file import write_file
from ...text import markdown_cell, plot_text
from .runlog import TRAINING_LOG, VALIDATION_LOG, read_log


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """`report.json`, with NaN as null."""
    write_file(folder / "report.json", json.dumps(finite(report), indent=2) + "\n")


def finite(value: Any) -> Any:
    """The same with every NaN or infinite number replaced by None, which JSON can say."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def draw_curves(folder: Path) -> bytes:
    """PNG of the training loss and of every validation result over steps."""
    from matplotlib.figure import Figure

    training, validation = read_log(folder / TRAINING_LOG), read_log(folder / VALIDATION_LOG)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in training]
    losses = [row["loss"] for row in training]
    left.plot(steps, losses, color="0.8", label="every logged step")
    left.plot(steps, _smoothed(losses), label="smoothed")
    left.set(title="Training loss", xlabel="step")
    left.legend()
    for name in validation[0] if validation else ():
        if name not in ("step", "score"):
            steps = [row["step"] for row in validation]
            right.plot(steps, [row[name] for row in validation], label=plot_text(name), marker=".")
    right.set(title="Held-out cases" if validation else "No held-out cases", xlabel="step")
    if validation:
        right.legend()
    return png(figure)


def png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def dice_markdown(title: str, before: Mapping[str, float] | None, after: Mapping[str, float]) -> str:
    """A table label | before | after."""
    lines = [title, "", "| label | before | after |", "|---|---|---|"]
    for name, value in after.items():
        lines.append(f"| {markdown_cell(name)} | {_number((before or {}).get(name))} | {_number(value)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _smoothed(values: Sequence[float], keep: float = 0.9) -> list[float]:
    result: list[float] = []
    for value in values:
        result.append(value if not result else keep * result[-1] + (1 - keep) * value)
    return result
