"""How long a fine-tuning may take, as the panels offer it. Shorter or longer ones are a number of minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Duration:
    """`until_no_better`: it ends earlier once checks, or else the training loss, have not improved for long."""

    key: str
    minutes: float
    until_no_better: bool = False

    def settings(self) -> dict[str, Any]:
        """Fields of `FineTuneSettings`."""
        return {"minutes": self.minutes, **({"until_no_better": True} if self.until_no_better else {})}


DURATIONS = (
    Duration("quick", 2.0),
    Duration("standard", 10.0),
    Duration("thorough", 60.0),
    Duration("overnight", 480.0, until_no_better=True),
)
