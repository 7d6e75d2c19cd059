"""Agreement of two label maps, structure by structure, with MONAI's metrics.

A structure that is missing on one side has no distance, and is never counted as perfect:

| reference | prediction | dice  | hd95_mm, surface_dice | volume_error_ml | status                    |
|-----------|------------|-------|-----------------------|-----------------|---------------------------|
| present   | present    | value | value                 | value           | ok                        |
| present   | absent     | 0     | none                  | - reference     | missing in prediction     |
| absent    | any        | none  | none                  | none            | not in reference          |
| any       | unknown    | none  | none                  | none            | not known to the model    |
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ..errors import GeometryError
from ..images.labels import Label
from ..images.volume import LabelMap
from ..images.volumetry import voxel_ml

#: Surface distance that still counts as agreement, mm.
SURFACE_TOLERANCE_MM = 1.0


class Status(str, Enum):
    """Whether a structure could be compared."""

    OK = "ok"
    MISSING_IN_PREDICTION = "missing in prediction"
    NOT_IN_REFERENCE = "not in reference"
    NOT_KNOWN = "not known to the model"


@dataclass(frozen=True)
class Score:
    """One structure of one case. `None` means the figure does not exist, see the table above.

    `volume_error_ml` is predicted minus reference; `predicted_ml` and `reference_ml` are the two volumes.
    """

    case: str
    label: str
    status: Status
    dice: float | None = None
    hd95_mm: float | None = None
    surface_dice: float | None = None
    volume_error_ml: float | None = None
    reference_ml: float = 0.0
    predicted_ml: float = 0.0


def dice_of_sizes(shared: float, first: float, second: float) -> float:
    """Dice of two sets of these sizes that share so many; NaN where both are empty."""
    return 2 * float(shared) / float(first + second) if first + second else math.nan


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Of two bool masks of one shape; NaN where both are empty."""
    shared, one, other = (int(np.count_nonzero(mask)) for mask in (first & second, first, second))
    return dice_of_sizes(shared, one, other)


def evaluate_label_maps(
    reference: LabelMap,
    prediction: LabelMap,
    labels: Sequence[Label],
    *,
    case: str = "",
    tolerance_mm: float = SURFACE_TOLERANCE_MM,
    unknown: Iterable[str] = (),
) -> list[Score]:
    """One score per label, on the grid that both maps share; `unknown` names labels the model cannot predict."""
    if difference := prediction.grid.difference(reference.grid):
        raise GeometryError(
            f"The predicted and the reference labels{f' of case {case}' if case else ''} lie on different grids: "
            f"{difference}.",
            "Compare label maps of the same image, saved without resampling.",
        )
    not_known = set(unknown)
    return [
        _score(reference, prediction, label, case, tolerance_mm, is_known=label.name not in not_known)
        for label in labels
    ]


def _score(
    reference: LabelMap, prediction: LabelMap, label: Label, case: str, tolerance_mm: float, *, is_known: bool
) -> Score:
    in_reference, in_prediction = reference.array == label.value, prediction.array == label.value
    ml = voxel_ml(reference)
    reference_ml, predicted_ml = float(in_reference.sum()) * ml, float(in_prediction.sum()) * ml
    if not is_known:
        return Score(case, label.name, Status.NOT_KNOWN, reference_ml=reference_ml)
    if reference_ml == 0.0:
        return Score(case, label.name, Status.NOT_IN_REFERENCE, predicted_ml=predicted_ml)
    difference = predicted_ml - reference_ml
    if predicted_ml == 0.0:
        status = Status.MISSING_IN_PREDICTION
        return Score(case, label.name, status, 0.0, None, None, difference, reference_ml, predicted_ml)
    figures = _overlap_and_distances(in_reference, in_prediction, reference.grid.spacing, tolerance_mm)
    return Score(case, label.name, Status.OK, *figures, difference, reference_ml, predicted_ml)


def _overlap_and_distances(
    reference: np.ndarray, prediction: np.ndarray, spacing: np.ndarray, tolerance_mm: float
) -> tuple[float, float, float]:
    """(I, J, K) bool masks, neither empty, spacing in mm -> Dice, HD95 in mm, surface Dice."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    box = _bounding_box(reference | prediction)
    # One voxel of background all round: a surface is where a structure meets background.
    masks = [torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (prediction, reference)]
    steps = [float(step) for step in spacing]
    with warnings.catch_warnings():
        # MONAI warns of a deprecated argument that its own functions pass to each other.
        warnings.simplefilter("ignore", FutureWarning)
        hd95 = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=steps)
        surface = compute_surface_dice(*masks, class_thresholds=[tolerance_mm], include_background=True, spacing=steps)
    return dice(reference, prediction), float(hd95), float(surface)


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Distances cost by the voxel, and structures are small beside a scan."""
    extents = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        extents.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(extents)
