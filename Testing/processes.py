"""The real worker for tests, and what they ask the operating system about processes (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from MAESegmentLib.jobs import QueueLoop
from MAESegmentLib.processes.interpreter import choose_interpreter, worker_launch
from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.worker.client.client import WorkerClient
from MAESegmentLib.worker.client.transport import SubprocessTransport


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
