"""Result files of the data-efficiency study, made up: what each arm is worth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model_training.studies.data_efficiency.__main__ import HERE
from model_training.studies.data_efficiency.result_files import (
    METRICS,
    PRETEXTS,
    RUNS,
    append_rows,
)
from model_training.studies.data_efficiency.study import Endpoints, Experiment, Study, read_study

SCALE, DATASET = "small", "hippocampus_mr"
LABELS = ("front", "back")
SCRATCH_DICE = 0.80


def made_up_study(**experiment: Any) -> Study:
    """The arms and plans of the committed study, one experiment, few resamples."""
    values: dict[str, Any] = {
        "name": "primary",
        "title": "Does it help?",
        "scale": SCALE,
        "datasets": (DATASET,),
        "arms": ("scratch", "mae", "scratch-equal", "random-mae-recipe"),
        "labels": (2, 4, 8),
        "seeds": (0, 1, 2),
    }
    study = read_study(HERE / "study.toml")
    return replace(study, endpoints=Endpoints(bootstrap=400), experiments=(Experiment(**{**values, **experiment}),))


@dataclass(frozen=True)
class MadeUp:
    """`gains` is what each arm's Dice has more than `SCRATCH_DICE`; noise is per case and seed, and per seed."""

    gains: Mapping[str, float]
    labels: Sequence[str] = ("2", "4", "8")
    seeds: Sequence[int] = (0, 1, 2)
    cases: int = 16
    noise: float = 0.004
    seed_noise: float = 0.001
    dataset: str = DATASET
    #: Checkpoints: (step, share of the final Dice), by arm.
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        random = np.random.default_rng(7)
        difficulty = random.normal(0.0, 0.05, self.cases)
        for arm, gain in self.gains.items():
            for labels in self.labels:
                for seed in self.seeds:
                    dice = SCRATCH_DICE + gain + difficulty + random.normal(0.0, self.seed_noise)
                    self._write_run(folder, arm, labels, seed, dice + random.normal(0.0, self.noise, self.cases))
        return folder

    def _write_run(self, folder: Path, arm: str, labels: str, seed: int, dice: np.ndarray) -> None:
        name = f"{SCALE}/{self.dataset}/{arm}/n{labels}/s{seed}"
        curve = self.curves.get(arm, [(100, 0.5), (200, 0.9), (300, 1.0)])
        rows = [
            {"run": name, "step": step, "grid": "network", "case": f"case_{n}", "label": label, "dice": share * value}
            for step, share in curve
            for n, value in enumerate(dice)
            for label in LABELS
        ]
        rows += [final_row(name, f"case_{n}", label, value) for n, value in enumerate(dice) for label in LABELS]
        append_rows(folder / METRICS, rows)
        append_rows(folder / RUNS, [run_row(name)])


def final_row(run: str, case: str, label: str, dice: float) -> dict[str, Any]:
    """On the scan's grid, at step 300."""
    where = {"run": run, "step": 300, "grid": "scan", "case": case, "label": label}
    return {**where, "dice": dice, "hd95_mm": 2.0 - dice, "surface_dice": dice}


def run_row(name: str, **changed: Any) -> dict[str, Any]:
    scale, dataset, arm, labels, seed, *_ = name.split("/")
    row = {"run": name, "scale": scale, "dataset": dataset, "arm": arm, "labels": labels[1:], "seed": seed[1:]}
    row |= {"measured_on": "validation", "steps": 300, "learning_rate": 0.001, "pretext_steps": 0}
    row |= {"parameters": 1_500_000, "flops": 3e13, "pretext_flops": 0, "seconds": 120.0, "pretext_seconds": 0}
    row |= {"device": "cpu", "machine": "a made-up one", "torch": "2.9", "finished": "2026-01-01T00:00:00Z"}
    return {**row, **changed}


def write_pretext(folder: Path) -> None:
    row = {"pretraining": f"{SCALE}/{DATASET}/mae", "scale": SCALE, "dataset": DATASET, "pretext": "mae"}
    row |= {"steps": 2000, "images": 160, "parameters": 1_600_000, "flops": 2e14, "seconds": 900, "final_loss": 0.2}
    row |= {"device": "cpu", "machine": "a made-up one", "torch": "2.9", "finished": "2026-01-01T00:00:00Z"}
    append_rows(folder / PRETEXTS, [row])
