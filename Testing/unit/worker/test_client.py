"""The client when all goes well: one worker, jobs in order, steps between events."""

from __future__ import annotations

import pytest

from MAESegmentLib.errors import ConfigurationError
from MAESegmentLib.jobs import JobState
from MAESegmentLib.worker.client.client import WorkerState
from MAESegmentLib.worker.protocol import Accepted, Error, Progress, Result, Segment, Started


def states_of(job) -> list[JobState]:
    seen = [job.state]
    job.add_listener(lambda job: seen.append(job.state) if job.state is not seen[-1] else None)
    return seen


def test_no_process_before_the_first_job(world):
    assert world.client.state is WorkerState.STOPPED
    assert world.transports == []


def test_a_job_starts_the_worker_and_is_sent(world):
    job = world.submit()
    assert world.client.state is WorkerState.STARTING
    assert world.worker.requested == [job.id]
    assert job.state is JobState.QUEUED


def test_states_of_a_job_that_succeeds(world):
    job = world.submit(prepare=iter((0.5,)), finish=lambda data: data["answer"] + 1)
    seen = states_of(job)
    world.clock.advance(0)
    world.worker.greet()
    world.worker.answer(job.id, answer=41)
    assert job.result() == 42
    assert seen == [JobState.PREPARING, JobState.QUEUED, JobState.RUNNING, JobState.DONE]


def test_worker_is_reused(world):
    world.ready()
    for _ in range(3):
        job = world.submit()
        world.worker.answer(job.id)
        job.result()
    assert len(world.transports) == 1
    assert world.client.state is WorkerState.IDLE


def test_devices_of_ready_are_known(world):
    world.ready()
    assert world.client.devices_known == ({"name": "cpu", "title": "CPU"},)


def test_asking_for_devices(world):
    world.ready()
    job = world.client.devices()
    world.worker.say(Accepted(job.id, 0), Result(job.id, {"devices": [{"name": "cuda:0"}]}))
    assert job.result() == [{"name": "cuda:0"}]


def test_progress_reaches_the_job(world):
    world.ready()
    job = world.submit()
    world.worker.begin(job.id)
    world.worker.say(Progress(job.id, "segment", 0.25, 12.0))
    assert (job.stage, job.fraction, job.eta_s, job.position) == ("segment", 0.25, 12.0, 0)


def test_second_job_says_that_it_waits(world):
    world.ready()
    first, second = world.submit(), world.submit()
    world.worker.say(Accepted(first.id, 0), Started(first.id), Accepted(second.id, 1))
    assert (second.state, second.position) == (JobState.QUEUED, 1)
    world.worker.say(Result(first.id, {}))
    first.result()
    assert second.position == 0


def test_preparing_takes_one_step_a_turn(world):
    steps = []

    def prepare():
        for number in (1, 2, 3):
            steps.append(number)
            yield number / 3

    job = world.submit(prepare=prepare())
    assert steps == []
    for number in (1, 2, 3):
        world.clock.turn()
        assert steps[-1] == number
        assert job.progress.stage == "send"
        assert job.fraction == pytest.approx(number / 3)
    assert world.worker.requested == []
    world.clock.turn()
    assert world.worker.requested == [job.id]


def test_finishing_takes_one_step_a_turn(world):
    world.ready()

    def finish(data):
        yield 0.5
        return data["n"]

    job = world.submit(finish=finish)
    world.worker.answer(job.id, n=7)
    world.clock.turn()
    assert not job.is_finished
    world.clock.turn()
    assert job.result() == 7


def test_answer_is_finished_before_the_next_volume_is_sent(world):
    world.ready()
    first = world.submit()
    second = world.submit(prepare=iter([0.1] * 100))
    world.clock.turn()
    world.worker.answer(first.id)
    world.clock.turn()
    assert first.is_finished
    assert second.state is JobState.PREPARING


def test_cleanup_once_after_success_failure_and_cancel(world):
    world.ready()
    cleaned = []
    good, bad, cancelled = (world.submit(cleanup=lambda name=name: cleaned.append(name)) for name in ("g", "b", "c"))
    cancelled.cancel()
    world.worker.answer(good.id)
    world.clock.advance(0)
    world.worker.say(Error(bad.id, "geometry", "no"), Error(cancelled.id, "cancelled", "yes"))
    assert cleaned == ["g", "b", "c"]


def test_client_listener_hears_every_state(world):
    heard = []
    world.client.add_listener(lambda client: heard.append(client.state.name))
    world.ready()
    job = world.submit()
    world.worker.answer(job.id)
    job.result()
    world.client.shutdown()
    assert heard == ["STARTING", "IDLE", "BUSY", "IDLE", "STOPPED"]


def test_request_that_json_cannot_hold_is_refused(world):
    with pytest.raises(ConfigurationError, match="cannot be sent"):
        world.client.submit(Segment("a", "f", "m", roi=(float("nan"),) * 6))


def test_job_may_be_submitted_from_a_listener(world):
    world.ready()
    jobs = []
    first = world.submit()
    first.add_listener(lambda job: jobs.append(world.submit()) if job.is_finished else None)
    world.worker.answer(first.id)
    first.result()
    world.worker.answer(jobs[0].id, n=2)
    assert jobs[0].result() == {"n": 2}
