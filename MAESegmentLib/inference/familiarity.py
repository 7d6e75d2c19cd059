"""Whether a model can know a scan: how far the scan lies from those the model was trained on, and in which respect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from ..bundle.scan_statistics import fit_space
from ..bundle.training_statistics import FamiliarityStatistics, ScanDescription, read_statistics
from ..images.volume import Volume
from ..preprocessing.grey_values import GreyValues, describe_grey_values
from ..preprocessing.intensity import IntensityRecipe
from ..preprocessing.plan import Prepared
from .scan_description import Encode, describe_scan

#: Statistics of fewer scans say so in their warning.
FEW_SCANS = 12
#: Beyond so many times the limit, a scan is nothing like the training scans.
_NOTHING_LIKE = 2.0
#: What is tried to explain grey values that are not those of the training scans.
_SHIFTS_HU = (1024.0, 1000.0)
#: Grey values that begin and end where the training scans' do, up to this share of their span, have the same unit.
_SAME_SPAN = 0.25


@dataclass(frozen=True)
class Familiarity:
    """How far a scan is from the training scans: `excess` 1 is the limit. `message` is None for a scan within it.

    `terms` holds the excess in each respect: "grey values", "extent" and "stage 0" (the finest) onwards.
    """

    excess: float
    message: str | None
    terms: Mapping[str, float]


def fit_familiarity(scans: Sequence[ScanDescription]) -> FamiliarityStatistics:
    """The statistics of training scans, at least one; the limits are calibrated by cross-validation where they are
    enough, and are wide where they are not. There, several windows of each scan show what differs within one already.
    """
    stages = zip(*(scan.stages for scan in scans), strict=True)
    x, y, z = (float(length) for length in np.max([scan.extent_mm for scan in scans], axis=0))
    low, high = (float(value) for value in np.median([scan.grey.span for scan in scans], axis=0))
    return FamiliarityStatistics(
        len(scans),
        fit_space(np.array([scan.grey.description for scan in scans]), len(scans)),
        tuple(fit_space(np.concatenate(stage), len(scans)) for stage in stages),
        (x, y, z),
        (low, high),
    )


class Described(Protocol):
    """The part of a bundle used here."""

    @property
    def spec(self) -> Any: ...


class FamiliarityCheck:
    """Compares scans with the training scans of one model, by the statistics that its description holds."""

    def __init__(self, bundle: Described) -> None:
        self._spec = bundle.spec

    @cached_property
    def _statistics(self) -> FamiliarityStatistics | None:
        network = self._spec.network or self._spec.autoencoder.encoder
        intensity = self._spec.preprocessing.intensity
        return read_statistics(self._spec.familiarity, network.dims, intensity, len(self._spec.channels))

    def __call__(
        self, volume: Volume, prepared: Prepared, encode: Encode, *, device: torch.device | str = "cpu"
    ) -> Familiarity | None:
        """`prepared` was made from `volume`; None if the model has no statistics, or of a format of another version."""
        if self._statistics is None:
            return None
        preprocessing = self._spec.preprocessing
        array = volume.crop(prepared.region).array
        grey = describe_grey_values(array, preprocessing.intensity)
        spacing = prepared.grid.spacing
        scan = describe_scan(grey, prepared.image, spacing, preprocessing.patch_size, encode, device=device)
        return judge(self._statistics, scan, array, preprocessing.intensity)


def judge(
    statistics: FamiliarityStatistics, scan: ScanDescription, array: np.ndarray, recipe: IntensityRecipe
) -> Familiarity:
    """Whether `scan`, whose voxels are `array` (C, ...), is like the training scans, and if not, why."""
    terms = statistics.excesses(scan)
    excess = max(terms.values())
    if scan.grey.is_blank:
        reasons = ["it is blank, every voxel has the same value"]
        excess = max(excess, _NOTHING_LIKE)
    elif excess <= 1:
        return Familiarity(excess, None, terms)
    else:
        reasons = _reasons(statistics, scan, terms, array, recipe)
    scans = f"{statistics.scans} training scan{'' if statistics.scans == 1 else 's'}"
    few = f" (statistics of {scans} only)" if statistics.scans < FEW_SCANS else ""
    message = f"This scan is unlike the training scans of the model{few}: {'; '.join(reasons)}. Check the result."
    return Familiarity(excess, message, terms)


def _reasons(
    statistics: FamiliarityStatistics,
    scan: ScanDescription,
    terms: Mapping[str, float],
    array: np.ndarray,
    recipe: IntensityRecipe,
) -> list[str]:
    reasons = []
    if terms["grey values"] > 1:
        reasons.append(_about_grey_values(statistics, scan.grey, array, recipe))
    if terms["extent"] > 1:
        reasons.append(
            f"it is {_size(scan.extent_mm)} mm, they are {_size(statistics.extent_mm)} mm at most "
            "(draw a region of interest around the structures)"
        )
    stages = [value for name, value in terms.items() if name.startswith("stage")]
    if max(stages) > _NOTHING_LIKE:
        reasons.append("it shows nothing like what they show (another part of the body or kind of image, or turned)")
    elif max(stages[1:], default=0.0) > 1:
        reasons.append("it does not look like them (another part of the body or kind of image, or turned)")
    elif stages[0] > 1:
        reasons.append("its texture is another (noise, sharpness, contrast)")
    return reasons


def _about_grey_values(
    statistics: FamiliarityStatistics, grey: GreyValues, array: np.ndarray, recipe: IntensityRecipe
) -> str:
    def fits(change: Callable[[np.ndarray], np.ndarray]) -> bool:
        return statistics.excess_of(describe_grey_values(array, recipe, change)) <= 1

    low, high = grey.span
    if recipe.kind != "ct":
        inverted = " (as if dark and bright were exchanged)" if fits(np.negative) else ""
        return f"its grey values are distributed differently{inverted}"
    usual_low, usual_high = statistics.span
    if abs(low - usual_low) < _SAME_SPAN * (usual_high - usual_low) > abs(high - usual_high):
        return "its grey values are distributed differently (noise, blur, or dark and bright exchanged)"
    text = f"its grey values are not HU: {low:.4g} to {high:.4g}, theirs about {usual_low:.4g} to {usual_high:.4g}"
    for shift in _SHIFTS_HU:
        for sign, direction in ((-1.0, "high"), (1.0, "low")):
            if fits(lambda values, by=sign * shift: values + by):  # type: ignore[misc]
                return f"{text} ({shift:g} too {direction})"
    return text


def _size(lengths: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{length:.0f}" for length in lengths)
