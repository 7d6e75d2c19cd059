"""One statement of `maesegment doctor`: what was found, how bad it is, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class Level(str, Enum):
    """`PROBLEM` prevents work; `WARNING` makes it slow or fragile; `NOTE` is worth knowing."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """`fact` is for the user; `advice` is what to do, needed unless all is well; `figures` the same for programs."""

    topic: str
    level: Level
    fact: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"level": self.level.value}


def worst(findings: Iterable[Finding]) -> Level:
    """The most serious level among them."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def gib(size: float) -> str:
    """Bytes as text, e.g. "7.5 GiB"."""
    return f"{size / 2**30:.1f} GiB"
