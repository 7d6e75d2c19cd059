"""How large voxels should be for new structures: so large that a patch shows a structure as a whole.

A patch of the base fits what the base segments. A structure that is larger than the patch is learnt from pieces, which
look like pieces of anything (measured in `model_training/studies/recipe`: left atrium, brain).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

from ...cases.case import Case
from ...cases.checks import read_image, read_labels
from ...cases.dataset import CaseDataset
from ...errors import DatasetError, GeometryError
from ...images.volume import LabelMap
from ...preprocessing.grid import by
from ...preprocessing.plan import Preprocessing
from .labelling import LabelPlan
from .prepared import IGNORED

Triple = tuple[float, float, float]
#: Voxels grow to at most twice the base's: further was not tried.
LARGEST_FACTOR = 2.0
#: A change smaller than this is none.
_SMALLEST_FACTOR = 1.1
#: Voxels across the thickest place of every structure that must be left.
_VOXELS_ACROSS = 4
#: Cases that are looked at.
_CASES = 12


@dataclass(frozen=True)
class _Size:
    """Of the structures of a case, in mm: the longest side along D, H, W, and the thickness of the thinnest."""

    box: Triple
    thickness: float


def fit_to_structures(
    preprocessing: Preprocessing, cases: Sequence[Case], dataset: CaseDataset, plan: LabelPlan
) -> tuple[Preprocessing, str]:
    """`preprocessing` with voxels that suit the structures of the training `cases`, and a note, "" if nothing changes.

    It stays as it is if a case annotates a label that the base knows, because the base segments that at its own voxels.
    Cases that cannot be used are passed over: `prepare_cases` names them all.
    """
    known = {channel for channel, origin in enumerate(plan.origins, start=1) if origin is not None}
    if any(known - set(plan.channels_of(case.unknown)) for case in cases):
        return preprocessing, ""
    sizes: list[_Size] = []
    for case in cases[:_CASES]:
        with contextlib.suppress(DatasetError, GeometryError):
            sizes += [size] if (size := _size_of(case, preprocessing, dataset, plan)) is not None else []
    if not sizes:
        return preprocessing, ""
    box = [median(size.box[axis] for size in sizes) for axis in range(3)]
    fitted = fitting_spacing(
        preprocessing.spacing, preprocessing.patch_size, box, median(size.thickness for size in sizes)
    )
    if fitted == preprocessing.spacing:
        return preprocessing, ""
    note = (
        f"Voxels of {by(fitted)} mm instead of the base's {by(preprocessing.spacing)} mm, so that a patch shows more "
        f"of the structures, which are up to {max(box):.0f} mm long."
    )
    if known:
        names = ", ".join(plan.names[channel - 1] for channel in sorted(known))
        note += f" The base's own {names}, which no case annotates, cannot be relied on at these voxels."
    return replace(preprocessing, spacing=fitted), note


def fitting_spacing(spacing: Triple, patch_size: Sequence[int], box: Sequence[float], thickness: float) -> Triple:
    """`spacing` (mm) for structures of a `box` (mm), all along D, H, W; the thinnest structure is of `thickness` mm.

    >>> fitting_spacing((1.0, 1.0, 1.0), (40, 56, 40), (60.0, 50.0, 40.0), thickness=30.0)
    (1.5, 1.5, 1.5)
    >>> fitting_spacing((1.0, 1.0, 1.0), (40, 56, 40), (60.0, 50.0, 40.0), thickness=5.0)
    (1.25, 1.25, 1.25)
    """
    factor = max(mm / (n * voxel) for mm, n, voxel in zip(box, patch_size, spacing, strict=True))
    factor = min(factor, LARGEST_FACTOR)
    largest = thickness / _VOXELS_ACROSS
    d, h, w = (round(max(mm, min(mm * factor, largest)), 2) for mm in spacing)
    is_worth_it = max(d / spacing[0], h / spacing[1], w / spacing[2]) >= _SMALLEST_FACTOR
    return (d, h, w) if is_worth_it else spacing


def _size_of(case: Case, preprocessing: Preprocessing, dataset: CaseDataset, plan: LabelPlan) -> _Size | None:
    """None if the case shows none of the structures."""
    names = {value: name for name, value in dataset.labels.items()}
    volume = read_image(case, None)
    label_map = read_labels(case, volume, dataset.labels, [names[value] for value in plan.values], dataset.ignore)
    whole = plan.to_classes(label_map, dataset.ignore)
    found = LabelMap(np.where(whole.array == IGNORED, 0, whole.array).astype(np.uint8), whole.ijk_to_ras)
    grid = preprocessing.grid_for(found)
    classes = preprocessing.prepare_labels(found, grid)
    boxes = [(channel, box) for channel, box in enumerate(find_objects(classes), start=1) if box is not None]
    if not boxes:
        return None
    lengths = [[(side.stop - side.start) * mm for side, mm in zip(box, grid.spacing, strict=True)] for _, box in boxes]
    thickness = min(
        2 * float(distance_transform_edt(np.pad(classes[box] == channel, 1), sampling=grid.spacing).max())
        for channel, box in boxes
    )
    d, h, w = (max(side) for side in zip(*lengths, strict=True))
    return _Size((d, h, w), thickness)
