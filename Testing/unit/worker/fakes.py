"""A worker process that exists only in the test, with a clock that goes when it is told to."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable
from typing import Any

from MAESegmentLib.jobs import EventLoop
from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.worker.client.client import WorkerClient
from MAESegmentLib.worker.client.transport import Listener
from MAESegmentLib.worker.protocol import PROTOCOL, Accepted, Hello, Message, Ready, Result, Segment, Started

LAUNCH = Launch("python", (), {})


class FakeLoop(EventLoop):
    """Its clock goes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._due: list[list[Any]] = []
        self._numbers = itertools.count()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        entry = [self.now + seconds, next(self._numbers), callback]
        heapq.heappush(self._due, entry)

        def forget() -> None:
            entry[2] = None

        return forget

    def pump(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let this much time pass and do what is due meanwhile."""
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            when, _number, callback = heapq.heappop(self._due)
            self.now = max(self.now, when)
            if callback is not None:
                callback()
        self.now = end

    def turn(self) -> None:
        """One turn of the event loop: what is due now, not what that makes due."""
        callbacks = []
        while self._due and self._due[0][0] <= self.now:
            callbacks.append(heapq.heappop(self._due))
        for _when, _number, callback in callbacks:
            if callback is not None:
                callback()


class FakeTransport:
    """The test speaks as the worker: `say`, `print`, `exit`. What the client wrote is in `sent`."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.killed: list[int | None] = []
        self.is_input_closed = False
        self.listener: Listener | None = None

    def start(self, _launch: Launch, listener: Listener) -> None:
        self.listener = listener

    def write(self, data: bytes) -> None:
        self.sent.extend(json.loads(line) for line in data.splitlines())

    def close_input(self) -> None:
        self.is_input_closed = True

    def kill(self, pid: int | None) -> None:
        self.killed.append(pid)

    @property
    def requested(self) -> list[str]:
        """Ids of the segmentations it was asked for."""
        return [message["id"] for message in self.sent if message["type"] == "segment"]

    @property
    def cancelled(self) -> list[str]:
        return [message["id"] for message in self.sent if message["type"] == "cancel"]

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.print(message.encode())

    def print(self, data: bytes) -> None:
        assert self.listener is not None
        self.listener.on_output(data)

    def complain(self, text: str) -> None:
        assert self.listener is not None
        self.listener.on_error_output(text.encode())

    def greet(self, pid: int = 4242) -> None:
        self.say(Hello(pid, PROTOCOL, "1.0", "3.12.0"), Ready("2.6", ({"name": "cpu", "title": "CPU"},), 1.0))

    def begin(self, job_id: str) -> None:
        self.say(Accepted(job_id, 0), Started(job_id))

    def answer(self, job_id: str, **data: Any) -> None:
        self.begin(job_id)
        self.say(Result(job_id, data))

    def exit(self, code: int | None = 0, reason: str = "") -> None:
        assert self.listener is not None
        self.listener.on_exit(code, reason)


class FakeWorld:
    """A client whose processes are fakes: `transports` in the order of their start."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeLoop()
        self.transports: list[FakeTransport] = []
        self.log: list[tuple[str, str]] = []
        self.client = WorkerClient(
            self.clock,
            self._transport,
            lambda: LAUNCH,
            log=lambda level, text: self.log.append((level, text)),
            **options,
        )

    def _transport(self) -> FakeTransport:
        self.transports.append(FakeTransport())
        return self.transports[-1]

    @property
    def worker(self) -> FakeTransport:
        """The latest process."""
        return self.transports[-1]

    @property
    def log_text(self) -> str:
        return "\n".join(text for _level, text in self.log)

    def submit(self, **options: Any):
        return self.client.submit(Segment(self.client.new_id(), "folder", "model"), **options)

    def ready(self) -> FakeTransport:
        """A worker that has nothing to do."""
        self.client.start()
        self.worker.greet()
        return self.worker
