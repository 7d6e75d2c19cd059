"""How long each stage of a request takes and how far it is, reported as often as a user can see."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..protocol import Message, Progress

_REPORT_EVERY_S = 0.1  # a user sees no more

Send = Callable[[Message], None]


class StageClock:
    """Times the stages of one request and reports them, with the time left once the network runs."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.seconds: dict[str, float] = {}
        self._id = request_id
        self._send = send
        self._stage = ""
        self._begun = self._stage_begun = time.perf_counter()
        self._stage_from = 0.0
        self._last_report = 0.0

    @property
    def total(self) -> float:
        return time.perf_counter() - self._begun

    def enter(self, stage: str) -> None:
        self.report(stage, 0.0)

    def end(self) -> None:
        self._close(time.perf_counter())

    def report(self, stage: str, fraction: float) -> None:
        """As `inference.settings.ReportStage`."""
        now = time.perf_counter()
        is_new = stage != self._stage
        if is_new:
            self._close(now)
            self._stage, self._stage_begun, self._stage_from = stage, now, fraction
        if is_new or fraction >= 1.0 or now - self._last_report >= _REPORT_EVERY_S:
            self._last_report = now
            self._send(Progress(self._id, stage, round(min(max(fraction, 0.0), 1.0), 4), self._left(fraction, now)))

    def _left(self, fraction: float, now: float) -> float | None:
        """Only for the network, and only after its first windows; the rest is too short."""
        done = fraction - self._stage_from
        if self._stage != "segment" or done <= 0.0:
            return None
        return round((now - self._stage_begun) * (1.0 - fraction) / done, 2)

    def _close(self, now: float) -> None:
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._stage_begun
