"""The fine-tunings of the campaign. None sees a case of `validation`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.bundle.archive import export_bundle
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.runs.durations import DURATIONS
from MAESegmentLib.training.defaults import default_settings
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.recipe import Description, read_recipe
from MAESegmentLib.training.run_context import Progress, RunContext
from MAESegmentLib.training.settings import FineTuneSettings

from .plan import Plan

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
#: The last round of each shipped model.
LAST_ROUND = {"hippocampus-mr": "finetune4.toml", "headneck-ct": "finetune3.toml"}
BATCH = 16
#: Cases of the pool that are learnt from, and those after them that Dice is measured on.
_FOUR, _MEASURED = "pool:4", "pool:4:12"
#: Kept of the long runs' time for what comes after training.
_SAVING_S, _LEAST_S = 20.0, 30.0
_REHEARSED_MINUTES = 0.002


def four_cases(model: str, data: Path, plan: Plan) -> dict[str, Any]:
    """From the pretrained encoder, which never saw a label, in the shortest of the times that the panels offer."""
    base = plan.base(model)
    minutes = _REHEARSED_MINUTES if plan.rehearse else DURATIONS[0].minutes
    chosen = {"minutes": minutes, "initial_weights": "autoencoder", "device": plan.device, "num_workers": plan.workers}
    settings = default_settings(base, new_labels=False, chosen=chosen)
    return _figures(_finetuned(base, data, plan.work / f"four-{model}", settings, _FOUR, _MEASURED), minutes)


def long_run(model: str, data: Path, plan: Plan, left: Callable[[], float]) -> dict[str, Any]:
    """The shipped model trained on by its last recipe, with large batches, in what is left of the time."""
    out = plan.work / f"long-{model}"
    chosen_file = out.with_suffix(".minutes")  # a run that is resumed keeps the time that it was given
    if not chosen_file.is_file():
        seconds = 60 * _REHEARSED_MINUTES if plan.rehearse else max(left() - _SAVING_S, _LEAST_S)
        chosen_file.write_text(f"{seconds / 60:.3f}")
    minutes = float(chosen_file.read_text())
    recipe = read_recipe(RECIPES / model / LAST_ROUND[model])
    batch = 1 if plan.rehearse else BATCH
    values = {name: value for name, value in recipe.settings.items() if name not in ("steps", "threads")}
    # A batch so many times as large takes a rate as much larger as its gradient's noise is smaller.
    values["learning_rate"] *= math.sqrt(batch / values["batch_size"])
    values |= {"minutes": minutes, "batch_size": batch, "device": plan.device, "num_workers": plan.workers}
    base = plan.base(model)
    bundle = _finetuned(base, data, out, FineTuneSettings.from_dict(values), "pool", "0.07")
    export_bundle(bundle, plan.work / f"{model}.zip")
    return _figures(bundle, minutes) | {"batch_size": batch}


def _finetuned(base: Bundle, data: Path, out: Path, settings: FineTuneSettings, split: str, held_out: str) -> Bundle:
    def report(progress: Progress) -> None:
        if progress.message or progress.stage == "validate":
            print(progress.stage, progress.step, progress.message, dict(progress.metrics), flush=True)

    return finetune(
        load_dataset(data),
        base,
        out,
        settings,
        split=split,
        validation=held_out,
        description=Description(name=base.name),
        version_of=lambda name, same_labels: ModelStore().next_version(name, major=not same_labels),
        context=RunContext(report),
    )


def _figures(bundle: Bundle, minutes: float) -> dict[str, Any]:
    training, metrics = bundle.spec.training, bundle.spec.metrics
    found = {
        "minutes": minutes,
        "model": f"{bundle.name} {bundle.version}",
        "steps": training["steps"],
        "training_s": training["seconds"],
        "dice_before": metrics.get("mean_dice_before"),
        "dice": metrics.get("mean_dice_after"),
        "dice_of": metrics.get("dice_after"),
    }
    if torch.cuda.is_initialized():
        found["allocated_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return found
