"""One run: train within the budget, segment its cases on their own grids, Dice per case and structure."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.case import Case
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.evaluation.metrics import dice
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings

from ...tables import append_rows
from .ours import fine_tune
from .plain import PlainLoop
from .study import Run, Study
from .tasks import prepare_task

#: The same for all: less than is used in practice, for the sake of time.
_OVERLAP = 0.25


@dataclass(frozen=True)
class Measured:
    """Dice of every case (rows) and structure (columns); NaN where a case has no such structure and none was found."""

    cases: tuple[str, ...]
    structures: tuple[str, ...]
    dice: npt.NDArray[np.float64]
    steps: int
    seconds: float

    def mean_rows(self) -> list[dict[str, Any]]:
        """A row per structure and one of their mean, with Dice as a mean over the cases."""
        means = [float(value) for value in np.nanmean(self.dice, axis=0)]
        shared = {"cases": len(self.cases), "steps": self.steps, "seconds": round(self.seconds)}
        named = zip((*self.structures, "mean"), (*means, sum(means) / len(means)), strict=True)
        return [{"structure": name, "dice": f"{value:.4f}", **shared} for name, value in named]


#: What the rows of a result file say beside the run's key.
RowsOf = Callable[[Run, Measured], list[dict[str, Any]]]


@dataclass(frozen=True)
class Performer:
    """Does a run with a base from `models` (default: the shipped and the user's)."""

    columns: Sequence[str]
    rows_of: RowsOf
    models: ModelStore | None = None

    def __call__(self, _study: Study, run: Run, data: Path, work: Path, results: Path) -> None:
        """Train, segment the run's cases, and append its rows."""
        own = work / f"process-{os.getpid()}"
        base = (self.models or ModelStore()).find(run.task.base)
        _check_new(run, base)
        rows = self.rows_of(run, measure_run(run, data, own, base))
        append_rows(results, self.columns, [{**dict(zip(self.columns, run.key, strict=False)), **row} for row in rows])
        shutil.rmtree(own)


def measure_run(run: Run, data: Path, work: Path, base: Bundle) -> Measured:
    """Train and segment the run's cases."""
    torch.set_num_threads(1)
    dataset = prepare_task(run.task, data, work)
    segment: Callable[[Case], LabelMap]
    if run.arm.network is not None:
        task, plan = run.task, base.spec.preprocessing
        grid = task.spacing or plan.spacing, task.patch or plan.patch_size
        loop = PlainLoop(*grid, len(dataset.labels) + 1, run.seed, _OVERLAP, task.window)
        network, steps, seconds = loop.train(run.arm.network, base, dataset.select("learn"), run.budget)

        def segment(case: Case) -> LabelMap:
            return loop.segment(network, case)
    else:
        bundle, steps, seconds = fine_tune(dataset, base, run.arm.settings, run.seed, run.budget, work)
        settings = InferenceSettings(device="cpu", overlap=_OVERLAP, mirroring=False, check_familiarity=False)
        predictor = Predictor(bundle, settings)

        def segment(case: Case) -> LabelMap:
            return predictor.predict(read_volume(case.image[0])).label_map

    started = time.perf_counter()
    cases = dataset.select("final" if run.final else "test")
    table = np.array([_dice(segment(case), case, dataset.labels.values()) for case in cases])
    mean = np.nanmean(table, axis=0).mean()
    print(f"  {mean:.3f}  {steps} steps, tested in {time.perf_counter() - started:.0f} s", flush=True)
    return Measured(tuple(case.id for case in cases), tuple(dataset.labels), table, steps, seconds)


def _check_new(run: Run, base: Bundle) -> None:
    """What the base learnt from many labels is not learnt from few."""
    known = {label.name.casefold() for label in base.labels} & {name.casefold() for name in run.task.structures}
    if known and run.arm.network is None and run.arm.settings.get("initial_weights", "pretrained") == "pretrained":
        raise ConfigurationError(
            f"{run.name}: {base.name} has learnt {', '.join(sorted(known))} already.",
            'Start from its autoencoder (initial_weights = "autoencoder").',
        )


def _dice(found: LabelMap, case: Case, values: Iterable[int]) -> list[float]:
    assert case.label is not None
    truth = read_label_map(case.label).array
    return [dice(truth == value, found.array == value) for value in values]
