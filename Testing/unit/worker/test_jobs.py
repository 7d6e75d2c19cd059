"""Jobs and the generators that they run, on an event loop that goes when it is told to."""

from __future__ import annotations

import threading

import pytest

from MAESegmentLib.errors import Cancelled, MAESegmentError, NodeError
from MAESegmentLib.jobs import Job, JobProgress, JobState, Listeners, Promise, QueueLoop, in_thread
from Testing.unit.worker.fakes import FakeLoop


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


def test_an_operation_is_one_step_a_turn_and_its_return_value_the_result(loop):
    def operation():
        yield 0.5
        yield JobProgress("write", 0.25, 3.0)
        return 7

    job = Job(loop).run(operation())
    seen = []
    job.add_listener(lambda job: seen.append((job.state, job.stage, job.fraction, job.eta_s)))
    assert (job.state, job.fraction) == (JobState.RUNNING, 0.5)
    loop.turn()
    assert seen == [(JobState.RUNNING, "write", 0.25, 3.0)]
    loop.turn()
    assert seen[1:] == [(JobState.DONE, "write", 1.0, None)]
    assert job.result() == 7


def test_what_an_operation_raises_is_the_jobs_error(loop):
    def operation():
        yield None
        raise NodeError("no", problem="sheared")

    job = Job(loop).run(operation())
    with pytest.raises(NodeError, match="no"):
        job.result(5)
    assert (job.state, job.details) == (JobState.FAILED, {"problem": "sheared"})


def test_a_callback_hears_of_a_job_that_ended_in_its_first_step(loop):
    def operation():
        raise NodeError("no")
        yield

    ended = []
    Job(loop).run(operation(), ended.append)
    loop.turn()
    assert [job.state for job in ended] == [JobState.FAILED]


def test_ctrl_c_in_a_step_ends_the_job_and_reaches_who_waits(loop):
    def operation():
        yield None
        raise KeyboardInterrupt

    job = Job(loop).run(operation())
    with pytest.raises(KeyboardInterrupt):
        job.result(5)
    assert job.state is JobState.CANCELLED
    with pytest.raises(Cancelled):
        job.result(5)


def test_unexpected_exception_is_logged_and_becomes_one_for_users(loop, caplog):
    def operation():
        yield None
        raise KeyError("x")

    job = Job(loop).run(operation())
    with pytest.raises(MAESegmentError, match="KeyError"):
        job.result(5)
    assert "KeyError" in caplog.text


def test_jobs_wait_for_promises_and_for_each_other(loop):
    promise: Promise[int] = Promise()

    def inner():
        return (yield promise) + 1

    def outer(job):
        found = yield from job.following(first)
        return found * 2

    first = Job(loop).run(inner())
    second = Job(loop)
    second.run(outer(second))
    first.update(JobState.QUEUED, JobProgress("send", 0.5, position=2))
    assert (second.stage, second.position) == ("send", 2)
    loop.advance(1)
    assert not second.is_finished
    promise.resolve(20)
    assert second.result(5) == 42


def test_error_of_the_awaited_job_may_be_caught(loop):
    def inner():
        yield None
        raise NodeError("no")

    def outer():
        try:
            yield Job(loop).run(inner())
        except NodeError:
            yield None
        return "went on"

    assert Job(loop).run(outer()).result(5) == "went on"


def test_cancel_closes_the_operation_at_once_with_its_reason(loop):
    closed = []

    def operation():
        try:
            while True:
                yield None
        finally:
            closed.append(1)

    job = Job(loop).run(operation())
    job.cancel("The scene was closed.")
    assert (job.state, closed) == (JobState.CANCELLED, [1])
    with pytest.raises(Cancelled, match="scene"):
        job.result()
    loop.advance(1)


def test_cancel_reaches_the_awaited_job_and_waits_for_its_end(loop):
    cancelled = []
    promise: Promise[int] = Promise(lambda: cancelled.append(1))

    def inner():
        yield promise

    first = Job(loop).run(inner())

    def outer():
        yield first

    second = Job(loop).run(outer())
    second.cancel()
    assert cancelled == [1]
    assert second.cancel_requested
    assert not second.is_finished
    promise.resolve(1)
    loop.advance(0)
    assert (first.state, second.state) == (JobState.CANCELLED, JobState.CANCELLED)


def test_operation_may_end_with_a_result_though_it_was_cancelled(loop):
    job = Job(loop)

    def operation():
        try:
            while True:
                yield None
        except Cancelled:
            job.finish("half", JobState.CANCELLED)

    job.run(operation()).cancel()
    assert (job.state, job.result()) == (JobState.CANCELLED, "half")


def test_cancel_in_the_last_step_counts(loop):
    job = Job(loop)

    def operation():
        yield None
        job.cancel()
        return 1

    job.run(operation())
    loop.advance(0)
    assert job.state is JobState.CANCELLED


def test_cleanup_comes_before_listeners_are_notified_and_after_follows(loop):
    order = []

    def operation():
        yield None

    Job(loop).run(
        operation(),
        lambda job: order.append(job.state.value),
        cleanup=lambda: order.append("cleanup"),
        after=lambda: order.append("after"),
    )
    loop.advance(0)
    assert order == ["cleanup", "done", "after"]


def test_a_step_that_waits_lets_other_jobs_go_on():
    loop = QueueLoop()

    def other():
        yield None
        return 1

    def waits():
        yield None
        return second.result(10)

    first = Job(loop)
    second = Job(loop)
    first.run(waits())
    second.run(other())
    assert first.result(10) == 1


def test_work_in_a_thread_keeps_the_loop_going_and_raises_its_error():
    loop = QueueLoop()
    go, turns = threading.Event(), []

    def count() -> None:
        turns.append(1)
        if len(turns) > 3:
            go.set()
        loop.call_later(0.0, count)

    count()

    def operation():
        assert (yield from in_thread(lambda: go.wait(30))) is True
        yield from in_thread(lambda: {}["x"])

    job = Job(loop).run(operation())
    with pytest.raises(MAESegmentError, match="KeyError"):
        job.result(30)
    assert len(turns) > 3
    assert loop.call_aside(lambda: 7) == 7
    with pytest.raises(KeyError):
        loop.call_aside(lambda: {}["x"])


def test_result_waits_no_longer_than_told(loop):
    with pytest.raises(TimeoutError):
        Job(loop).result(0.01)


def test_listeners_are_notified_in_order_whatever_one_raises(caplog):
    heard = []
    listeners: Listeners[int] = Listeners(None, heard.append)
    remove = listeners.add(lambda _value: 1 / 0)
    listeners.add(lambda value: heard.append(-value))
    listeners.notify(1)
    remove()
    listeners.notify(2)
    assert heard == [1, -1, 2, -2]
    assert caplog.text.count("ZeroDivisionError: ") == 1
