"""The worker: one warm process that runs the network, driven by JSON lines (see `protocol`).

`python -m MAESegmentLib.worker` reads requests from stdin, writes events to stdout and ends when stdin closes.
Only the standard library is imported before `Hello` is sent.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import BinaryIO, NoReturn, Protocol

from ...errors import Cancelled, MAESegmentError, WorkerError, expected
from ...version import __version__
from .. import protocol
from ..protocol import REQUESTS, Accepted, Cancel, Error, Hello, Message, Ready, Result, Shutdown

#: After stdin has closed, the current request has this long to stop at its next window.
GRACE_S = 1.0
#: Exit code if this Python lacks a package.
UNSUITABLE = 3


class Channel:
    """Writes events, from the thread that reads requests and from the one that carries them out."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """A client that is gone is not an error: the closed stdin ends the worker. Raises what `encode` raises."""
        line = message.encode()
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(line)
            self._stream.flush()


class Work(Protocol):
    """Carries out the requests; needs torch."""

    def ready(self) -> Ready: ...

    def run(self, request: Message, send: Callable[[Message], None], should_cancel: Callable[[], bool]) -> Result: ...


class Worker:
    """Takes requests in order. `read` runs on a thread of its own, so that it responds even while the network runs."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: deque[Message] = deque()
        self._current: str | None = None
        self._cancelled: set[str] = set()
        self._is_ending = False
        self._change = threading.Condition()

    def run(self, work: Work) -> None:
        """Carry out requests until a `Shutdown`, or until stdin has closed."""
        while (request := self._next()) is not None:
            request_id = str(getattr(request, "id", ""))
            self._channel.send(protocol.Started(request_id))
            outcome = self._do(work, request, request_id)
            with self._change:
                self._current = None
                self._cancelled.discard(request_id)
            self._send(request_id, outcome)

    def read(self, lines: Iterable[bytes]) -> None:
        """Take requests until `lines` end."""
        for line in lines:
            if not line.strip():
                continue
            try:
                self._take(protocol.decode(line, REQUESTS))
            except (ValueError, TypeError) as error:  # TypeError: an id that is not a string
                request_id = getattr(error, "id", None)
                self._channel.send(Error(request_id, "protocol", f"The worker received an unknown request: {error}"))
        self._end_now()

    def _take(self, request: Message) -> None:
        if isinstance(request, Shutdown):
            self._end()
        elif isinstance(request, Cancel):
            self._cancel(request.id)
        else:
            self._accept(request)

    def _accept(self, request: Message) -> None:
        with self._change:
            position = len(self._waiting) + (self._current is not None)
            if self._is_ending:
                self._channel.send(_error(str(getattr(request, "id", "")), Cancelled()))
                return
            self._waiting.append(request)
            # Before it can start: `started` must not overtake `accepted`.
            self._channel.send(Accepted(str(getattr(request, "id", "")), position))
            self._change.notify_all()

    def _cancel(self, request_id: str) -> None:
        with self._change:
            if request_id == self._current:
                self._cancelled.add(request_id)
                return
            left = [request for request in self._waiting if getattr(request, "id", None) != request_id]
            was_waiting = len(left) < len(self._waiting)
            self._waiting = deque(left)
        if was_waiting:
            self._channel.send(_error(request_id, Cancelled()))

    def _end(self) -> None:
        """After the current request, which its client may still cancel."""
        with self._change:
            waiting, self._waiting = self._waiting, deque()
            self._is_ending = True
            for request in waiting:
                self._channel.send(_error(str(getattr(request, "id", "")), Cancelled()))
            self._change.notify_all()

    def _end_now(self) -> None:
        """The client is gone. A window may take long: it is not waited for."""
        with self._change:
            self._is_ending = True
            self._waiting.clear()
            if self._current is not None:
                self._cancelled.add(self._current)
            self._change.notify_all()
        time.sleep(GRACE_S)
        os._exit(0)

    def _next(self) -> Message | None:
        with self._change:
            self._change.wait_for(lambda: bool(self._waiting) or self._is_ending)
            if not self._waiting:
                return None
            request = self._waiting.popleft()
            self._current = str(getattr(request, "id", ""))
            return request

    def _send(self, request_id: str, outcome: Message) -> None:
        try:
            self._channel.send(outcome)
        except (TypeError, ValueError) as error:  # what JSON cannot hold; silence would leave the client waiting
            self._channel.send(_failed(request_id, error))

    def _do(self, work: Work, request: Message, request_id: str) -> Message:
        try:
            return work.run(request, self._channel.send, lambda: request_id in self._cancelled)
        except (Exception, SystemExit) as error:
            return _failed(request_id, error)


def _error(request_id: str, error: MAESegmentError) -> Error:
    return Error(request_id, error.code, error.message, error.hint, error.details)


def _failed(request_id: str, error: BaseException) -> Error:
    known = expected(error)
    if known.__cause__ is error and known.code == MAESegmentError.code:
        traceback.print_exception(type(error), error, error.__traceback__)
    return _error(request_id, known)


def main(make_work: Callable[[], Work] | None = None) -> NoReturn:
    """Runs the worker on this process's stdin and stdout; `make_work` does the slow imports."""
    channel = Channel(_take_stdout())
    with contextlib.suppress(AttributeError, OSError):  # no such thing on Windows; or it leads a session already
        os.setsid()
    channel.send(Hello(os.getpid(), protocol.PROTOCOL, __version__, platform.python_version()))
    worker = Worker(channel)
    # Before the imports: they take seconds, and the client may go meanwhile.
    threading.Thread(target=worker.read, args=(sys.stdin.buffer,), daemon=True).start()
    code = 1
    try:
        code = _work_through(worker, channel, make_work or _segmentation)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # Threads of torch and of the reader must not keep the process alive.
        os._exit(code)


def _work_through(worker: Worker, channel: Channel, make_work: Callable[[], Work]) -> int:
    try:
        work = make_work()
    except WorkerError as error:
        channel.send(Error(None, error.code, error.message, error.hint))
        return UNSUITABLE
    channel.send(work.ready())
    worker.run(work)
    return 0


def _segmentation() -> Work:
    """`WorkerError` if this Python lacks something."""
    from ...processes.environment import complaint

    trouble = complaint()
    if trouble is not None:
        raise WorkerError(*trouble)
    from .segmenting import SegmentationWork

    return SegmentationWork()


def _take_stdout() -> BinaryIO:
    """The real stdout, for events alone; whatever prints to stdout from now on, C code included, goes to stderr."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream
