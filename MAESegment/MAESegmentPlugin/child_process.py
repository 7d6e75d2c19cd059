"""A child process that is run to its end, without keeping Slicer waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from MAESegmentLib.jobs import EventLoop
from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.worker.client.transport import Transport


@dataclass(frozen=True)
class ChildResult:
    """`code` is None if it never ran or was stopped; `reason` then says why."""

    code: int | None
    output: str
    error_output: str
    reason: str = ""

    @property
    def last_words(self) -> str:
        """The line that most likely says what went wrong."""
        lines = [line.strip() for line in self.error_output.splitlines() if line.strip()]
        return self.reason or (lines[-1] if lines else f"it ended with exit code {self.code}")


class ChildProcess:
    """Started on construction; `done(result)` is called once, from the event loop."""

    def __init__(
        self,
        loop: EventLoop,
        transport: Transport,
        launch: Launch,
        done: Callable[[ChildResult], None],
        *,
        timeout_s: float = 120.0,
        line: Callable[[str], None] | None = None,
    ) -> None:
        """`line` gets each line of output as it comes."""
        self._loop = loop
        self._transport = transport
        self._done = done
        self._line = line
        self._output = bytearray()
        self._errors = bytearray()
        self._rest = b""
        self._result: ChildResult | None = None
        self._cancel_timeout = loop.call_later(timeout_s, lambda: self.stop(f"no answer within {timeout_s:g} s"))
        transport.start(launch, self)
        transport.close_input()

    @property
    def result(self) -> ChildResult | None:
        return self._result

    def wait(self) -> ChildResult:
        """The result, processing events meanwhile."""
        self._loop.wait_until(lambda: self._result is not None)
        assert self._result is not None
        return self._result

    def stop(self, reason: str = "stopped") -> None:
        """Kill it and what it started."""
        if self._result is None:
            self._transport.kill(None)
            self._end(None, reason)

    def on_output(self, data: bytes) -> None:
        self._output += data
        self._tell(data)

    def on_error_output(self, data: bytes) -> None:
        self._errors += data
        self._tell(data)

    def on_exit(self, code: int | None, reason: str) -> None:
        self._end(code, reason)

    def _tell(self, data: bytes) -> None:
        if self._line is None:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip())

    def _end(self, code: int | None, reason: str) -> None:
        if self._result is not None:
            return
        self._cancel_timeout()
        output, errors = (bytes(part).decode("utf-8", "replace") for part in (self._output, self._errors))
        self._result = ChildResult(code, output, errors, reason)
        self._done(self._result)
