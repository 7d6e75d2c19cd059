"""The real worker for tests, and what they ask the operating system about processes (Linux)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from MAESegmentLib.jobs import QueueLoop
from MAESegmentLib.processes.interpreter import choose_interpreter, worker_launch
from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.worker.client.client import WorkerClient
from MAESegmentLib.worker.client.transport import SubprocessTransport
from MAESegmentLib.worker.protocol import EVENTS, LineSplitter, decode

from .skips import REPOSITORY


def real_launch() -> Launch:
    return worker_launch(choose_interpreter(environ={}), {**os.environ, "OMP_NUM_THREADS": "1"})


@contextmanager
def real_worker() -> Iterator[WorkerClient]:
    """A client of the real worker, whose process has ended afterwards."""
    loop = QueueLoop()
    client = WorkerClient(loop, lambda: SubprocessTransport(loop), real_launch)
    try:
        yield client
    finally:
        client.shutdown()
        assert client.wait_until_ended(15.0)


Event = Mapping[str, Any]


class RawWorker:
    """A worker by its lines of JSON, as any other client would drive it; each that it says must be a message.

    `program` are the arguments of Python that run it.
    """

    def __init__(self, *program: str) -> None:
        self._errors = TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *(program or ("-m", "MAESegmentLib.worker"))],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        #: All that it has said so far.
        self.events: list[Event] = []
        self._splitter = LineSplitter()
        self._lines: deque[bytes] = deque()

    def __enter__(self) -> RawWorker:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            stream.close()

    @property
    def log(self) -> str:
        """What it wrote to stderr."""
        return os.pread(self._errors.fileno(), 2**24, 0).decode(errors="replace")

    def tell(self, message: Event | bytes) -> None:
        self.process.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")

    def until(self, condition: Callable[[Event], bool], seconds: float = 120.0) -> Event:
        """The first event from now on that fulfils `condition`."""
        end = time.monotonic() + seconds
        while True:
            while not self._lines:
                assert select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0], self.log
                data = os.read(self.process.stdout.fileno(), 2**16)
                assert data, f"the worker ended: {self.log}"
                self._lines.extend(self._splitter.feed(data))
            line = self._lines.popleft()
            decode(line, EVENTS)
            self.events.append(json.loads(line))
            if condition(self.events[-1]):
                return self.events[-1]

    def until_it_says(self, kind: str) -> Event:
        return self.until(lambda event: event["type"] == kind)

    def end_of(self, request_id: str) -> Event:
        return self.until(lambda event: event["type"] in ("result", "error") and event["id"] == request_id)

    def result_of(self, request_id: str) -> Event:
        event = self.end_of(request_id)
        assert event["type"] == "result", event
        return event["data"]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended but was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rfind(b")") + 1 :].split()[0] != b"Z"


def wait_for_end(pids: Iterable[int], seconds: float = 10.0) -> float:
    """How long it took until none of them lived any more."""
    begun = time.monotonic()
    left = [*pids]
    while left and time.monotonic() < begun + seconds:
        time.sleep(0.01)
        left = [pid for pid in left if is_alive(pid)]
    assert not left, f"still alive after {seconds} s: {left}"
    return time.monotonic() - begun


def wait_until(condition: Callable[[], object], pump: Callable[[float], None], seconds: float = 30.0) -> None:
    """Pump events until `condition()`."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        pump(0.05)
    assert condition()


def open_files(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
