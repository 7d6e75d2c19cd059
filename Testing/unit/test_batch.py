"""Several segmentations in turn, with jobs that end when the test says so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from MAESegmentLib.app.batch import BatchJob, start_batch
from MAESegmentLib.errors import MAESegmentError, NodeError
from MAESegmentLib.jobs import Job, JobProgress, JobState, Promise
from Testing.unit.worker.fakes import FakeLoop


class Segmentation(Job):
    """A segmentation that ends when `promise` is resolved."""

    def __init__(self, loop: FakeLoop, name: str) -> None:
        super().__init__(loop, name)
        self.summary = SimpleNamespace(warnings=("unlike the training scans",))
        self.promise: Promise[str] = Promise(lambda: None)
        self.run(self._wait())

    def _wait(self):
        yield JobProgress("segment", 0.5)
        return (yield self.promise)


class World:
    """A batch of three, whose segmentations are in `jobs` once they have been started."""

    def __init__(self, errors: dict[str, Exception] | None = None) -> None:
        self.loop = FakeLoop()
        self.jobs: dict[str, Segmentation] = {}
        self._errors = errors or {}
        self.seen: list[list[str]] = []
        items = [(name, lambda name=name: self._start(name)) for name in "abc"]
        self.batch = start_batch(items, self.loop, self._on_change)
        self.loop.advance(0)

    def _start(self, name: str) -> Segmentation:
        if name in self._errors:
            raise self._errors[name]
        self.jobs[name] = Segmentation(self.loop, name)
        return self.jobs[name]

    def _on_change(self, batch: BatchJob) -> None:
        self.seen.append([row.state.value for row in batch.rows])
        raise ValueError("a bug in a script disturbs nobody")

    def end(self, name: str) -> None:
        self.jobs[name].promise.resolve(f"node of {name}")
        self.loop.advance(0)

    @property
    def states(self) -> list[JobState]:
        return [row.state for row in self.batch.rows]


def test_next_volume_begins_when_the_one_before_is_over():
    world = World()
    assert world.states == [JobState.RUNNING, JobState.QUEUED, JobState.QUEUED]
    world.end("a")
    assert world.batch.rows[0].segmentation == "node of a"
    assert world.batch.rows[0].message == "unlike the training scans"
    assert world.batch.current is world.jobs["b"]
    assert (world.batch.index, world.batch.fraction) == (1, pytest.approx(1.5 / 3))
    assert ["done", "running", "queued"] in world.seen


def test_one_that_fails_does_not_stop_the_rest():
    world = World({"a": NodeError("a is sheared.", "Resample it."), "b": RuntimeError("bug")})
    world.end("c")
    assert world.states == [JobState.FAILED, JobState.FAILED, JobState.DONE]
    assert world.batch.rows[0].message == "a is sheared. Resample it."
    assert "bug" in world.batch.rows[1].message
    assert world.batch.state is JobState.DONE
    assert world.batch.result() is world.batch.rows
    assert world.batch.index == 3


def test_batch_of_failures_has_failed_but_still_returns_its_rows():
    world = World({name: MAESegmentError("no") for name in "abc"})
    assert world.batch.state is JobState.FAILED
    assert len(world.batch.result()) == 3


def test_cancel_stops_this_one_and_begins_no_other():
    world = World()
    world.batch.cancel()
    assert world.jobs["a"].cancel_requested
    world.end("a")
    assert world.states == [JobState.CANCELLED] * 3
    assert [*world.jobs] == ["a"]
    assert world.batch.state is JobState.CANCELLED


def test_batch_of_nothing_is_over_at_once():
    batch = start_batch([], FakeLoop())
    assert batch.result(5) == []
    assert batch.state is JobState.DONE
