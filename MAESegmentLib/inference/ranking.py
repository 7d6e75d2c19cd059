"""How certain a model was about a scan, and in which order scans are worth correcting. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Uncertainty:
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
        """JSON-ready; `from_dict` reads it back."""
        return {**asdict(self), "score": self.score}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Uncertainty:
        """Versions before wrote `disagreement` and `unfamiliarity`, too, which are ignored."""
        values = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        r, a, s = (float(x) for x in values["position_ras"])
        tuples = {name: tuple(values.get(name, ())) for name in ("not_found", "warnings")}
        return cls(**{**values, **tuples, "position_ras": (r, a, s)})


def rank(items: Sequence[Uncertainty]) -> list[int]:
    """Indices of `items`, the least certain first."""
    return sorted(range(len(items)), key=lambda index: -items[index].entropy)
