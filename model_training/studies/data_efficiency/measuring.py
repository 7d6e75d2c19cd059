"""What a trained network is worth on the test cases: along the way on its own grid, at the end on the scans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_image
from MAESegmentLib.evaluation.cases import Measure, evaluate_cases
from MAESegmentLib.evaluation.metrics import Score
from MAESegmentLib.images import LabelMap
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.roi import Roi
from MAESegmentLib.images.volume import Grid
from MAESegmentLib.inference.segmenter import Segmenter
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.preprocessing.plan import Preprocessing
from MAESegmentLib.training.data.labelling import LabelPlan
from MAESegmentLib.training.data.prepared import PreparedCase
from MAESegmentLib.training.tasks.segmentation import dice_table

Row = dict[str, Any]


class _SegmenterPredictions:
    """Label maps of a network that is not in a bundle."""

    unknown: Sequence[str] = ()

    def __init__(self, segmenter: Segmenter, middle_mm: Sequence[float]) -> None:
        self._segmenter, self._middle_mm = segmenter, middle_mm

    def label_map(self, case: Case) -> LabelMap:
        volume = read_image(case)
        return self._segmenter.predict(volume, roi=middle_roi(volume.grid, self._middle_mm)).label_map


def segmenter_of(
    network: nn.Module, plan: LabelPlan, preprocessing: Preprocessing, device: torch.device, overlap: float
) -> Segmenter:
    """Makes label maps with the data set's own values, without mirroring."""
    settings = InferenceSettings(overlap=overlap, device=str(device), check_familiarity=False)
    return Segmenter(network, preprocessing, [0, *plan.values], settings, mirror_axes=())


def middle_roi(grid: Grid, middle_mm: Sequence[float]) -> Roi | None:
    """The box of so many mm along R, A and S around the centre of the volume; 0 is no limit, None no limit at all."""
    if not any(middle_mm):
        return None
    corners = np.array([*product(*[(-0.5, n - 0.5) for n in grid.shape])]) @ grid.ijk_to_ras[:3, :3].T
    corners = corners + grid.ijk_to_ras[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    width = np.where(np.asarray(middle_mm) > 0, middle_mm, high - low)
    low, high = (low + high - width) / 2, (low + high + width) / 2
    return Roi(tuple(low.tolist()), tuple(high.tolist()))


def middle_part(case: PreparedCase, orientation: str, middle_mm: Sequence[float]) -> PreparedCase:
    """A prepared case cut to that box; labels outside of it are not counted."""
    parts = []
    for letter, size, spacing in zip(orientation, case.shape, case.spacing, strict=True):
        axis = next(n for n, letters in enumerate(("RL", "AP", "SI")) if letter in letters)
        kept = min(size, round(middle_mm[axis] / spacing)) if middle_mm[axis] else size
        parts.append(slice((size - kept) // 2, (size - kept) // 2 + kept))
    d, h, w = parts
    classes = None if case.classes is None else case.classes[d, h, w]
    return replace(case, image=case.image[:, d, h, w], classes=classes, places=())


def scan_rows(
    segmenter: Segmenter, cases: Sequence[Case], plan: LabelPlan, middle_mm: Sequence[float] = (0, 0, 0)
) -> list[Row]:
    """Dice, HD95 and surface Dice of every case and label, on the grid of the scan. Raises if a case cannot be read."""
    labels = [Label(value, name) for value, name in zip(plan.values, plan.names, strict=True)]
    evaluation = evaluate_cases(cases, _SegmenterPredictions(segmenter, middle_mm), Measure(labels))
    if evaluation.failures:
        name, reason = next(iter(evaluation.failures.items()))
        raise RuntimeError(f"Case {name} could not be measured: {reason}")
    return [score_row(score) for score in evaluation.scores]


def score_row(score: Score) -> Row:
    """What does not exist (a structure that is not in the reference) is left empty."""
    return {
        "grid": "scan",
        "case": score.case,
        "label": score.label,
        "dice": _number(score.dice),
        "hd95_mm": _number(score.hd95_mm, 3),
        "surface_dice": _number(score.surface_dice),
    }


def network_rows(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    names: Sequence[str],
    patch_size: Sequence[int],
    device: torch.device,
    overlap: float,
) -> list[Row]:
    """Dice of every prepared case and label on the network's grid."""
    with torch.no_grad():
        table = dice_table(network, cases, names, patch_size, device, overlap)
    return [
        {"grid": "network", "case": case, "label": label, "dice": _number(dice)}
        for case, row in table.items()
        for label, dice in row.items()
    ]


def mean_dice(rows: Sequence[Row]) -> float:
    """Mean over labels of the means over cases; NaN without any."""
    by_label: dict[str, list[float]] = {}
    for row in rows:
        if row["dice"] != "":
            by_label.setdefault(row["label"], []).append(float(row["dice"]))
    means = [sum(values) / len(values) for values in by_label.values()]
    return sum(means) / len(means) if means else math.nan


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"
