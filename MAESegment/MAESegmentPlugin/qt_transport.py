"""The worker's transport inside Slicer: a QProcess."""

from __future__ import annotations

import os
from typing import Any

import qt

from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.processes.process_tree import kill_tree
from MAESegmentLib.worker.client.transport import Listener

from .qt_event_loop import QtLoop, qt_loop
from .widgets import connect

_NOT_RUNNING = 0
_FAILED_TO_START = 0
_CRASHED = 1


class QProcessTransport:
    """One worker process; everything is reported on the thread of the event loop."""

    def __init__(self, loop: QtLoop | None = None) -> None:
        self._loop = loop or qt_loop()
        self._process: Any = None
        self._listener: Listener | None = None

    def start(self, launch: Launch, listener: Listener) -> None:
        self._listener = listener
        process = qt.QProcess()
        environment = qt.QProcessEnvironment()
        for name, value in launch.environment.items():
            environment.insert(str(name), str(value))
        process.setProcessEnvironment(environment)
        connect(process, "readyReadStandardOutput()", self._read_output)
        connect(process, "readyReadStandardError()", self._read_error_output)
        connect(process, "errorOccurred(QProcess::ProcessError)", self._on_error)
        connect(process, "finished(int,QProcess::ExitStatus)", self._on_finished)
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

    def _read_output(self) -> None:
        data = self._process.readAllStandardOutput().data() if self._process is not None else b""
        if data and self._listener is not None:
            self._loop.note_event()
            self._listener.on_output(data)

    def _read_error_output(self) -> None:
        data = self._process.readAllStandardError().data() if self._process is not None else b""
        if data and self._listener is not None:
            self._loop.note_event()
            self._listener.on_error_output(data)

    def _on_error(self, error: int) -> None:
        if int(error) == _FAILED_TO_START:
            reason = f"cannot be started: {self._process.errorString()}"
            # Later: QProcess may say so from within start(), before the caller is ready for it.
            self._loop.call_later(0, lambda: self._exited(None, reason))

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
        self._loop.note_event()
        # The process must outlive the slot that it is calling, but not for ever: its connections keep this alive.
        process, self._process = self._process, None
        self._loop.call_later(1.0, lambda: process.state())
        listener.on_exit(code, reason)
