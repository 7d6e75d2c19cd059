"""One run of the study: train, and measure along the way what a user would not be shown."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.dataset import CaseDataset
from MAESegmentLib.training.data.patches import Batch
from MAESegmentLib.training.finetune import finetune
from MAESegmentLib.training.loop.loop import train
from MAESegmentLib.training.settings import FineTuneSettings
from MAESegmentLib.training.tasks.initial import initial_network
from MAESegmentLib.training.tasks.segmentation import DiceTable, SegmentationTask, dice_table

from .cases import ScenarioCases
from .study import Run, Scenario


def base_of(scenario: Scenario, dataset: CaseDataset, work: Path, store: ModelStore | None = None) -> Bundle:
    """The model that the runs start from; trained first where the scenario says so (resumable, done once)."""
    shipped = (store or ModelStore()).find(scenario.base)
    if scenario.base_cases is None:
        return shipped
    first, end = scenario.base_cases
    settings = FineTuneSettings(
        **{"initial_weights": "autoencoder", "threads": 1, "device": "cpu", **scenario.base_settings}
    )
    return finetune(
        dataset,
        shipped,
        work / "base",
        settings,
        split=f"pool:{first}:{end}",
        validation="none",
        labels=scenario.labels,
    )


def measure_run(scenario: Scenario, run: Run, base: Bundle, cases: ScenarioCases, work: Path) -> list[dict[str, Any]]:
    """Rows of the results. An interrupted run begins again: it takes minutes."""
    settings = replace(run.settings(), validate_every=scenario.evaluate_every)
    torch.set_num_threads(1)
    network, _ = initial_network(base, cases.plan, len(cases.training[0][0].image), settings)
    task = _MeasuredTask(network, run, cases, settings)
    if None not in cases.plan.origins and base.kind == "segmentation" and settings.initial_weights == "pretrained":
        task.measure(network.eval(), "average")
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    train(task, settings, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return task.rows


class _MeasuredTask(SegmentationTask):
    """Fine-tuning whose validations measure every part, and at the end the weights without the moving average too."""

    def __init__(self, network: nn.Module, run: Run, cases: ScenarioCases, settings: FineTuneSettings) -> None:
        training = [case for group in cases.training[: run.cases] for case in group]
        patch = cases.preprocessing.patch_size
        stages = len(network.config.depths)  # type: ignore[union-attr, arg-type]
        super().__init__(network, training, [], cases.plan.names, patch, settings, "study", stages)
        self.parts = cases.parts
        self.rows: list[dict[str, Any]] = []
        self.step = 0
        self.seconds = 0.0
        self._since: float | None = None

    def loss(self, model: nn.Module, batch: Batch, step: int, of: Sequence[float] | None = None) -> Tensor:
        if self._since is None:
            self._since = time.perf_counter()
        self.step = step + 1
        return super().loss(model, batch, step, of)

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:  # noqa: ARG002
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self.measure(model, "average")
        if self.step == self.settings.steps and self.settings.ema_decay:
            self.measure(self.model.eval(), "last")
        self._since = None
        return {}

    def measure(self, model: nn.Module, weights: str) -> None:
        with torch.no_grad():
            for part, cases in self.parts.items():
                table = dice_table(
                    model,
                    cases,
                    self.label_names,
                    self.patch_size,
                    torch.device("cpu"),
                    self.settings.validation_overlap,
                )
                where = {"step": self.step, "weights": weights, "part": part, "seconds": round(self.seconds, 1)}
                self.rows += [{**where, **row} for row in _label_rows(table, self.label_names)]


def _label_rows(table: DiceTable, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Mean and spread over the cases that have the label or were given it."""
    rows = []
    for label in labels:
        known = [row[label] for row in table.values() if not math.isnan(row[label])]
        rows.append(
            {
                "label": label,
                "measured": len(known),
                "dice": f"{np.mean(known):.4f}" if known else "nan",
                "sd": f"{np.std(known):.4f}" if known else "nan",
            }
        )
    return rows
