"""The time that a run has. What it spent stands in its folder, so that an interrupted run goes on with what is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from ...storage.atomic_file import write_file

FILE = "time.json"


class TimeBudget:
    """Seconds that the run in `folder` has and has spent, also in earlier processes, but not between them.

    `begun` is when this process began, by `clock`; None: now. A killed process loses what it had not kept.
    """

    def __init__(
        self,
        minutes: float,
        folder: Path,
        *,
        begun: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._clock = folder / FILE, clock
        self._begun = clock() if begun is None else begun
        self._before = _spent_before(self._file)
        #: When it is to be over, in seconds of the run.
        self.end_s = 60.0 * minutes

    @property
    def spent_s(self) -> float:
        return self._before + self._clock() - self._begun

    @property
    def left_s(self) -> float:
        return max(0.0, self.end_s - self.spent_s)

    def keep(self) -> None:
        """Note what was spent."""
        write_file(self._file, json.dumps({"spent_s": round(self.spent_s, 3)}) + "\n")


def _spent_before(file: Path) -> float:
    try:
        return max(0.0, float(json.loads(file.read_text(encoding="utf-8"))["spent_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
