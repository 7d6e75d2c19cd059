"""One run: train within the budget, segment the test cases on their own grids, Dice per structure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cases.case import Case
from MAESegmentLib.evaluation.metrics import dice
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.settings import InferenceSettings

from .ours import fine_tune
from .plain import PlainLoop
from .study import Run, Study
from .tasks import prepare_task

#: The same for all: less than is used in practice, for the sake of time.
_OVERLAP = 0.25


def measure_run(study: Study, run: Run, data: Path, work: Path, base: Bundle) -> list[dict[str, Any]]:
    """A row per structure, with Dice as a mean over the test cases."""
    torch.set_num_threads(1)
    dataset = prepare_task(run.task, data, work)
    segment: Callable[[Case], LabelMap]
    if run.arm.network is not None:
        loop = PlainLoop(study.spacing, study.patch, len(dataset.labels) + 1, run.seed, _OVERLAP)
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
    cases = dataset.select("test")
    table = np.array([_dice(segment(case), case, dataset.labels.values()) for case in cases])
    means = [float(value) for value in np.nanmean(table, axis=0)]
    mean = sum(means) / len(means)
    print(f"  {mean:.3f}  {steps} steps, tested in {time.perf_counter() - started:.0f} s", flush=True)
    shared = {"cases": len(cases), "steps": steps, "seconds": round(seconds)}
    return [
        {"structure": name, "dice": f"{value:.4f}", **shared}
        for name, value in zip((*dataset.labels, "mean"), (*means, mean), strict=True)
    ]


def _dice(found: LabelMap, case: Case, values: Iterable[int]) -> list[float]:
    assert case.label is not None
    truth = read_label_map(case.label).array
    return [dice(truth == value, found.array == value) for value in values]
