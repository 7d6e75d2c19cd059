"""Parts of the logic that need neither a scene nor a worker."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest


class FakeLoop:
    """Runs what is to happen later when it is pumped."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        self.later.append(callback)
        return lambda: self.later.remove(callback)

    def pump(self, _seconds: float) -> None:
        for callback in [self.later.pop(0) for _ in range(len(self.later))]:
            callback()


class FakeJob:
    """A segmentation that ends when it is told to."""

    def __init__(self, states) -> None:
        self._states = states
        self.state = states.QUEUED
        self.fraction, self.error, self.cancelled = 0.5, None, False
        self.summary = SimpleNamespace(warnings=("unlike the training scans",))
        self._listeners: list[Callable] = []

    is_finished = property(lambda self: self.state in (self._states.DONE, self._states.FAILED, self._states.CANCELLED))

    def add_listener(self, callback) -> None:
        self._listeners.append(callback)

    def cancel(self) -> None:
        self.cancelled = True

    def result(self):
        return "node"

    def become(self, state, error=None) -> None:
        self.state, self.error = state, error
        for listener in self._listeners:
            listener(self)


@pytest.fixture
def batch(plugin):
    return plugin("batch")


@pytest.fixture
def states(batch):
    return batch.JobState


@pytest.fixture
def run_batch(batch, states):
    """A batch of three fake jobs: (batch, jobs by name, loop)."""

    def make(errors=None):
        jobs = {name: FakeJob(states) for name in "abc"}
        loop = FakeLoop()

        def start(name):
            if errors and name in errors:
                raise errors[name]
            return jobs[name]

        items = [batch.BatchItem(name, lambda name=name: start(name)) for name in jobs]
        running = batch.BatchJob(items, loop)
        loop.pump(0)
        return running, jobs, loop

    return make


def test_next_volume_begins_when_the_one_before_is_over(run_batch, states):
    running, jobs, loop = run_batch()
    assert [row.state for row in running.rows] == [states.PREPARING, states.QUEUED, states.QUEUED]
    jobs["a"].become(states.DONE)
    loop.pump(0)
    assert running.rows[0].segmentation == "node"
    assert running.current is jobs["b"]
    assert running.fraction == pytest.approx(1.5 / 3)


def test_one_that_fails_does_not_stop_the_rest(run_batch, states, plugin):
    error = plugin("processing").NodeError("a is sheared.", "Resample it.")
    running, jobs, loop = run_batch({"a": error, "b": RuntimeError("bug")})
    loop.pump(0)
    loop.pump(0)
    jobs["c"].become(states.DONE)
    loop.pump(0)
    assert [row.state for row in running.rows] == [states.FAILED, states.FAILED, states.DONE]
    assert running.rows[0].message == "a is sheared. Resample it."
    assert "bug" in running.rows[1].message
    assert running.state is states.DONE


def test_warnings_stand_in_the_row(run_batch, states):
    running, jobs, _loop = run_batch()
    jobs["a"].become(states.DONE)
    assert running.rows[0].message == "unlike the training scans"


def test_cancel_stops_this_one_and_begins_no_other(run_batch, states, plugin):
    running, jobs, loop = run_batch()
    running.cancel()
    assert jobs["a"].cancelled
    jobs["a"].become(states.CANCELLED, plugin("processing").Cancelled())
    for _ in range(4):
        loop.pump(0)
    assert [row.state for row in running.rows] == [states.CANCELLED] * 3
    assert running.is_finished
    assert running.state is states.CANCELLED


def test_batch_of_nothing_is_over_at_once(batch):
    loop = FakeLoop()
    running = batch.BatchJob([], loop)
    loop.pump(0)
    assert running.is_finished
    assert running.result() == []


def test_batch_result_waits_no_longer_than_told(run_batch):
    running, _jobs, _loop = run_batch()
    with pytest.raises(TimeoutError):
        running.result(timeout_s=0.01)


def test_listener_that_raises_does_not_stop_the_batch(batch, states):
    loop = FakeLoop()
    job = FakeJob(states)

    def bad(_batch):
        raise ValueError("bug in a script")

    running = batch.BatchJob([batch.BatchItem("a", lambda: job)], loop, bad)
    loop.pump(0)
    job.become(states.DONE)
    loop.pump(0)
    assert running.is_finished


def test_log_keeps_the_latest_lines_and_tells_listeners(plugin):
    log = plugin("log_buffer").LogBuffer(limit=3)
    seen = []
    remove = log.add_listener(seen.append)
    log.add("info", "one\ntwo")
    log.add("warning", "three")
    remove()
    log.add("error", "four")
    assert [line.split()[-1] for line in log.text().splitlines()] == ["two", "three", "four"]
    assert len(seen) == 3
    assert log.text(1).endswith("four")


def test_clock_calls_in_order_of_time_and_forgets(plugin, process_events_until):
    clock = plugin("qt_transport").EventClock()
    calls = []
    clock.call_later(0.05, lambda: calls.append("late"))
    forget = clock.call_later(0.0, lambda: calls.append("forgotten"))
    clock.call_later(0.0, lambda: calls.append("soon"))
    forget()
    process_events_until(lambda: "late" in calls, 5.0)
    assert calls == ["soon", "late"]


def test_call_that_waits_lets_the_other_calls_happen(plugin, process_events_until):
    clock = plugin("qt_transport").EventClock()
    calls = []

    def waits():
        clock.call_later(0.0, lambda: calls.append("inner"))
        while "inner" not in calls:
            clock.pump(0.01)
        calls.append("outer")

    clock.call_later(0.0, waits)
    process_events_until(lambda: "outer" in calls, 5.0)
    assert calls == ["inner", "outer"]


def test_work_aside_keeps_events_coming_and_raises_its_error(plugin):
    transport = plugin("qt_transport")
    clock = transport.event_clock()
    beats = []

    def beat():
        beats.append(1)
        clock.call_later(0.01, beat)

    beat()
    import time

    assert transport.call_aside(lambda: time.sleep(0.2) or 7) == 7
    assert len(beats) > 5
    with pytest.raises(KeyError):
        transport.call_aside(lambda: {}["x"])


def test_home_folder_is_not_in_diagnostics(plugin):
    from pathlib import Path

    home = str(Path.home())
    assert plugin("diagnostics").without_home(f"{home}/models and {home}") == "~/models and ~"
