"""What a model's description holds about its training scans, so that other scans can be compared. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BundleError
from ..preprocessing.grey_values import GreyValues, describe_grey_values
from ..preprocessing.intensity import IntensityRecipe
from .scan_statistics import ENOUGH_TO_CALIBRATE, SpaceStatistics

#: Of what `FamiliarityStatistics.to_dict` writes; raised whenever what is described changes.
FORMAT = 1
#: A scan may be so many times as long as the longest of the training scans along an axis: regions are drawn by hand.
EXTENT_TOLERANCE = 2.0
#: What is tried to explain grey values that are not those of the training scans.
_SHIFTS_HU = (1024.0, 1000.0)
#: Grey values that begin and end where the training scans' do, up to this share of their span, have the same unit.
_SAME_SPAN = 0.25


@dataclass(frozen=True, eq=False)
class ScanDescription:
    """`stages` has, per stage of the encoder, means and standard deviations of its channels, (windows, 2 K): those of
    the most varied window first.

    `extent_mm` is (3,), along the axes of the model's orientation.
    """

    grey: GreyValues
    stages: tuple[np.ndarray, ...]
    extent_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class FamiliarityStatistics:
    """What the training scans of one model are like; `span` is where their grey values lie (medians), `extent_mm` the
    longest of them along each axis."""

    scans: int
    grey: SpaceStatistics
    stages: tuple[SpaceStatistics, ...]
    extent_mm: tuple[float, float, float]
    span: tuple[float, float]

    def excesses(self, scan: ScanDescription) -> dict[str, float]:
        """How far `scan` is from the training scans in each respect, in units of what is still familiar."""
        extent = float((scan.extent_mm / self.extent_mm).max()) / EXTENT_TOLERANCE
        stages = zip(self.stages, scan.stages, strict=True)
        return {
            "grey values": self.excess_of(scan.grey),
            "extent": extent,
            **{f"stage {number}": space.excess(points[0]) for number, (space, points) in enumerate(stages)},
        }

    def excess_of(self, grey: GreyValues) -> float:
        """How far grey values are from the training scans', in units of what is still familiar.

        The limit of few scans is assumed, and wide enough for other scanners already.
        """
        tolerance = grey.tolerance if self.scans >= ENOUGH_TO_CALIBRATE else 1.0
        return self.grey.excess(grey.description) / tolerance

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return {
            "format": FORMAT,
            "scans": self.scans,
            "grey_values": self.grey.to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
            "extent_mm": [round(length, 1) for length in self.extent_mm],
            "span": [float(f"{value:.6g}") for value in self.span],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FamiliarityStatistics:
        """Raises `BundleError` for what `to_dict` cannot have written."""
        try:
            x, y, z = (float(length) for length in data["extent_mm"])
            low, high = (float(value) for value in data["span"])
            if not np.isfinite([x, y, z, low, high]).all() or min(x, y, z) <= 0 or int(data["scans"]) < 1:
                raise ValueError("extents and scans must be positive")
            stages = tuple(SpaceStatistics.from_dict(stage) for stage in data["stages"])
            grey = SpaceStatistics.from_dict(data["grey_values"])
            return cls(int(data["scans"]), grey, stages, (x, y, z), (low, high))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"The model's statistics of its training scans cannot be read ({type(error).__name__}: {error}).",
                "Get the model again.",
            ) from error


def read_statistics(
    stored: Mapping[str, Any] | None, dims: Sequence[int], intensity: IntensityRecipe, channels: int
) -> FamiliarityStatistics | None:
    """What a model with a network of `dims` stored; None if nothing, or what another version compares.

    `BundleError` if scans cannot be compared with it.
    """
    if not stored or stored.get("format") != FORMAT:
        return None
    statistics = FamiliarityStatistics.from_dict(stored)
    grey = describe_grey_values(np.zeros((channels, 1, 1, 1), dtype=np.float32), intensity).description
    if [len(stage.mean) for stage in statistics.stages] != [2 * dim for dim in dims] or len(
        statistics.grey.mean
    ) != len(grey):
        raise BundleError("The model's statistics of its training scans are not of its network.", "Get it again.")
    return statistics


def about_grey_values(
    statistics: FamiliarityStatistics,
    grey: GreyValues,
    array: Sequence[np.ndarray] | np.ndarray,
    recipe: IntensityRecipe,
) -> str:
    """In what the grey values of a scan differ from the training scans', in words."""

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
