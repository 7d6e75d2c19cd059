"""How a worker process is started, talked to and ended; who runs the event loop decides which transport is used."""

from __future__ import annotations

import functools
import heapq
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Protocol

from ...processes.launch import Launch
from ...processes.process_tree import kill_tree

if TYPE_CHECKING:
    import asyncio

_CHUNK_BYTES = 64 * 1024
#: How long output may still come after the end of the process; what it started may hold its pipes for ever.
_LAST_WORDS_S = 1.0


class Listener(Protocol):
    """Is told what a process does, always from the event loop, never from within a call of the transport."""

    def on_output(self, data: bytes) -> None: ...

    def on_error_output(self, data: bytes) -> None: ...

    def on_exit(self, code: int | None, reason: str) -> None:
        """Called once, after all output. Killed by a signal: `code` is its negative number.

        `code` is None if the process could not be started; `reason` then says why.
        """


class Transport(Protocol):
    """One process, and the event loop that it is reported on."""

    def start(self, launch: Launch, listener: Listener) -> None:
        """Never raises: a failure is reported by `on_exit`."""

    def write(self, data: bytes) -> None:
        """Never blocks, and does nothing once the process is gone."""

    def close_input(self) -> None:
        """The process sees the end of its stdin, after all that was written."""

    def kill(self, pid: int | None) -> None:
        """End the process and everything it started; `pid` is what the worker says it is, behind a launcher."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call from the event loop after `seconds` (0: in its next turn); call the returned function to cancel it."""

    def pump(self, seconds: float) -> None:
        """Let events come in, for at most this long; for callers that wait."""


class EventQueue:
    """The event loop of a program that has none: what threads post and what is due happens in `pump`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._posted: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()

    def post(self, callback: Callable[[], None]) -> None:
        """From any thread."""
        with self._changed:
            self._posted.append(callback)
            self._changed.notify()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        timer = _Timer(callback)
        with self._changed:
            heapq.heappush(self._timers, (time.monotonic() + max(seconds, 0.0), next(self._numbers), timer))
            self._changed.notify()
        return timer.forget

    def pump(self, seconds: float) -> None:
        """Wait until there is something to do, for at most `seconds`, and do all that is there by then."""
        end = time.monotonic() + seconds
        with self._changed:
            self._collect()
            while not self._posted and (left := min(end, self._next_due()) - time.monotonic()) > 0:
                self._changed.wait(left)
                self._collect()
            self._collect()
            count = len(self._posted)
        # Taken one by one: a callback may pump, or fail, and none may be lost by that.
        for _ in range(count):
            if self._posted:
                self._posted.popleft()()

    def _next_due(self) -> float:
        return self._timers[0][0] if self._timers else float("inf")

    def _collect(self) -> None:
        now = time.monotonic()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].callback is None):
            self._posted.append(heapq.heappop(self._timers)[2].ring)


class _Timer:
    """Something to do once, unless it is forgotten before; then it keeps nothing alive."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def forget(self) -> None:
        self.callback = None

    def ring(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


Post = Callable[[Callable[[], None]], Any]
#: As `loop.call_later`: what it answers has a method `cancel`.
Later = Callable[[float, Callable[[], None]], Any]


class SubprocessTransport:
    """For programs without Qt. Threads read the pipes; callbacks run in `pump`, or where `post` brings them.

    With an event loop of one's own, `post` hands a callback to it from another thread and `later` is its timer.
    """

    def __init__(
        self, events: EventQueue | None = None, *, post: Post | None = None, later: Later | None = None
    ) -> None:
        """Transports that share `events` are pumped together."""
        self._events = events or EventQueue()
        self._has_loop = post is not None
        self._post: Post = post or self._events.post
        self._later = later
        self._listener: Listener | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    @classmethod
    def on_loop(cls, loop: asyncio.AbstractEventLoop | None = None) -> SubprocessTransport:
        """Everything happens on `loop`, by default the running one."""
        import asyncio

        loop = loop or asyncio.get_running_loop()
        return cls(post=loop.call_soon_threadsafe, later=loop.call_later)

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
                **_apart(),
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

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        if self._later is not None:
            return self._later(seconds, callback).cancel
        if not self._has_loop:
            return self._events.call_later(seconds, callback)
        timer = threading.Timer(seconds, self._report, [callback])
        timer.daemon = True
        timer.start()
        return timer.cancel

    def pump(self, seconds: float) -> None:
        if self._has_loop:
            raise RuntimeError("The events of this worker come through an event loop: await the job instead.")
        self._events.pump(seconds)

    def _thread(self, run: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=run, args=arguments, name=f"MAESegment {run.__name__}", daemon=True)
        thread.start()
        return thread

    def _read(self, pipe: IO[bytes], tell: Callable[[bytes], None]) -> None:
        with pipe:
            while data := _read_some(pipe):
                self._report(functools.partial(tell, data))

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
            self._post(callback)
        except RuntimeError:
            return  # the event loop is closed: nobody is left to be told

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


def _apart() -> dict[str, Any]:
    """Options that give the process a group of its own, so that Ctrl+C in a terminal does not reach it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
