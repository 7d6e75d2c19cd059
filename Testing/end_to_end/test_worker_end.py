"""When the worker's stdin closes it ends, whatever it is doing: nobody else would end it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from MAESegmentLib.worker import protocol
from MAESegmentLib.worker.protocol import EVENTS, Devices, Error, Hello, Message, Ready, Result, Started
from Testing.processes import wait_for_end

ROOT = Path(__file__).parents[2]

#: The worker with work that behaves as its requests are called.
WORK = """
import os, subprocess, sys, time
from MAESegmentLib.errors import WorkerError
from MAESegmentLib.worker.protocol import Ready, Result
from MAESegmentLib.worker.work.serving import main


class Work:
    def ready(self):
        return Ready("0", (), 0.0)

    def run(self, request, send, should_cancel):
        return getattr(self, request.id)(request, should_cancel)

    def quick(self, request, should_cancel):
        return Result(request.id, {})

    def one_long_window(self, request, should_cancel):
        time.sleep(600)

    def polite(self, request, should_cancel):
        while not should_cancel():
            time.sleep(0.01)
        raise RuntimeError("asked to stop")

    def busy(self, request, should_cancel):
        while True:
            pass


def slow_imports():
    time.sleep(600)


def broken_imports():
    raise ImportError("libtorch.so: file too short")


def lacking():
    raise WorkerError("There is no torch.", "Install it.")


main(MAKE_WORK)
"""


class Talk:
    def __init__(self, make_work: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORK.replace("MAKE_WORK", make_work)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def hear(self) -> Message:
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read().decode()
        return protocol.decode(line, EVENTS)

    def hear_until(self, kind: type[Message]) -> Message:
        while not isinstance(message := self.hear(), kind):
            pass
        return message

    def tell(self, message: Message) -> None:
        self.process.stdin.write(message.encode())
        self.process.stdin.flush()

    def leave(self) -> None:
        self.process.stdin.close()
        wait_for_end([self.process.pid], 30.0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


@pytest.fixture
def talk() -> Iterator[Callable[..., Talk]]:
    begun: list[Talk] = []

    def start(make_work: str = "Work") -> Talk:
        begun.append(Talk(make_work))
        assert isinstance(begun[-1].hear(), Hello)
        return begun[-1]

    yield start
    for one in begun:
        one.close()


def test_during_the_imports(talk):
    talk("slow_imports").leave()


def test_while_idle(talk):
    worker = talk()
    worker.hear_until(Ready)
    worker.leave()


@pytest.mark.parametrize("what", ["one_long_window", "polite", "busy"])
def test_in_the_middle_of_a_request(talk, what):
    worker = talk()
    worker.tell(Devices(what))
    worker.hear_until(Started)
    worker.leave()


def test_when_nobody_reads_what_it_says(talk):
    """A client that was killed: both pipes break at once."""
    worker = talk()
    worker.tell(Devices("polite"))
    worker.hear_until(Started)
    worker.process.stdout.close()
    worker.leave()


def test_request_before_it_is_ready_is_taken(talk):
    """The client may not have waited; an answer shows that it lives."""
    worker = talk()
    worker.tell(Devices("quick"))
    assert isinstance(worker.hear_until(Result), Result)


def test_python_that_lacks_something_ends_with_its_reason(talk):
    worker = talk("lacking")
    error = worker.hear_until(Error)
    assert (error.id, error.code, error.message, error.hint) == (None, "worker", "There is no torch.", "Install it.")
    assert worker.process.wait(30) == 3


def test_failure_nobody_foresaw_ends_it_with_a_traceback(talk):
    worker = talk("broken_imports")
    assert worker.process.wait(30) == 1
    assert worker.process.stderr.read().decode().splitlines()[-1] == "ImportError: libtorch.so: file too short"
