"""The worker's transport inside Slicer: a QProcess, and one timer for everything that is to happen later."""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import qt
import slicer

from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.processes.process_tree import kill_tree
from MAESegmentLib.worker.client.transport import Listener

T = TypeVar("T")

_NOT_RUNNING = 0
_FAILED_TO_START = 0
_CRASHED = 1
#: How long `pump` may sleep at once; callers that wait look at the screen's events at least this often.
_NAP_S = 0.005


class EventClock:
    """Calls things later, from the event loop, one QTimer for all: a timer per call would have to be deleted inside
    its own slot, which PythonQt does not survive everywhere."""

    def __init__(self) -> None:
        self.calls = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._forgotten: set[int] = set()
        self._numbers = itertools.count()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        _connect(self._timer, "timeout()", self._ring)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after `seconds` (0: in the next turn of the event loop); call what it returns to cancel."""
        number = next(self._numbers)
        heapq.heappush(self._due, (time.monotonic() + max(seconds, 0.0), number, callback))
        self._arm()
        return lambda: self._forgotten.add(number)

    def pump(self, seconds: float) -> None:
        """Let events happen until one of these calls was made, for at most `seconds`; for callers that wait."""
        wait_for_events(seconds, lambda: self.calls)

    def _arm(self) -> None:
        while self._due and self._due[0][1] in self._forgotten:
            self._forgotten.discard(heapq.heappop(self._due)[1])
        if self._due:
            self._timer.start(max(0, int((self._due[0][0] - time.monotonic()) * 1000)))
        else:
            self._forgotten.clear()
            self._timer.stop()

    def _ring(self) -> None:
        # One call a turn, and armed again before it: the call may wait for others in an event loop of its own.
        number, callback = -1, None
        if self._due and self._due[0][0] <= time.monotonic() + 0.001:
            _when, number, callback = heapq.heappop(self._due)
        self._arm()
        if callback is None or number in self._forgotten:
            self._forgotten.discard(number)
            return
        self.calls += 1
        try:
            callback()
        except Exception:
            logging.exception("MAESegment: a delayed call failed")


_clocks: list[EventClock] = []


def event_clock() -> EventClock:
    """The clock of this process; made on first use, because importing must not need a running application."""
    if not _clocks:
        _clocks.append(EventClock())
    return _clocks[0]


class QProcessTransport:
    """One worker process; everything is reported on the thread of the event loop."""

    def __init__(self, clock: EventClock | None = None) -> None:
        self._clock = clock or event_clock()
        self._process = None
        self._listener: Listener | None = None
        self._reports = 0

    def start(self, launch: Launch, listener: Listener) -> None:
        self._listener = listener
        process = qt.QProcess()
        environment = qt.QProcessEnvironment()
        for name, value in launch.environment.items():
            environment.insert(str(name), str(value))
        process.setProcessEnvironment(environment)
        _connect(process, "readyReadStandardOutput()", self._read_output)
        _connect(process, "readyReadStandardError()", self._read_error_output)
        _connect(process, "errorOccurred(QProcess::ProcessError)", self._on_error)
        _connect(process, "finished(int,QProcess::ExitStatus)", self._on_finished)
        self._process = process
        process.start(launch.program, list(launch.arguments))

    def write(self, data: bytes) -> None:
        if self._process is not None and self._process.state() != _NOT_RUNNING:
            self._process.write(data)

    def close_input(self) -> None:
        if self._process is not None and self._process.state() != _NOT_RUNNING:
            self._process.closeWriteChannel()

    def kill(self, pid: int | None) -> None:
        """`pid` is what the worker said it is: behind a launcher it is not the process that was started."""
        if pid is not None:
            kill_tree(pid)
        if self._process is not None and self._process.state() != _NOT_RUNNING:
            kill_tree(int(self._process.processId()))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return self._clock.call_later(seconds, callback)

    def pump(self, seconds: float) -> None:
        wait_for_events(seconds, lambda: (self._reports, self._clock.calls))

    def _read_output(self) -> None:
        data = self._process.readAllStandardOutput().data() if self._process is not None else b""
        if data and self._listener is not None:
            self._reports += 1
            self._listener.on_output(data)

    def _read_error_output(self) -> None:
        data = self._process.readAllStandardError().data() if self._process is not None else b""
        if data and self._listener is not None:
            self._reports += 1
            self._listener.on_error_output(data)

    def _on_error(self, error: int) -> None:
        if int(error) == _FAILED_TO_START:
            reason = f"cannot be started: {self._process.errorString()}"
            # Later: QProcess may say so from within start(), before the caller is ready for it.
            self._clock.call_later(0, lambda: self._exited(None, reason))

    def _on_finished(self, code: int, status: int) -> None:
        self._read_output()
        self._read_error_output()
        killed = int(status) == _CRASHED and os.name != "nt"
        # Qt gives the signal's number as the exit code; elsewhere in Python that is a negative number.
        self._exited(-int(code) if killed else int(code), "")

    def _exited(self, code: int | None, reason: str) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._reports += 1
        # The process must outlive the slot that it is calling, but not for ever: its connections keep this alive.
        process, self._process = self._process, None
        self._clock.call_later(1.0, lambda: process.state())
        listener.on_exit(code, reason)


def wait_for_events(seconds: float, what: Callable[[], object]) -> None:
    """Process events until `what()` answers something new, for at most `seconds`."""
    before = what()
    end = time.monotonic() + seconds
    while True:
        slicer.app.processEvents()
        left = end - time.monotonic()
        if left <= 0 or before != what():
            return
        time.sleep(min(left, _NAP_S))


def call_aside(function: Callable[[], T]) -> T:
    """The result of `function`, run in a thread while Slicer stays alive. It must touch neither Qt nor the scene."""
    outcome: list[Callable[[], T]] = []

    def run() -> None:
        try:
            value = function()
        except BaseException as error:
            outcome.append(functools.partial(_raise, error))
        else:
            outcome.append(lambda: value)

    thread = threading.Thread(target=run, name="MAESegment aside", daemon=True)
    thread.start()
    while not outcome:
        wait_for_events(0.05, lambda: len(outcome))
    return outcome[0]()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _connect(sender, signal: str, slot: Callable[..., None]) -> None:
    if not sender.connect(signal, slot):
        raise RuntimeError(f"{sender.className()} has no signal {signal}")
