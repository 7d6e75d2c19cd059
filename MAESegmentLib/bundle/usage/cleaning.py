"""What a model says about cleaning its results: for each structure, which pieces stay and whether holes are closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import ConfigurationError
from ...images.labels import Label
from .entries import by_label_value
from .locator import KEY as LOCATOR
from .sides import KEY as SIDES
from .sizes import KEY as VOLUMES

#: Of a spec's `inference`: {label value: `Cleaning.to_dict()`}. Models of versions before have none.
KEY = "cleaning"


@dataclass(frozen=True)
class Cleaning:
    """A piece stays if it has `smallest_mm3` and `smallest_share` of the structure's largest piece, which always stays.

    With a share of 1 only the largest stays, or several of the same size.
    """

    smallest_mm3: float = 0.0
    smallest_share: float = 0.0
    close_holes: bool = False

    def __post_init__(self) -> None:
        for name, most in (("smallest_mm3", 1e9), ("smallest_share", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise ConfigurationError(f"{name} {str(value)[:40]!r} is not a number from 0 to {most:g}.")
        if not isinstance(self.close_holes, bool):
            raise ConfigurationError(f"close_holes {str(self.close_holes)[:40]!r} is neither true nor false.")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def least_voxels(self, largest: int, voxel_mm3: float) -> int:
        """Of a piece that stays, where the largest has `largest`."""
        # A hair less, so that a piece of exactly this volume stays.
        asked = max(self.smallest_mm3 / voxel_mm3, self.smallest_share * largest)
        return min(math.ceil(asked * (1 - 1e-9)), largest)

    def describe(self) -> str:
        """As a part of a sentence."""
        parts = []
        if self.smallest_share == 1:
            parts.append("largest piece only")
        elif self.smallest_share:
            parts.append(f"pieces from {100 * self.smallest_share:g} % of the largest")
        if self.smallest_mm3 and self.smallest_share < 1:
            parts.append(f"pieces from {self.smallest_mm3:g} mm3")
        return ", ".join([*parts, *["holes closed"] * self.close_holes]) or "as the network gives it"


def cleaning_of(inference: Mapping[str, Any]) -> dict[int, Cleaning]:
    """By label value, from a spec's `inference`; `ConfigurationError` for what is none."""
    entries = by_label_value(inference.get(KEY), ("smallest_mm3", "smallest_share", "close_holes"))
    return {value: Cleaning(**entry) for value, entry in entries.items()}


def inherited(inference: Mapping[str, Any], before: Sequence[Label], labels: Sequence[Label]) -> dict[str, Any]:
    """`inference` of a model trained from one with the labels `before`: other structures have other pieces, and
    lie elsewhere. Which of its structures have sides is the new training's matter."""
    is_same = [(one.value, one.name) for one in before] == [(one.value, one.name) for one in labels]
    left_out = {SIDES} if is_same else {SIDES, KEY, LOCATOR, VOLUMES}
    return {key: value for key, value in inference.items() if key not in left_out}
