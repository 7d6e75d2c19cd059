"""Slicer's own event loop, for jobs: one timer for everything that is to happen later."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections.abc import Callable

import qt
import slicer

from MAESegmentLib.jobs import EventLoop

from .widgets import connect

#: How long `pump` may sleep at once; callers that wait process the screen's events at least this often.
_NAP_S = 0.005


class QtLoop(EventLoop):
    """One QTimer for all: a timer per call would have to be deleted inside its own slot, which PythonQt does not
    survive everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self._happened = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        connect(self._timer, "timeout()", self._ring)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        number = next(self._numbers)
        heapq.heappush(self._due, (time.monotonic() + max(seconds, 0.0), number, callback))
        self._arm()
        return lambda: self._cancelled.add(number)

    def pump(self, seconds: float) -> None:
        before = self._happened
        end = time.monotonic() + seconds
        while True:
            slicer.app.processEvents()
            left = end - time.monotonic()
            if left <= 0 or self._happened != before:
                return
            time.sleep(min(left, _NAP_S))

    def note_event(self) -> None:
        """Something happened that a caller of `pump` may be waiting for."""
        self._happened += 1

    def _arm(self) -> None:
        while self._due and self._due[0][1] in self._cancelled:
            self._cancelled.discard(heapq.heappop(self._due)[1])
        if self._due:
            self._timer.start(max(0, int((self._due[0][0] - time.monotonic()) * 1000)))
        else:
            self._cancelled.clear()
            self._timer.stop()

    def _ring(self) -> None:
        # One call a turn, and armed again before it: the call may wait for others in an event loop of its own.
        number, callback = -1, None
        if self._due and self._due[0][0] <= time.monotonic() + 0.001:
            _when, number, callback = heapq.heappop(self._due)
        self._arm()
        if callback is None or number in self._cancelled:
            self._cancelled.discard(number)
            return
        self.note_event()
        try:
            callback()
        except Exception:
            logging.exception("MAESegment: a delayed call failed")


_loops: list[QtLoop] = []


def qt_loop() -> QtLoop:
    """The event loop of this process; made on first use, because importing must not need a running application."""
    if not _loops:
        _loops.append(QtLoop())
    return _loops[0]
