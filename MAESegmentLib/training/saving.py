"""What a finished run leaves: the model, report.json, curves.png and what the model says of its training."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..bundle import Bundle, save_bundle
from ..bundle.scan_statistics import ENOUGH_TO_CALIBRATE
from ..bundle.training_statistics import ScanDescription
from ..device import resolve_device
from ..inference.familiarity import describe_scan, fit_familiarity
from ..storage.atomic_file import write_file
from ..text import markdown_cell, plot_text
from .data.prepared import PreparedCase
from .loop.loop import Trained
from .loop.output_folder import MODEL_FOLDER
from .loop.runlog import TRAINING_LOG, VALIDATION_LOG, read_log
from .recipe import Description
from .run_context import Progress, RunContext
from .settings import LoopSettings

#: More training scans make the statistics no better.
MAX_SCANS = 128
#: Windows described of each scan, where there are few.
WINDOWS_OF_FEW = 4


def save_model(
    out: Path,
    kind: str,
    text: Description,
    trained: Trained,
    settings: LoopSettings,
    context: RunContext,
    *,
    sources: Mapping[str, Any],
    report: Mapping[str, Any],
    card: str,
    pictures: Mapping[str, bytes],
    autoencoder_state: Mapping[str, Tensor] | None = None,
    **parts: Any,
) -> Bundle:
    """Pictures, report and, last, the bundle as `out`/model: where the model folder is, everything is.

    `sources` says for the bundle what it was trained on, without names or paths; `report` adds to the run's own report;
    `card` stands in the model's card below its heading. `parts` are other fields of its `ModelSpec`.
    """
    pictures = {**pictures, "curves.png": draw_curves(out)}
    for name, picture in pictures.items():
        write_file(out / name, picture)
    record = {
        "settings": settings.to_dict(),
        "steps": trained.step,
        "seconds": round(trained.seconds, 1),
        "device": str(resolve_device(settings.device)),
        **sources,
    }
    everything = {"model": {"name": text.name, "version": text.version}, **record, **report}
    write_file(out / "report.json", json.dumps(finite(everything), indent=2) + "\n")
    bundle = save_bundle(
        out / MODEL_FOLDER,
        text.spec(kind, training=finite(record), **parts),
        trained.weights,
        autoencoder_state=autoencoder_state,
        card=f"{text.heading()}\n\n{card}\n",
        licence_text=text.licence_text,
        documents=pictures,
    )
    context.report(Progress("save", 1.0, step=trained.step, message=f"Model saved: {bundle.path}"))
    return bundle


def familiarity_of(
    encoder: nn.Module, cases: Sequence[PreparedCase], patch_size: Sequence[int], device: torch.device
) -> dict[str, Any] | None:
    """What the training scans are like to an `encoder` trained on `cases`: what inference compares a new scan with.

    At most `MAX_SCANS` of them count, evenly chosen. None if their grey values are not known.
    """
    known = [case for case in cases if case.grey is not None]
    if not known:
        return None
    chosen = known[:: -(-len(known) // MAX_SCANS)]
    windows = 1 if len(chosen) >= ENOUGH_TO_CALIBRATE else WINDOWS_OF_FEW
    encode = encoder.to(device).eval()

    def describe(case: PreparedCase) -> ScanDescription:
        assert case.grey is not None
        image = torch.from_numpy(case.image)
        return describe_scan(case.grey, image, case.spacing, patch_size, encode, windows=windows, device=device)

    return fit_familiarity([describe(case) for case in chosen]).to_dict()


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
