"""What the study compares, read from study.toml: data sets, arms, label counts, seeds, budgets and endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.networks.config import MaeConfig, NnFormerConfig
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.recipe import read_settings_file
from MAESegmentLib.training.settings import FineTuneSettings, PretrainSettings

GROUPS = ("primary", "schedule", "pretext", "network", "ablation")
TRANSFERS = ("encoder", "encoder+decoder")
NNUNET = "nnunet"
T = TypeVar("T")


@dataclass(frozen=True)
class Endpoints:
    """What is asked of the results; fixed before the runs."""

    primary_labels: tuple[int, ...] = (2, 4, 8)
    #: Steps until these fractions of scratch's final Dice.
    fractions: tuple[float, ...] = (0.95, 0.99)
    bootstrap: int = 10_000
    confidence: float = 0.95
    #: A difference of mean Dice below this is of no use to anyone.
    margin: float = 0.01
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """How one data set is used at one scale. Selections are those of `CaseDataset.select`."""

    scale: str
    dataset: str
    title: str
    preprocessing: Preprocessing
    network: NnFormerConfig
    autoencoder: MaeConfig
    pretraining: PretrainSettings
    finetuning: FineTuneSettings
    #: Never seen by pretraining, training or search.
    test: str
    pool: str
    #: Part of the pool that chooses learning rates; no subset below `all` reaches it.
    check: str
    search_labels: int
    learning_rates: tuple[float, ...]
    #: The two best rates are tried with these seeds too, and the better mean is taken: one seed may have been lucky.
    confirming_seeds: tuple[int, ...] = ()
    #: Steps at which the curve is measured, as fractions of the steps; on so many test cases.
    curve_points: int = 6
    curve_cases: int | None = None
    #: Runs that are measured on test cases are measured on the check cases too, at the end, on the network's grid.
    checked: bool = False
    overlap: float = 0.25
    #: What pretraining sees, at most; "" is every image of the data set. Test patients it never sees.
    images: str = ""
    #: Only the middle of a scan, so many mm along R, A and S, is segmented when measuring; 0 is all of it.
    middle_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Arm:
    """One way to come to a trained network.

    `pretext` is the pretraining it starts from (None: random weights), with `options`, `pretraining` settings changed,
    a share of the images (`data`) or another data set's images (`pretrain_on`). `recipe` names the arm whose searched
    learning rate and settings it uses; `learning_rate` is taken instead of a searched one. `as_long_as` gives it as
    many steps of training as another arm has; `equal_compute_to` adds that arm's pretraining steps to its training.
    """

    name: str
    title: str
    group: str
    network: str = "nnformer"
    pretext: str | None = None
    transfer: str = "encoder"
    recipe: str = ""
    learning_rate: float | None = None
    as_long_as: str | None = None
    equal_compute_to: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    #: Multiplies the pretraining steps of the plan.
    pretraining_length: float = 1.0
    data: float = 1.0
    pretrain_on: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.recipe:
            object.__setattr__(self, "recipe", self.name)
        _require(self.group in GROUPS, f"Arm {self.name}: group {self.group!r} is none of {', '.join(GROUPS)}.")
        _require(self.transfer in TRANSFERS, f"Arm {self.name}: transfer is one of {', '.join(TRANSFERS)}.")
        _require(0 < self.data <= 1, f"Arm {self.name}: data is a fraction above 0, at most 1.")

    @property
    def pretraining_name(self) -> str | None:
        """Equal for arms that can share one pretraining."""
        if self.pretext is None:
            return None
        changed = {**self.options, **self.pretraining}
        parts = [f"{key}={changed[key]}" for key in sorted(changed)]
        parts += [f"length={self.pretraining_length:g}"] if self.pretraining_length != 1 else []
        parts += [f"data={self.data:g}"] if self.data != 1 else []
        parts += [f"on={self.pretrain_on}"] if self.pretrain_on else []
        return "_".join([self.pretext, *parts]).replace(" ", "")


@dataclass(frozen=True)
class Run:
    """One training. With `learning_rate`, it is part of the search and measured on the pool's check cases."""

    scale: str
    dataset: str
    arm: str
    labels: int | None
    seed: int
    learning_rate: float | None = None

    @property
    def name(self) -> str:
        labels = "all" if self.labels is None else str(self.labels)
        search = "" if self.learning_rate is None else f"/lr{self.learning_rate:g}"
        return f"{self.scale}/{self.dataset}/{self.arm}/n{labels}/s{self.seed}{search}"

    @property
    def measured_on(self) -> str:
        return "validation" if self.learning_rate is None else "check"

    def columns(self) -> dict[str, Any]:
        """Which run it is, as a row of runs.csv says it."""
        return {
            "run": self.name,
            "scale": self.scale,
            "dataset": self.dataset,
            "arm": self.arm,
            "labels": "all" if self.labels is None else self.labels,
            "seed": self.seed,
            "measured_on": self.measured_on,
        }


