"""Cancelling jobs and ending the worker."""

from __future__ import annotations

import pytest

from MAESegmentLib.errors import Cancelled
from MAESegmentLib.jobs import JobState
from MAESegmentLib.worker.client.client import WorkerState
from MAESegmentLib.worker.protocol import Accepted, Error, Ready, Result, Started


def test_cancel_while_preparing_is_immediate_and_closes_the_iterator(world):
    closed = []

    def prepare():
        try:
            while True:
                yield 0.1
        finally:
            closed.append(True)

    job = world.submit(prepare=prepare())
    world.clock.turn()
    job.cancel()
    assert job.state is JobState.CANCELLED
    assert closed == [True]
    world.clock.advance(1)
    assert world.worker.requested == []


def test_cancel_of_the_running_job_waits_for_the_worker(world):
    world.ready()
    job = world.submit()
    world.worker.begin(job.id)
    job.cancel()
    assert job.cancel_requested
    assert not job.is_finished
    assert world.worker.cancelled == [job.id]
    world.worker.say(Error(job.id, "cancelled", "Cancelled."))
    with pytest.raises(Cancelled):
        job.result()
    assert world.client.state is WorkerState.IDLE


def test_result_that_crosses_the_cancel_is_not_delivered(world):
    world.ready()
    finished = []
    job = world.submit(finish=finished.append)
    world.worker.begin(job.id)
    job.cancel()
    world.worker.say(Result(job.id, {}))
    world.clock.advance(0)
    assert job.state is JobState.CANCELLED
    assert finished == []


def test_cancel_of_a_waiting_job_is_immediate_and_leaves_the_running_one_alone(world):
    world.ready()
    cleaned = []
    first, second = world.submit(), world.submit(cleanup=lambda: cleaned.append(2))
    world.worker.begin(first.id)
    world.worker.say(Accepted(second.id, 1))
    second.cancel()
    assert second.state is JobState.CANCELLED
    world.clock.advance(60)
    assert world.worker.killed == []
    assert cleaned == []  # the worker may still look at its files
    world.worker.say(Result(first.id, {}), Error(second.id, "cancelled", "Cancelled."))
    assert first.result() == {}
    assert cleaned == [2]


def test_job_that_was_cancelled_while_waiting_but_starts_all_the_same_has_the_grace_period(world):
    world.ready()
    job = world.submit()
    world.worker.say(Accepted(job.id, 0))
    job.cancel()
    world.worker.say(Started(job.id))
    world.clock.advance(6)
    assert world.worker.killed == [4242]


def test_worker_that_ignores_a_cancel_is_killed_and_the_next_job_goes_on(world):
    world.ready()
    first, second = world.submit(), world.submit()
    world.worker.begin(first.id)
    world.worker.say(Accepted(second.id, 1))
    first.cancel()
    world.clock.advance(4.9)
    assert not first.is_finished
    world.clock.advance(0.2)
    assert world.transports[0].killed == [4242]
    assert first.state is JobState.CANCELLED
    assert world.client.last_exit == ""
    world.worker.greet()
    world.worker.answer(second.id)
    assert second.result() == {}


def test_cancel_while_finishing(world):
    world.ready()
    job = world.submit(finish=lambda _data: (part for part in [0.1] * 10))
    world.worker.answer(job.id)
    world.clock.turn()
    job.cancel()
    world.clock.advance(1)
    assert job.state is JobState.CANCELLED


def test_cancel_after_the_end_does_nothing(world):
    world.ready()
    job = world.submit()
    world.worker.answer(job.id)
    job.result()
    job.cancel()
    assert job.state is JobState.DONE
    assert world.worker.cancelled == []


def test_crash_after_a_cancel_is_a_cancel(world):
    world.ready()
    job = world.submit()
    world.worker.begin(job.id)
    job.cancel()
    world.worker.exit(-9)
    assert job.state is JobState.CANCELLED


def test_shutdown_closes_the_input_and_cancels_everything(world):
    world.ready()
    jobs = [world.submit(), world.submit(), world.submit(prepare=iter([0.1] * 5))]
    world.worker.begin(jobs[0].id)
    world.client.shutdown()
    assert world.worker.is_input_closed
    assert world.client.state is WorkerState.STOPPED
    assert {job.state for job in jobs} == {JobState.CANCELLED}
    world.worker.exit(0)
    world.clock.advance(60)
    assert world.client.is_ended
    assert len(world.transports) == 1


def test_shutdown_kills_what_does_not_end(world):
    worker = world.ready()
    world.client.shutdown()
    assert not world.client.is_ended
    world.clock.advance(6)
    assert worker.killed == [4242]


def test_new_worker_after_shutdown(world):
    old = world.ready()
    world.client.shutdown()
    job = world.submit()
    assert world.worker is not old
    old.exit(0)
    world.worker.greet()
    world.worker.answer(job.id)
    assert job.result() == {}


def test_preparing_goes_on_after_a_shutdown_in_its_middle(world):
    world.submit(prepare=iter([0.1] * 5))
    world.client.shutdown()
    job = world.submit(prepare=iter([0.1] * 5))
    world.clock.advance(0)
    assert world.worker.requested == [job.id]


def test_idle_worker_that_dies_is_replaced_by_the_next_job(world):
    world.ready()
    world.worker.exit(-15)
    assert world.client.state is WorkerState.STOPPED
    assert "SIGTERM" in world.client.last_exit
    job = world.submit()
    world.worker.greet()
    world.worker.answer(job.id)
    job.result()
    assert len(world.transports) == 2


def test_ready_again_and_again_is_harmless(world):
    world.ready()
    world.worker.say(Ready("2.6", (), 1.0))
    assert world.client.state is WorkerState.IDLE
