"""What the study compares: tasks, and ways to train on them within the same processor time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib

from MAESegmentLib.errors import ConfigurationError

Triple = tuple[float, float, float]
#: Of results.csv; a run's rows begin with its key.
COLUMNS = ("task", "arm", "seed", "budget", "structure", "dice", "cases", "steps", "seconds")
#: Follows the seed in the name of a run that is measured on final cases.
FINAL = " on final cases"
#: Networks that the plain loop trains.
PLAIN = ("segresnet", "dynunet", "nnformer")


@dataclass(frozen=True)
class Task:
    """`structures` maps a new label to the labels of `data` that it joins; the rest are `CaseDataset.select`'s words.

    `scans` are cases whose images alone are learnt from, by arms that do so: "unlabelled" are all without label map.
    `final` are cases that are reported on once and choose nothing. Our arms start from `base` and have its grid. So has
    the plain loop without `spacing` (mm) and `patch` (voxels), in the order RAS; it clips grey values to `window`.
    """

    name: str
    data: str
    learn: tuple[str, ...]
    test: tuple[str, ...]
    structures: Mapping[str, tuple[str, ...]]
    base: str
    spacing: Triple | None = None
    patch: tuple[int, int, int] | None = None
    window: tuple[float, float] | None = None
    final: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """`network` is one of `PLAIN`, or None for our fine-tuning with `settings` (fields of `FineTuneSettings`).

    `by_time`, fine-tuning is given its time, as a user gives it, and not the steps that fit. `spacing` (mm, RAS) is of
    the plain loop, in place of the task's.
    """

    name: str
    network: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_time: bool = False
    spacing: Triple | None = None


@dataclass(frozen=True)
class Run:
    task: Task
    arm: Arm
    seed: int
    #: Processor seconds of training, on one thread.
    budget: float
    #: Measured on the task's `final` cases instead of its `test` cases.
    final: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What its rows in results.csv begin with."""
        return self.task.name, self.arm.name, str(self.seed), f"{self.budget:g}"

    @property
    def name(self) -> str:
        task, arm, seed, budget = self.key
        return run_name(task, arm, seed + FINAL * self.final, budget)


@dataclass(frozen=True)
class Study:
    runs: tuple[Run, ...]


def run_name(task: str, arm: str, seed: str, budget: str) -> str:
    """As `list` shows a run and `--only` reads it."""
    return f"{task}, {arm}, seed {seed}, {budget} s"


def read_study(path: Path) -> Study:
    """The study of a TOML file; its runs in the order in which they are to be done."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    base = {"base": data["base"]} if "base" in data else {}
    tasks = {name: task_of(name, {**base, **entry}) for name, entry in data["tasks"].items()}
    arms = {name: _arm(name, entry, data["centre"]) for name, entry in data["arms"].items()}
    runs: dict[str, Run] = {}
    for block in data["runs"]:
        for seed in block["seeds"]:
            for arm in block["arms"]:
                for task in block["tasks"]:
                    run = Run(tasks[task], arms[arm], int(seed), float(block["budget"]), block.get("final", False))
                    if run.final and not run.task.final:
                        raise ConfigurationError(f"Task {task} has no final cases.")
                    runs.setdefault(run.name, run)
    return Study(tuple(runs.values()))


def task_of(name: str, entry: Mapping[str, Any]) -> Task:
    """From its table in a study's file."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    values["structures"] = {label: tuple(parts) for label, parts in entry["structures"].items()}
    task = Task(name, **values)
    if set(task.learn) & set(task.test):
        raise ConfigurationError(f"Task {name} tests on cases that it learns from.")
    if any("validation" in cases for cases in (*task.learn, *task.test, *task.scans)):
        raise ConfigurationError(
            f"Task {name} learns from validation cases, or chooses by them.", "Name them as its final cases."
        )
    return task


def _arm(name: str, entry: Mapping[str, Any], centre: Mapping[str, Any]) -> Arm:
    network = entry.get("plain")
    if network is None:
        settings = {**centre, **entry}
        by_time = bool(settings.pop("by_time", False))
        return Arm(name, None, settings, by_time)
    if network not in PLAIN:
        raise ConfigurationError(f"Arm {name}: the plain loop knows {', '.join(PLAIN)}.")
    d, h, w = entry.get("spacing", (0.0, 0.0, 0.0))
    return Arm(name, network, spacing=(d, h, w) if "spacing" in entry else None)