@dataclass(frozen=True)
class Experiment:
    """Runs that answer one question: every data set x arm x label count (None: all) x seed."""

    name: str
    title: str
    scale: str
    datasets: tuple[str, ...]
    arms: tuple[str, ...]
    labels: tuple[int | None, ...]
    seeds: tuple[int, ...]

    def runs(self, dataset: str | None = None) -> Iterator[Run]:
        """Seed by seed, so that what has ended at any time is balanced over arms and labels."""
        for name in self.datasets:
            if dataset in (None, name):
                for seed in self.seeds:
                    for labels in self.labels:
                        for arm in self.arms:
                            yield Run(self.scale, name, arm, labels, seed)


@dataclass(frozen=True)
class Study:
    endpoints: Endpoints
    plans: tuple[Plan, ...]
    arms: tuple[Arm, ...]
    experiments: tuple[Experiment, ...]

    def arm(self, name: str) -> Arm:
        return _named(self.arms, "arm", name=name)

    def plan(self, scale: str, dataset: str) -> Plan:
        return _named(self.plans, "plan", scale=scale, dataset=dataset)

    def experiment(self, name: str) -> Experiment:
        return _named(self.experiments, "experiment", name=name)

    def runs(self) -> tuple[Run, ...]:
        """Every run of every experiment once, without those of the search."""
        return tuple(dict.fromkeys(run for experiment in self.experiments for run in experiment.runs()))

    def search_runs(self, run: Run) -> tuple[Run, ...]:
        """The runs that search the learning rate of `run`'s recipe: every rate with seed 0."""
        plan, recipe = self.plan(run.scale, run.dataset), self.arm(run.arm).recipe
        return tuple(Run(run.scale, run.dataset, recipe, plan.search_labels, 0, rate) for rate in plan.learning_rates)

    def confirming_runs(self, best: Sequence[Run]) -> tuple[Run, ...]:
        """The runs of the search's `best` rates with the other seeds."""
        return tuple(
            replace(run, seed=seed) for run in best for seed in self.plan(run.scale, run.dataset).confirming_seeds
        )

    def run(self, name: str) -> Run:
        """The run of this name; it need not be one that an experiment lists."""
        parts = name.split("/")
        try:
            scale, dataset, arm, labels, seed = parts[:5]
            rate = float(parts[5].removeprefix("lr")) if len(parts) == 6 else None
            count = None if labels == "nall" else int(labels.removeprefix("n"))
            run = Run(scale, dataset, arm, count, int(seed.removeprefix("s")), rate)
        except (ValueError, IndexError) as error:
            raise ConfigurationError(
                f"{name!r} is not a run.", "Write SCALE/DATASET/ARM/nLABELS/sSEED, e.g. small/hippocampus_mr/mae/n4/s0."
            ) from error
        self.plan(scale, dataset), self.arm(arm)
        _require(run.name == name, f"{name!r} is not a run; did you mean {run.name}?")
        return run


def read_study(path: Path) -> Study:
    """Read and check a study.toml."""
    data = read_settings_file(path)
    arms = tuple(_made(Arm, entry) for entry in data["arms"])
    experiments = tuple(_experiment(entry) for entry in data["experiments"])
    plans = tuple(plan_of(entry) for entry in data["plans"])
    study = Study(_made(Endpoints, data.get("endpoints", {})), plans, arms, experiments)
    for kind in ("arms", "experiments"):
        names = [item.name for item in getattr(study, kind)]
        _require(len(set(names)) == len(names), f"Two {kind} of the study share a name: {names}.")
    for arm in arms:
        for name in (arm.recipe, arm.as_long_as, arm.equal_compute_to):
            if name:
                study.arm(name)
    for run in study.runs():
        study.plan(run.scale, run.dataset), study.arm(run.arm)
    return study


def _experiment(entry: Mapping[str, Any]) -> Experiment:
    labels = tuple(None if count == "all" else int(count) for count in entry["labels"])
    return _made(Experiment, {**entry, "labels": labels})


def plan_of(entry: Mapping[str, Any]) -> Plan:
    """From its table in a study's file."""
    values = dict(entry)
    network = NnFormerConfig.preset(**values.pop("network"))
    preprocessing = values.pop("preprocessing")
    values["preprocessing"] = Preprocessing(
        preprocessing["orientation"],
        tuple(preprocessing["spacing"]),
        tuple(preprocessing["patch_size"]),
        IntensityRecipe(**preprocessing["intensity"]),
    )
    values["network"] = network
    values["autoencoder"] = MaeConfig(encoder=network, **values.pop("autoencoder"))
    values["pretraining"] = PretrainSettings.from_dict(values["pretraining"])
    values["finetuning"] = FineTuneSettings.from_dict(values["finetuning"])
    return _made(Plan, values)


def _made(cls: type[T], values: Mapping[str, Any]) -> T:
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    unknown = set(values) - known
    _require(not unknown, f"{cls.__name__} {values.get('name', '')} has unknown entries: {', '.join(sorted(unknown))}.")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _named(items: tuple[T, ...], kind: str, **wanted: str) -> T:
    for item in items:
        if all(getattr(item, key) == value for key, value in wanted.items()):
            return item
    known = ", ".join("/".join(getattr(item, key) for key in wanted) for item in items)
    raise ConfigurationError(f"The study has no {kind} {'/'.join(wanted.values())}.", f"It has {known}.")


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigurationError(message)
