"""What the study compares: scenarios, each with a centre of settings and runs that change one thing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.training.recipe import read_settings_file
from MAESegmentLib.training.settings import Augmentation, FineTuneSettings

from .scanner import OtherScanner

#: Augmentations by the names that stand in study.toml and in the results.
AUGMENTATIONS = {
    "default": Augmentation(),
    "none": Augmentation.none(),
    "geometric": Augmentation.geometric(),
    "strong": Augmentation(
        affine=0.7, noise=0.2, blur=0.2, brightness=0.3, contrast=0.3, low_resolution=0.25, gamma=0.5
    ),
}
#: What a run may change, in the order of the result columns.
FACTORS = (
    "learning_rate",
    "steps",
    "layer_decay",
    "augmentation",
    "foreground_fraction",
    "ema_decay",
    "drop_path",
    "batch_size",
    "warmup",
    "initial_weights",
)
#: Of results.csv, whose rows belong to the same run where `KEY` is the same.
KEY = ("scenario", "run")
COLUMNS = (*KEY, "cases", "seed", *FACTORS, "step", "weights", "part", "label", "measured", "dice", "sd", "seconds")


@dataclass(frozen=True)
class Run:
    """One training: `cases` of the pool (patients, where these have several images), a seed, values of all factors."""

    scenario: str
    cases: int
    seed: int
    values: Mapping[str, Any]
    #: Only what differs from the scenario's centre.
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.scenario}: {self.label}"

    @property
    def label(self) -> str:
        """Its name in its scenario; equal for the same run, whatever else the study holds."""
        changes = " ".join(f"{key}={self.changed[key]}" for key in FACTORS if key in self.changed)
        return f"n={self.cases} seed={self.seed} {changes or 'centre'}"

    def columns(self) -> dict[str, Any]:
        """What its rows in results.csv begin with."""
        fixed = {"scenario": self.scenario, "run": self.label, "cases": self.cases, "seed": self.seed}
        return {**fixed, **self.values}

    def settings(self) -> FineTuneSettings:
        values = {**self.values, "augmentation": AUGMENTATIONS[self.values["augmentation"]]}
        steps = int(values["steps"])
        return FineTuneSettings(**values, seed=self.seed, threads=1, device="cpu", checkpoint_every=steps)


@dataclass(frozen=True)
class Scenario:
    """Cases are places in the split `pool`: training starts at `training`; `check` and `test` are (first, end)."""

    name: str
    title: str
    data: str
    base: str
    training: int
    check: tuple[int, int]
    test: tuple[int, int]
    centre: Mapping[str, Any]
    #: Of the centre, and of every run that does not say otherwise.
    cases: int
    seed: int
    runs: tuple[Run, ...]
    evaluate_every: int = 50
    labels: tuple[str, ...] | None = None
    #: Where given, the base is first trained on these places of the pool from the encoder of `base`.
    base_cases: tuple[int, int] | None = None
    base_settings: Mapping[str, Any] = field(default_factory=dict)
    #: Training, check and test images come from it; the test images without it are measured too ("unchanged").
    scanner: OtherScanner | None = None
    #: Images are cut to the box of their labels and this margin, as if a user had given a region.
    margin_mm: float | None = None
    #: Instead of the base's.
    spacing: tuple[float, float, float] | None = None


def read_study(path: Path) -> tuple[Scenario, ...]:
    """The scenarios of a TOML file, in their order."""
    data = read_settings_file(path)
    return tuple(_scenario(entry, data.get("settings", {})) for entry in data["scenario"])


def _scenario(entry: Mapping[str, Any], common: Mapping[str, Any]) -> Scenario:
    values = dict(entry)
    centre = {**common, **values.pop("centre", {})}
    unknown = set(centre) ^ set(FACTORS)
    if unknown:
        raise ConfigurationError(f"Scenario {entry['name']}: {', '.join(sorted(unknown))} missing or unknown.")
    for key in ("check", "test", "base_cases", "labels", "spacing"):
        if key in values:
            values[key] = tuple(values[key])
    if "scanner" in values:
        values["scanner"] = OtherScanner(**{k: _tuple(v) for k, v in values["scanner"].items()})
    cases, seed = int(values.pop("cases")), int(values.pop("seed", 0))
    runs = tuple(_run(entry["name"], change, centre, cases, seed) for change in values.pop("runs"))
    names = [run.label for run in runs]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"Scenario {entry['name']} names a run twice: {names}.")
    scenario = Scenario(centre=centre, cases=cases, seed=seed, runs=runs, **values)
    _check_apart(scenario)
    return scenario


def _run(scenario: str, change: Mapping[str, Any], centre: Mapping[str, Any], cases: int, seed: int) -> Run:
    changed = {key: value for key, value in change.items() if key in FACTORS}
    unknown = set(change) - set(FACTORS) - {"cases", "seed"}
    if unknown:
        raise ConfigurationError(f"A run changes {', '.join(sorted(unknown))}, which is not a factor of the study.")
    own = (int(change.get("cases", cases)), int(change.get("seed", seed)))
    return Run(scenario, *own, {**centre, **changed}, changed)


def _check_apart(scenario: Scenario) -> None:
    """No case is both learnt from and measured on."""
    most = max(run.cases for run in scenario.runs)
    spans = [(scenario.training, scenario.training + most), scenario.check, scenario.test]
    spans += [scenario.base_cases] if scenario.base_cases else []
    spans = sorted(spans)
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise ConfigurationError(f"Scenario {scenario.name} learns from cases that it also measures on: {spans}.")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
