"""How a worker process is started, talked to and ended; who runs the event loop decides which transport is used."""

from __future__ import annotations

import functools
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Protocol

from ...jobs.event_loop import AsyncioLoop, QueueLoop
from ...processes.launch import Launch, apart
from ...processes.process_tree import kill_tree

_CHUNK_BYTES = 64 * 1024
#: How long output may still come after the end of the process; what it started may hold its pipes for ever.
_LAST_WORDS_S = 1.0


class Listener(Protocol):
    """Notified of what a process does, always from the event loop, never from within a call of the transport."""

    def on_output(self, data: bytes) -> None: ...

    def on_error_output(self, data: bytes) -> None: ...

    def on_exit(self, code: int | None, reason: str) -> None:
        """Called once, after all output. Killed by a signal: `code` is its negative number.

        `code` is None if the process could not be started; `reason` then says why.
        """


class Transport(Protocol):
    """One process, reported on the event loop that the transport was made for."""

    def start(self, launch: Launch, listener: Listener) -> None:
        """Never raises: a failure is reported by `on_exit`."""

    def write(self, data: bytes) -> None:
        """Never blocks, and does nothing once the process is gone."""

    def close_input(self) -> None:
        """The process sees the end of its stdin, after all that was written."""

    def kill(self, pid: int | None) -> None:
        """End the process and everything it started; `pid` is what the worker says it is, behind a launcher."""


class SubprocessTransport:
    """For programs without Qt. Threads read the pipes and post to the event loop, on which everything is reported."""

    def __init__(self, loop: QueueLoop | AsyncioLoop) -> None:
        self._loop = loop
        self._listener: Listener | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def start(self, launch: Launch, listener: Listener) -> None:
        self._listener = listener
        try:
            process = self._process = subprocess.Popen(
                [launch.program, *launch.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(launch.environment),
                bufsize=0,
                **apart(),
            )
        except (OSError, ValueError) as error:
            reason = f"cannot be started: {getattr(error, 'strerror', None) or error}"
            self._report(lambda: self._exited(None, reason))
            return
        readers = [
            self._thread(self._read, process.stdout, self._on_output),
            self._thread(self._read, process.stderr, self._on_error_output),
        ]
        self._thread(self._write_all, process.stdin)
        self._thread(self._wait, process, readers)

    def write(self, data: bytes) -> None:
        self._outgoing.put(data)

    def close_input(self) -> None:
        self._outgoing.put(None)

    def kill(self, pid: int | None) -> None:
        process = self._process
        if process is None:
            return
        # Also when it has ended: others of its group may live on.
        kill_tree(process.pid)
        if pid is not None and pid != process.pid:
            kill_tree(pid)

    def _thread(self, run: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=run, args=arguments, name=f"MAESegment {run.__name__}", daemon=True)
        thread.start()
        return thread

    def _read(self, pipe: IO[bytes], report: Callable[[bytes], None]) -> None:
        with pipe:
            while data := _read_some(pipe):
                self._report(functools.partial(report, data))

    def _write_all(self, pipe: IO[bytes]) -> None:
        try:
            with pipe:
                while (data := self._outgoing.get()) is not None:
                    view = memoryview(data)
                    while view:
                        view = view[pipe.write(view) :]
        except OSError:
            return  # the process is gone, which is reported elsewhere

    def _wait(self, process: subprocess.Popen[bytes], readers: list[threading.Thread]) -> None:
        code = process.wait()
        self.close_input()
        end = time.monotonic() + _LAST_WORDS_S
        for reader in readers:
            reader.join(max(0.0, end - time.monotonic()))
        self._report(lambda: self._exited(code, ""))

    def _report(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.post(callback)
        except RuntimeError:
            return  # the event loop is closed: there is nobody to report to

    def _on_output(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.on_output(data)

    def _on_error_output(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.on_error_output(data)

    def _exited(self, code: int | None, reason: str) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_exit(code, reason)


def _read_some(pipe: IO[bytes]) -> bytes:
    try:
        return os.read(pipe.fileno(), _CHUNK_BYTES)
    except (OSError, ValueError):
        return b""
