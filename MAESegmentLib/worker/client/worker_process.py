"""One life of a worker process as the client sees it: start, messages, garbage, end and why."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable

from ...errors import MAESegmentError, WorkerError, from_code
from ...jobs.event_loop import EventLoop
from ...processes.exit_reason import describe_exit
from ...processes.launch import Launch
from ..protocol import EVENTS, PROTOCOL, Error, Hello, LineSplitter, Log, Message, Ready, decode
from .transport import Transport

LogLine = Callable[[str, str], None]

_KEPT_LINES = 40
#: Of one process; a worker that prints without end must not fill the log.
_MOST_GARBAGE_LINES = 50
_LONGEST_LOGGED = 500


class WorkerProcess:
    """Started by `start`. After `end_by_force` or `retire` it is silent; `is_gone` says when it has really ended."""

    def __init__(
        self,
        loop: EventLoop,
        transport: Transport,
        on_message: Callable[[Message], None],
        on_end: Callable[[WorkerProcess, MAESegmentError], None],
        log: LogLine,
        *,
        start_timeout_s: float,
    ) -> None:
        """`on_end` is called once it cannot be used any more, unless `retire` was called before; all from the loop."""
        self._loop = loop
        self._transport = transport
        self.is_ready = False
        self.is_gone = False
        #: How many messages have come: a sign of life.
        self.heard = 0
        self._on_message, self._on_end = on_message, on_end
        self._is_silent = False
        self._log = log
        self._start_timeout_s = start_timeout_s
        self._cancel_start_timer: Callable[[], None] = _nothing
        self._cancel_kill_timer: Callable[[], None] = _nothing
        self._program = ""
        self._pid: int | None = None
        self._is_killed = False
        self._complaint: MAESegmentError | None = None
        self._garbage = 0
        self._output = LineSplitter()
        self._errors = LineSplitter()
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)

    @property
    def last_lines(self) -> str:
        """The last of what it wrote to stderr."""
        return "\n".join(self._last_lines)

    def start(self, launch: Callable[[], Launch]) -> None:
        """Never raises and reports nothing before it has returned."""
        try:
            what = launch()
        except MAESegmentError as error:
            self.is_gone = True
            self._loop.call_later(0.0, functools.partial(self._end, error))
            return
        self._program = what.program
        self._cancel_start_timer = self._loop.call_later(self._start_timeout_s, self._on_start_timeout)
        self._transport.start(what, self)

    def send(self, line: bytes) -> None:
        self._transport.write(line)

    def end_by_force(self, error: MAESegmentError) -> None:
        """Kill it and everything it started; the owner gets `error`."""
        self._kill()
        self._end(error)

    def retire(self, grace_s: float) -> None:
        """Close its input, and kill it if it has not ended after `grace_s`. The owner is notified no more."""
        self._is_silent = True
        self._cancel_start_timer()
        self._transport.close_input()
        if not self.is_gone:
            self._cancel_kill_timer = self._loop.call_later(grace_s, self._kill)

    # As a `Listener` --------------------------------------------------------------------------------------------------

    def on_output(self, data: bytes) -> None:
        for line in self._output.feed(data):
            try:
                message = decode(line, EVENTS)
            except ValueError as reason:
                self._on_garbage(line, str(reason))
            else:
                self.heard += 1
                self._take(message, line)

    def on_error_output(self, data: bytes) -> None:
        for line in self._errors.feed(data):
            text = line.decode("utf-8", "replace")[:_LONGEST_LOGGED]
            self._last_lines.append(text)
            self._log("info", text)

    def on_exit(self, code: int | None, reason: str) -> None:
        self.is_gone = True
        self._cancel_kill_timer()
        if self._pid is not None:
            # Behind a launcher only that has ended so far.
            self._transport.kill(self._pid)
        self._end(self._exit_error(code, reason))

    # ------------------------------------------------------------------------------------------------------------------

    def _take(self, message: Message, line: bytes) -> None:
        try:
            if isinstance(message, Hello):
                if self._pid is None:
                    self._on_hello(message)
            elif isinstance(message, Log):
                self._log(str(message.level), str(message.text)[:_LONGEST_LOGGED])
            elif isinstance(message, Error) and message.id is None:
                self._complaint = from_code(str(message.code), str(message.message), str(message.hint))
                self._log("error", self._complaint.message)
            elif not self._is_silent:
                if isinstance(message, Ready):
                    self.is_ready = True
                    self._cancel_start_timer()
                self._on_message(message)
        except (TypeError, ValueError, AttributeError) as error:
            # A message of the right type with wrong contents.
            self._on_garbage(line, f"{type(error).__name__}: {error}")

    def _on_hello(self, hello: Hello) -> None:
        self._pid = int(hello.pid)
        if self._is_killed:
            self._kill()
        elif hello.protocol != PROTOCOL:
            self.end_by_force(
                WorkerError(
                    f"The worker speaks version {hello.protocol} of the protocol, not {PROTOCOL}: its Python has "
                    f"MAESegment {hello.version}.",
                    "Install the same version in both places.",
                )
            )

    def _on_garbage(self, line: bytes, reason: str) -> None:
        self._garbage += 1
        if self._garbage <= _MOST_GARBAGE_LINES:
            text = line[:_LONGEST_LOGGED].decode("utf-8", "replace")
            self._log("warning", f"The worker printed something that is not a message ({reason[:100]}): {text}")
        if self._garbage == _MOST_GARBAGE_LINES:
            self._log("warning", "Further output of this kind is not logged.")

    def _on_start_timeout(self) -> None:
        last = f" Its last line: {self._last_lines[-1]}" if self._last_lines else ""
        self.end_by_force(
            WorkerError(
                f"The worker did not get ready within {self._start_timeout_s:g} s.{last}",
                "Try again; the first start after an installation can be slow. See the log.",
            )
        )

    def _kill(self) -> None:
        self._is_killed = True
        self._transport.kill(self._pid)

    def _exit_error(self, code: int | None, reason: str) -> MAESegmentError:
        if self._complaint is not None:
            return self._complaint
        what, advice = describe_exit(code, reason, self.last_lines)
        if code is None:
            return WorkerError(f"The worker {what} ({self._program}).", advice)
        if self.is_ready or not self._last_lines:
            return WorkerError(f"The worker {what}.", advice)
        return WorkerError(f"The worker {what} before it was ready: {self._last_lines[-1]}", advice)

    def _end(self, error: MAESegmentError) -> None:
        self._cancel_start_timer()
        if not self._is_silent:
            self._is_silent = True
            self._on_end(self, error)


def _nothing() -> None:
    return
