"""How certain a model was about a scan, and in which order scans are worth correcting. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MAESegmentError
from ..values import Stored


@dataclass(frozen=True)
class Uncertainty(Stored):
    """What `uncertainty_of` found in one scan. `entropy` is 0 (certain) to 1, see there.

    `slice_index` of axis `slice_axis` (0 = I, 1 = J, 2 = K of the scan's own grid) is the slice to look at first;
    `position_ras` (mm) lies in it, in the middle of what is uncertain there.
    """

    entropy: float
    slice_axis: int
    slice_index: int
    position_ras: tuple[float, float, float]
    per_label: Mapping[str, float] = field(default_factory=dict)  # entropy by structure
    not_found: tuple[str, ...] = ()
    seconds: float = 0.0
    device: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """What a list shows, 0 (certain) to 1: the entropy."""
        return self.entropy

    def to_dict(self) -> dict[str, Any]:
        """With `score`; what versions before wrote besides (`disagreement`, `unfamiliarity`) is not read."""
        return {**super().to_dict(), "score": self.score}


def rank(items: Sequence[Uncertainty]) -> list[int]:
    """Indices of `items`, the least certain first."""
    return sorted(range(len(items)), key=lambda index: -items[index].entropy)


@dataclass(frozen=True)
class RankedScan:
    """A scan and how uncertain the model is about it; or the case that it is stored as; or the `error` for which
    neither is known."""

    path: Path
    uncertainty: Uncertainty | None = None
    error: MAESegmentError | None = None
    stored_as: str = ""


def in_order(scans: Sequence[RankedScan]) -> list[RankedScan]:
    """The most useful to correct first; last those that were not measured, in their order."""
    measured = [(scan, scan.uncertainty) for scan in scans if scan.uncertainty is not None]
    order = rank([uncertainty for _scan, uncertainty in measured])
    return [*(measured[index][0] for index in order), *(scan for scan in scans if scan.uncertainty is None)]
