"""How large a model's structures are in the label maps that it learnt from: results are compared with that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ...errors import ConfigurationError
from ...images.labels import Label
from .entries import by_label_value

#: Of a spec's `inference`: {label value: `Volumes.to_dict()`}. Models of versions before have none.
KEY = "volumes"
#: A structure is unlike those learnt from if it has so many times the largest volume, or so small a part of the
#: smallest; of few cases, which say little about the next.
_FACTOR, _FACTOR_OF_FEW, _FEW = 2.0, 4.0, 10
#: A contour gone wrong has so many times the median of that many cases or more.
_OUTLYING, _ENOUGH = 5.0, 5
#: Named in a warning, at most.
_NAMED = 3


@dataclass(frozen=True)
class Volumes:
    """Of one structure, over the cases that have it: the smallest and the largest (ml), and how many they are."""

    smallest_ml: float
    largest_ml: float
    cases: int

    def __post_init__(self) -> None:
        for name in ("smallest_ml", "largest_ml"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1e6:
                raise ConfigurationError(f"{name} {str(value)[:40]!r} is not a number of ml above 0.")
        if self.smallest_ml > self.largest_ml:
            raise ConfigurationError("Its smallest volume is above its largest.")
        if type(self.cases) is not int or not 1 <= self.cases <= 10**9:
            raise ConfigurationError(f"cases {str(self.cases)[:40]!r} is not a number of cases.")

    @classmethod
    def of(cls, ml: Sequence[float]) -> Volumes:
        """Of the volumes (ml, above 0) of one or more cases, without those that `outlying` finds."""
        kept = sorted(ml)[: len(ml) - len(outlying(ml))]
        return cls(_rounded(kept[0]), _rounded(kept[-1]), len(kept))

    def with_more(self, other: Volumes) -> Volumes:
        """Of both's cases, which may be partly the same."""
        smallest, largest = min(self.smallest_ml, other.smallest_ml), max(self.largest_ml, other.largest_ml)
        return Volumes(smallest, largest, max(self.cases, other.cases))

    def to_dict(self) -> dict[str, Any]:
        return {"smallest_ml": self.smallest_ml, "largest_ml": self.largest_ml, "cases": self.cases}

    @property
    def factor(self) -> float:
        return _FACTOR if self.cases >= _FEW else _FACTOR_OF_FEW

    def is_too_large(self, ml: float) -> bool:
        return ml > self.factor * self.largest_ml

    def is_too_small(self, ml: float) -> bool:
        return 0 < ml < self.smallest_ml / self.factor


def outlying(ml: Sequence[float]) -> list[int]:
    """Which of several cases' volumes of one structure are far larger than the others: its contour is another's there.

    Far smaller ones are no fault: a scan ends somewhere.
    """
    limit = _OUTLYING * median(ml) if len(ml) >= _ENOUGH else math.inf
    return [number for number, one in enumerate(ml) if one > limit]


def volumes_of(inference: Mapping[str, Any]) -> dict[int, Volumes]:
    """By label value, from a spec's `inference`; `ConfigurationError` for what is none."""
    names = ("smallest_ml", "largest_ml", "cases")
    entries = by_label_value(inference.get(KEY), names)
    for value, entry in entries.items():
        if missing := set(names) - set(entry):
            raise ConfigurationError(f"Label {value} has no entry {min(missing)!r}.")
    return {value: Volumes(**entry) for value, entry in entries.items()}


def unlike_text(
    found_ml: Mapping[int, float], known: Mapping[int, Volumes], labels: Sequence[Label], cut_off: set[int]
) -> str:
    """What to tell of volumes (label value -> ml) that no case which was learnt from comes near to; "" if nothing.

    A structure whose value is in `cut_off` may be smaller.
    """
    parts = []
    for label in labels:
        ml, range_ = found_ml.get(label.value, 0.0), known.get(label.value)
        if range_ is None:
            continue
        if range_.is_too_large(ml) or (range_.is_too_small(ml) and label.value not in cut_off):
            learnt = f"{_figure(range_.smallest_ml)} to {_figure(range_.largest_ml)} ml"
            parts.append(f"{label.name} {_figure(ml)} ml ({learnt} in {range_.cases} cases)")
    if not parts:
        return ""
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return (
        f"Unlike the volumes that the model learnt from: {', '.join(parts[:_NAMED])}{more}. "
        "Check that the model is made for this scan, and look at the result before you use it."
    )


def _rounded(ml: float) -> float:
    return float(f"{ml:.4g}")


def _figure(ml: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(ml))) if ml > 0 else 0
    return f"{ml:.{min(digits, 4)}f}"
