"""When the worker's stdin closes it ends, whatever it is doing: nobody else would end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from Testing.processes import RawWorker, wait_for_end

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


@pytest.fixture
def start() -> Iterator[Callable[..., RawWorker]]:
    with ExitStack() as begun:

        def start(make_work: str = "Work") -> RawWorker:
            worker = begun.enter_context(RawWorker("-c", WORK.replace("MAKE_WORK", make_work)))
            worker.until_it_says("hello")
            return worker

        yield start


def leave(worker: RawWorker) -> None:
    worker.process.stdin.close()
    wait_for_end([worker.process.pid], 30.0)


def ask(worker: RawWorker, what: str) -> None:
    worker.tell({"type": "devices", "id": what})


def test_during_the_imports(start):
    leave(start("slow_imports"))


def test_while_idle(start):
    worker = start()
    worker.until_it_says("ready")
    leave(worker)


@pytest.mark.parametrize("what", ["one_long_window", "polite", "busy"])
def test_in_the_middle_of_a_request(start, what):
    worker = start()
    ask(worker, what)
    worker.until_it_says("started")
    leave(worker)


def test_when_nobody_reads_what_it_says(start):
    """A client that was killed: both pipes break at once."""
    worker = start()
    ask(worker, "polite")
    worker.until_it_says("started")
    worker.process.stdout.close()
    leave(worker)


def test_request_before_it_is_ready_is_taken(start):
    """The client may not have waited; an answer shows that it lives."""
    worker = start()
    ask(worker, "quick")
    assert worker.result_of("quick") == {}


def test_python_that_lacks_something_ends_with_its_reason(start):
    worker = start("lacking")
    error = worker.until_it_says("error")
    assert (error["id"], error["code"]) == (None, "worker")
    assert (error["message"], error["hint"]) == ("There is no torch.", "Install it.")
    assert worker.process.wait(30) == 3


def test_failure_nobody_foresaw_ends_it_with_a_traceback(start):
    worker = start("broken_imports")
    assert worker.process.wait(30) == 1
    assert worker.log.splitlines()[-1] == "ImportError: libtorch.so: file too short"
