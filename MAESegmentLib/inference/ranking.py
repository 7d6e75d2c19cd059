"""How certain a model was about a scan, and in which order scans are worth correcting. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol


@dataclass(frozen=True)
class Uncertainty:
    """What `uncertainty_of` found in one scan. `entropy` and `disagreement` are 0 (certain) to 1, see there.

    `unfamiliarity` is how far the scan is from the training scans; above 1, the model warns. None if nothing tells.
    `slice_index` of axis `slice_axis` (0 = I, 1 = J, 2 = K of the scan's own grid) is the slice to look at first;
    `position_ras` (mm) lies in it, in the middle of what is uncertain there.
    """

    entropy: float
    disagreement: float
    unfamiliarity: float | None
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
        """One number for a person, 0 (certain) to 1: the entropy."""
        return self.entropy

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return {**asdict(self), "score": self.score}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Uncertainty:
        values = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        r, a, s = (float(x) for x in values["position_ras"])
        tuples = {name: tuple(values.get(name, ())) for name in ("not_found", "warnings")}
        return cls(**{**values, **tuples, "position_ras": (r, a, s)})


class Rankable(Protocol):
    """The part of an `Uncertainty` that decides."""

    @property
    def entropy(self) -> float: ...

    @property
    def unfamiliarity(self) -> float | None: ...


def rank(items: Sequence[Rankable]) -> list[int]:
    """Indices of `items`, the most useful to correct first.

    The mean of two places: by entropy and by unfamiliarity; of the first alone where a scan has none.
    """
    by_entropy = _places([item.entropy for item in items])
    distances = [item.unfamiliarity for item in items]
    by_distance = _places([-1.0 if distance is None else distance for distance in distances])
    places = [
        by_entropy[index] if distance is None else (by_entropy[index] + by_distance[index]) / 2
        for index, distance in enumerate(distances)
    ]
    return sorted(range(len(items)), key=lambda index: (places[index], by_entropy[index], index))


def _places(values: Sequence[float]) -> list[float]:
    """0 for the largest value; equal values share the mean of their places."""
    ordered = sorted(values, reverse=True)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
