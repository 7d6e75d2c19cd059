"""The time that a run has. What it spent stands in its folder, so that an interrupted run goes on with what is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from ...storage.atomic_file import write_file

FILE = "time.json"
#: Where the user stops a training, its learning rate falls for a share of the time so far, for so many seconds at most.
_STOP_SHARE, _STOP_SECONDS = 0.1, 60.0
#: Of the chosen time, what the final model is trained for in any case: where a busy computer or many cases have used
#: up the time before that, the run takes longer, as the time left that it reports says.
LEAST_TRAINING = 0.25


def in_minutes(seconds: float) -> str:
    """ "0.7 min" or "12 min"."""
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"


def annealing_s(spent_s: float) -> float:
    """Seconds from *Stop and keep* to the end of a training that has run for so many."""
    return min(_STOP_SHARE * spent_s, _STOP_SECONDS)


class TimeBudget:
    """Seconds that the run in `folder` has and has spent, also in earlier processes, but not between them.

    `begun` is when this process began, by `clock`; None: now. A killed process loses what it had not kept. Only a run
    that `resumes` goes on with what was spent and decided there.
    """

    def __init__(
        self,
        minutes: float,
        folder: Path,
        *,
        begun: float | None = None,
        resumes: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._file, self._clock = folder / FILE, clock
        self._begun = clock() if begun is None else begun
        self._before, self._decided = _kept(self._file) if resumes else (0.0, {})
        #: What the user chose, and when it is to be over, in seconds of the run.
        self.chosen_s = self.end_s = 60.0 * minutes

    @property
    def spent_s(self) -> float:
        return self._before + self._clock() - self._begun

    @property
    def left_s(self) -> float:
        return max(0.0, self.end_s - self.spent_s)

    def left_while_preparing_s(self, began_s: float, share: float) -> float:
        """Seconds until the end, if such a share is prepared since `began_s`: later than planned where that takes long.

        Training gets its least time all the same.
        """
        preparing_s = (self.spent_s - began_s) * (1 / share - 1) if share > 0 else 0.0
        return max(self.left_s, preparing_s + LEAST_TRAINING * self.end_s)

    def decided(self, what: str) -> int | None:
        """As it was decided before, maybe in an earlier process, when more time was left."""
        return self._decided.get(what)

    def decide(self, what: str, value: int) -> int:
        """For all processes of the run, from when it is kept; the first decision stands."""
        return self._decided.setdefault(what, value)

    def keep(self) -> None:
        """Note what was spent and decided."""
        content = {"spent_s": round(self.spent_s, 3), "decided": self._decided}
        write_file(self._file, json.dumps(content) + "\n")


def _kept(file: Path) -> tuple[float, dict[str, int]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        decided = {str(what): int(value) for what, value in content.get("decided", {}).items()}
        return max(0.0, float(content["spent_s"])), decided
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0.0, {}
