"""What the study compares: starts, each with the processor time that it took to make, on tasks that none saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import tomllib

from MAESegmentLib.errors import ConfigurationError

from ..recipe.study import Task, run_name, task_of

#: Of results.csv; a run's rows begin with its key.
COLUMNS = ("task", "start", "seed", "budget", "structure", "dice", "cases", "steps", "seconds")
WEIGHTS = ("random", "autoencoder", "pretrained")


@dataclass(frozen=True)
class Pretraining:
    """Supervised training of a whole network for `seconds`: on cases of `data`, or on images drawn from its maps.

    A structure that the task will learn counts as not annotated in it.
    """

    name: str
    data: str
    #: As `CaseDataset.select` reads it; label maps are all used.
    cases: str = ""
    drawn: bool = False
    seconds: float = 300.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """`weights` of the task's base, with `pretraining` on top; `settings` change how the task is learnt from there."""

    name: str
    weights: str
    pretraining: Pretraining | None = None
    #: Keep the decoder, or begin with a random one.
    decoder: bool = True
    #: Begin each output of a structure as the mean of those of the structures that were learnt before.
    mean_outputs: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise ConfigurationError(f"Start {self.name}: the weights are one of {', '.join(WEIGHTS)}.")
        if (self.mean_outputs or not self.decoder) and not self.pretraining and self.weights != "pretrained":
            raise ConfigurationError(f"Start {self.name} has no decoder and no outputs that could be kept.")


@dataclass(frozen=True)
class Run:
    task: Task
    start: Start
    seed: int
    #: Processor seconds of learning the task, on one thread.
    budget: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What its rows in results.csv begin with."""
        return self.task.name, self.start.name, str(self.seed), f"{self.budget:g}"

    @property
    def name(self) -> str:
        return run_name(*self.key)


@dataclass(frozen=True)
class Study:
    #: How a task is learnt, and how what comes before is, unless a start or a pretraining says otherwise.
    centre: Mapping[str, Any]
    #: Processor seconds that a step counts as: base -> seconds.
    step: Mapping[str, float]
    #: Seconds that the weights of a base had cost: (base, weights) -> seconds.
    shipped: Mapping[tuple[str, str], float]
    runs: tuple[Run, ...]

    def steps(self, run: Run, seconds: float) -> int:
        """Starts of a base share its network: where a step always counts alike, none gains by a quiet machine."""
        return max(1, round(seconds / self.step[run.task.base]))

    def seconds_before(self, run: Run) -> tuple[float, float]:
        """What the run's start had cost when the task began: as shipped, and in this study."""
        own = run.start.pretraining.seconds if run.start.pretraining else 0.0
        return self.shipped.get((run.task.base, run.start.weights), 0.0), own


def read_study(path: Path) -> Study:
    """The study of a TOML file; its runs in the order in which they are to be done."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    tasks = {name: task_of(name, entry) for name, entry in data["tasks"].items()}
    pretrainings = {name: Pretraining(name, **entry) for name, entry in data["pretrainings"].items()}
    starts = {name: _start(name, entry, pretrainings) for name, entry in data["starts"].items()}
    runs: dict[tuple[str, str, str, str], Run] = {}
    for block in data["runs"]:
        for budget in block["budgets"]:
            for seed in block["seeds"]:
                for task in block["tasks"]:
                    for start in block["starts"]:
                        run = Run(tasks[task], starts[start], int(seed), float(budget))
                        runs.setdefault(run.key, run)
    shipped = {(base, name): float(cost) for base, costs in data["shipped"].items() for name, cost in costs.items()}
    return Study(data["centre"], data["step"], shipped, tuple(runs.values()))


def _start(name: str, entry: Mapping[str, Any], pretrainings: Mapping[str, Pretraining]) -> Start:
    unknown = set(entry) - {f.name for f in fields(Start)}
    if unknown:
        raise ConfigurationError(f"Start {name} has unknown entries: {', '.join(sorted(unknown))}.")
    values = dict(entry)
    if "pretraining" in values:
        values["pretraining"] = pretrainings[values["pretraining"]]
    return Start(name, **values)
