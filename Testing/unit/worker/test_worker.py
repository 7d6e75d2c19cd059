"""The worker's queue and answers, with work that needs no network."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from MAESegmentLib.errors import BundleError, Cancelled, DeviceMemoryError
from MAESegmentLib.worker.protocol import Cancel, Devices, Message, Ready, Result, Shutdown
from MAESegmentLib.worker.work.serving import Channel, Worker


class ScriptedWork:
    """Does each request by the function that `tasks` has for its id."""

    def __init__(self, **tasks: Callable[..., Any]) -> None:
        self._tasks = tasks

    def ready(self) -> Ready:
        return Ready("0", (), 0.0)

    def run(self, request: Any, send: Callable[[Message], None], should_cancel: Callable[[], bool]) -> Result:
        del send
        data = self._tasks.get(request.id, lambda _cancelled: {})(should_cancel)
        return Result(request.id, data)


class Talk:
    """A worker and what it said."""

    def __init__(self, work: ScriptedWork) -> None:
        self.stream = io.BytesIO()
        self.work = work
        self.worker = Worker(Channel(self.stream))

    @property
    def said(self) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def of(self, request_id: str | None) -> list[str]:
        return [event.get("code", event["type"]) for event in self.said if event.get("id") == request_id]


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)


def raising(error: BaseException) -> Callable[..., Any]:
    def run(_should_cancel: object) -> Any:
        raise error

    return run


def test_shutdown_lets_the_request_under_way_finish_and_cancels_what_waits():
    begun, go_on = threading.Event(), threading.Event()

    def slowly(_should_cancel: object) -> Mapping[str, Any]:
        begun.set()
        assert go_on.wait(10)
        return {"x": 1}

    def lines() -> Iterator[bytes]:
        yield Devices("a").encode()
        assert begun.wait(10)
        yield Devices("b").encode()
        yield Shutdown().encode()
        go_on.set()

    answer = Talk(ScriptedWork(a=slowly))
    finish(answer, lines(), lambda: "result" in answer.of("a"))
    assert answer.of("a") == ["accepted", "started", "result"]
    assert answer.of("b") == ["accepted", "cancelled"]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BundleError("Bad model.", "Get it again."), "bundle", "Bad model."),
        (Cancelled(), "cancelled", "Cancelled."),
        (MemoryError(), "device_memory", "ran out of memory."),
        (MemoryError("Unable to allocate 12.3 GiB for an array"), "device_memory", "12.3 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "device_memory", "9 bytes"),
        (PermissionError(13, "Permission denied", "/data/scan.nii"), "output", "/data/scan.nii: Permission denied."),
        (UnicodeEncodeError("ascii", "Münze", 1, 2, "ordinal not in range"), "output", "cannot be written as ascii"),
        (ZeroDivisionError("division"), "error", "ZeroDivisionError: division"),
        (SystemExit("enough"), "error", "SystemExit: enough"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_failure_is_answered_and_the_next_request_done(error, code, text):
    answer = run_all(ScriptedWork(a=raising(error)), "a", "b")
    assert answer.of("a") == ["accepted", "started", code]
    assert answer.of("b") == ["accepted", "started", "result"]
    assert text in next(event["message"] for event in answer.said if event.get("code") == code)


def test_figures_of_an_offer_travel_with_the_error():
    error = DeviceMemoryError("Too little.", "Smaller.")
    error.details = {"free_bytes": 5e9, "cpu_seconds": 240.0}
    answer = run_all(ScriptedWork(a=raising(error)), "a")
    assert answer.said[-1]["details"] == {"free_bytes": 5e9, "cpu_seconds": 240.0}
    assert answer.said[-1]["hint"] == "Smaller."


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}], ids=["nan", "inf", "object", "set"])
@pytest.mark.parametrize("where", ["result", "details"])
def test_answer_that_json_cannot_hold_is_an_error_and_no_silence(value, where):
    error = BundleError("Bad model.")
    error.details = {"x": value}
    task = raising(error) if where == "details" else lambda _cancelled: {"x": value}
    answer = run_all(ScriptedWork(a=task), "a", "b")
    assert answer.of("a") == ["accepted", "started", "error"]
    assert answer.of("b")[-1] == "result"


def test_cancel_while_it_runs_and_while_it_waits():
    begun = threading.Event()

    def until_cancelled(should_cancel: Callable[[], bool]) -> Any:
        begun.set()
        wait(should_cancel)
        raise Cancelled()

    def lines() -> Iterator[bytes]:
        yield Devices("a").encode()
        assert begun.wait(10)
        yield Devices("b").encode()
        yield Devices("c").encode()
        for request_id in ("b", "never sent", "a"):
            yield Cancel(request_id).encode()

    answer = Talk(ScriptedWork(a=until_cancelled))
    finish(answer, lines(), lambda: "result" in answer.of("c"))
    assert answer.of("b") == ["accepted", "cancelled"]
    assert answer.of("a") == ["accepted", "started", "cancelled"]
    assert answer.of("c") == ["accepted", "started", "result"]
    assert [event["position"] for event in answer.said if event["type"] == "accepted"] == [0, 1, 2]
    assert answer.of("never sent") == []


def test_what_it_does_not_understand_is_answered():
    strange = [b"\n", b"no json\n", b"[]\n", b'{"type": "dance", "id": "x"}\n', b'{"type": "segment"}\n', b"\xff\n"]
    strange += [b"{" * 9000, b'{"type": "segment", "id": "incomplete"}']
    newer = b'{"type": "devices", "id": "a", "a field of the future": 1}'
    answer = Talk(ScriptedWork())
    finish(answer, iter([*strange, newer]), lambda: "result" in answer.of("a"))
    assert answer.of(None) == ["protocol"] * 6
    assert answer.of("incomplete") == ["protocol"]


def test_client_that_is_gone_is_no_error():
    stream = io.BytesIO()
    stream.close()
    Channel(stream).send(Shutdown())


def run_all(work: ScriptedWork, *ids: str) -> Talk:
    """Every request is done, then the worker ends."""
    answer = Talk(work)
    finish(answer, (Devices(one).encode() for one in ids), lambda: all(len(answer.of(one)) > 2 for one in ids))
    return answer


def finish(answer: Talk, lines: Iterator[bytes], is_done: Callable[[], bool]) -> None:
    def then_shutdown() -> Iterator[bytes]:
        yield from lines
        wait(is_done)
        yield Shutdown().encode()
        threading.Event().wait()  # stdin stays open, as with a client that lives

    reader = threading.Thread(target=answer.worker.read, args=(then_shutdown(),), daemon=True)
    reader.start()
    runner = threading.Thread(target=answer.worker.run, args=(answer.work,), daemon=True)
    runner.start()
    runner.join(15)
    assert not runner.is_alive()
    assert is_done()
