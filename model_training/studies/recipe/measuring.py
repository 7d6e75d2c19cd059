"""One run: train within the budget, segment its cases on their own grids, Dice per case and structure."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.bundle.usage.sides import mirrorable_axes
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.dataset import CaseDataset
from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.evaluation.metrics import dice
from MAESegmentLib.images.labels import by_name
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings

from ...tables import append_rows
from .ours import fine_tune
from .plain import PlainLoop
from .study import Run, Study
from .tasks import prepare_task, scans_of

#: The same for all: less than is used in practice, for the sake of time.
_OVERLAP = 0.25
#: By name, what our models are segmented with (fields of `InferenceSettings`), each measured.
Ways = Mapping[str, Mapping[str, Any]]
_PLAIN: Ways = {"": {}}


@dataclass(frozen=True)
class Measured:
    """Dice of every case (rows) and structure (columns); NaN where a case has no such structure and none was found."""

    cases: tuple[str, ...]
    structures: tuple[str, ...]
    dice: npt.NDArray[np.float64]
    steps: int
    seconds: float
    #: Which of the ways to segment, and the processor seconds that it took a case.
    way: str = ""
    seconds_per_case: float = 0.0

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
    ways: Ways = field(default_factory=lambda: dict(_PLAIN))

    def __call__(self, _study: Study, run: Run, data: Path, work: Path, results: Path) -> None:
        """Train, segment the run's cases, and append its rows; what a killed one left is found again."""
        own = work / f"run-{hashlib.sha256(repr(run).encode()).hexdigest()[:12]}"
        base = (self.models or ModelStore()).find(run.task.base)
        _check_new(run, base)
        rows = [row for measured in measure_run(run, data, own, base, self.ways) for row in self.rows_of(run, measured)]
        append_rows(results, self.columns, [{**dict(zip(self.columns, run.key, strict=False)), **row} for row in rows])
        shutil.rmtree(own)


def measure_run(run: Run, data: Path, work: Path, base: Bundle, ways: Ways = _PLAIN) -> list[Measured]:
    """Train, and segment the run's cases in all `ways` that the model has; with a budget of 0, by the base itself."""
    torch.set_num_threads(1)
    dataset = prepare_task(run.task, data, work)
    segments: dict[str, Callable[[Case], LabelMap]] = {}
    values = dataset.labels
    if run.arm.network is not None:
        task, plan = run.task, base.spec.preprocessing
        grid = run.arm.spacing or task.spacing or plan.spacing, task.patch or plan.patch_size
        loop = PlainLoop(*grid, len(dataset.labels) + 1, run.seed, _OVERLAP, task.window)
        network, steps, seconds = loop.train(run.arm.network, base, dataset.select("learn"), run.budget)

        segments[next(iter(ways))] = partial(loop.segment, network)
    else:
        bundle, steps, seconds = base, 0, 0.0
        if run.budget:
            scans = scans_of(run.task, data) if "unlabelled_method" in run.arm.settings else []
            bundle, steps, seconds = fine_tune(
                *(dataset, base, run.arm.settings, run.seed, run.budget, work, scans), by_time=run.arm.by_time
            )
        named = by_name(bundle.labels)
        values = {name: named[name].value for name in dataset.labels}
        can_be_mirrored = bool(mirrorable_axes(bundle.spec.inference, len(bundle.labels)))
        for way, changes in ways.items():
            if can_be_mirrored or changes.get("mirroring") is not True:
                segments[way] = _segmenting(bundle, changes)
    cases = dataset.select("final" if run.final else "test")
    found = []
    for way, segment in segments.items():
        started = time.process_time()
        label_maps = [segment(case) for case in cases]
        each = (time.process_time() - started) / len(cases)
        table = np.array([_dice(one, case, dataset, values) for one, case in zip(label_maps, cases, strict=True)])
        print(f"  {way} {np.nanmean(table, axis=0).mean():.3f}  {steps} steps, {each:.1f} s a case", flush=True)
        ids = tuple(case.id for case in cases)
        found.append(Measured(ids, tuple(dataset.labels), table, steps, seconds, way, each))
    return found


def _segmenting(bundle: Bundle, changes: Mapping[str, Any]) -> Callable[[Case], LabelMap]:
    settings = InferenceSettings(device="cpu", overlap=_OVERLAP, mirroring=False, check_familiarity=False)
    predictor = Predictor(bundle, replace(settings, **changes))
    return lambda case: predictor.predict(read_volume(case.image[0])).label_map


def _check_new(run: Run, base: Bundle) -> None:
    """What the base learnt from many labels is not learnt from few."""
    known = {label.name.casefold() for label in base.labels} & {name.casefold() for name in run.task.structures}
    if (
        known
        and run.budget
        and run.arm.network is None
        and run.arm.settings.get("initial_weights", "pretrained") == "pretrained"
    ):
        raise ConfigurationError(
            f"{run.name}: {base.name} has learnt {', '.join(sorted(known))} already.",
            'Start from its autoencoder (initial_weights = "autoencoder").',
        )


def _dice(found: LabelMap, case: Case, dataset: CaseDataset, values: Mapping[str, int]) -> list[float]:
    """`values` are those in what was found, by structure."""
    assert case.label is not None
    truth = read_label_map(case.label).array
    return [dice(truth == value, found.array == values[name]) for name, value in dataset.labels.items()]
