"""Ladders of ever longer trainings, and the rule by which they end; runs are those of ../data_efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from MAESegmentLib.training.recipe import read_settings_file

from ..data_efficiency import __file__ as _data_efficiency
from ..data_efficiency import study as efficiency
from ..data_efficiency.measuring import mean_dice
from ..data_efficiency.result_files import CHECK_GRID, METRICS, finished_runs, read_rows
from ..data_efficiency.study import Arm, Plan, Run, plan_of

SCALE = "long"
#: Settings of each recipe, as in ../data_efficiency.
RECIPES = {"scratch": {"layer_decay": 1.0}, "mae": {"layer_decay": 0.8}}
_PLANS = Path(_data_efficiency).parent / "study.toml"


@dataclass(frozen=True)
class Ladder:
    """One arm at one label count, with its seeds; `arm` is without the rung."""

    dataset: str
    arm: str
    labels: int
    seeds: tuple[int, ...]

    def rung(self, steps: int) -> list[Run]:
        return [Run(SCALE, self.dataset, f"{self.arm}@{steps}", self.labels, seed) for seed in self.seeds]


@dataclass(frozen=True)
class Study:
    #: Plans, arms and searches as `training.perform` knows them.
    inner: efficiency.Study
    rungs: tuple[int, ...]
    gain: float
    #: Ladders that are climbed side by side, by the name of their block.
    blocks: Mapping[str, tuple[Ladder, ...]]

    @property
    def ladders(self) -> tuple[Ladder, ...]:
        return tuple(ladder for ladders in self.blocks.values() for ladder in ladders)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All that may be done, block by block, rung by rung."""
        return tuple(
            run
            for ladders in self.blocks.values()
            for steps in self.rungs
            for ladder in ladders
            for run in ladder.rung(steps)
        )


class Ends:
    """Where the ladders of a study end, by what the check cases of its results say."""

    def __init__(self, study: Study, results: Path) -> None:
        self._study = study
        self.finished = finished_runs(results)
        self._check: dict[str, list[dict[str, str]]] = {}
        for row in read_rows(results / METRICS):
            if row["grid"] == CHECK_GRID and row["run"] in self.finished:
                self._check.setdefault(row["run"], []).append(row)

    def check(self, ladder: Ladder, steps: int) -> float | None:
        """Mean Dice of a rung on the check cases; None unless every seed was run."""
        runs = [run.name for run in ladder.rung(steps)]
        if not all(name in self._check for name in runs):
            return None
        return sum(mean_dice(self._check[name]) for name in runs) / len(runs)

    def end(self, ladder: Ladder) -> int | None:
        """The first rung that brought too little over the best before; None while the ladder goes on."""
        best = None
        for steps in self._study.rungs:
            dice = self.check(ladder, steps)
            if dice is None:
                return None
            if best is not None and dice < best + self._study.gain:
                return steps
            best = dice
        return None

    def needless(self) -> set[str]:
        """Runs beyond the ends."""
        ends = {ladder: self.end(ladder) for ladder in self._study.ladders}
        return {
            run.name
            for ladder, end in ends.items()
            if end is not None
            for steps in self._study.rungs
            if steps > end
            for run in ladder.rung(steps)
        }


def read_study(path: Path) -> Study:
    """The study of a TOML file."""
    data = read_settings_file(path)
    rungs = tuple(int(steps) for steps in data["rungs"])
    known = [*efficiency.read_study(_PLANS).plans, *map(plan_of, data["plans"])]
    plans = {plan.dataset: _lengthened(plan, data) for plan in known if plan.scale == "small"}
    blocks = {block["name"]: _ladders(block) for block in data["blocks"]}
    arms = [arm for name, entry in data["arms"].items() for arm in _arms(name, entry, rungs)]
    used = tuple(dict.fromkeys(block["dataset"] for block in data["blocks"]))
    inner = efficiency.Study(efficiency.Endpoints(), tuple(plans[name] for name in used), tuple(arms), ())
    return Study(inner, rungs, float(data["gain"]), blocks)


def _lengthened(plan: Plan, data: Mapping[str, Any]) -> Plan:
    rates = tuple(float(rate) for rate in data["learning_rates"])
    return replace(
        plan,
        scale=SCALE,
        pretraining=replace(plan.pretraining, steps=int(data["pretraining_steps"]), validate_every=2000),
        finetuning=replace(plan.finetuning, steps=int(data["search_steps"])),
        learning_rates=rates,
        confirming_seeds=(1, 2),
        curve_points=1,
        curve_cases=1,
        checked=True,
        images="",
    )


def _arms(name: str, entry: Mapping[str, Any], rungs: Sequence[int]) -> list[Arm]:
    """The arm as its recipe's search trains it, and at every rung."""
    recipe = "mae" if entry.get("pretext") else "scratch"
    arm = Arm(name, name, "primary", recipe=recipe, settings=RECIPES[recipe], **entry)
    return [arm, *(replace(arm, name=f"{name}@{steps}", settings={**arm.settings, "steps": steps}) for steps in rungs)]


def _ladders(block: Mapping[str, Any]) -> tuple[Ladder, ...]:
    seeds = tuple(int(seed) for seed in block["seeds"])
    return tuple(Ladder(block["dataset"], arm, int(n), seeds) for n in block["labels"] for arm in block["arms"])
