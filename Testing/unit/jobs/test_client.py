"""The client against workers that do exactly what the test says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.errors import Cancelled, ConfigurationError, DeviceMemoryError, MAESegmentError, WorkerError
from MAESegmentLib.jobs.client import JobState, WorkerClient, WorkerState
from MAESegmentLib.jobs.protocol import PROTOCOL, Accepted, Error, Hello, Log, Progress, Ready, Result, Segment, Started
from Testing.unit.jobs.fakes import FakeWorld


def states_of(job) -> list[JobState]:
    seen = [job.state]
    job.add_listener(lambda job: seen.append(job.state) if job.state is not seen[-1] else None)
    return seen


# What goes right ----------------------------------------------------------------------------------------------------


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


def test_listener_that_fails_disturbs_nobody(world):
    world.ready()
    job = world.submit()
    told = []
    job.add_listener(lambda _job: 1 / 0)
    job.add_listener(told.append)
    world.worker.answer(job.id)
    assert job.result() == {}
    assert told
    assert "ZeroDivisionError" in world.log_text


def test_client_listener_hears_every_state(world):
    heard = []
    world.client.add_listener(lambda client: heard.append(client.state.name))
    world.ready()
    job = world.submit()
    world.worker.answer(job.id)
    job.result()
    world.client.shutdown()
    assert heard == ["STARTING", "IDLE", "BUSY", "IDLE", "STOPPED"]


def test_result_gives_up_after_its_timeout(world):
    with pytest.raises(TimeoutError):
        world.submit().result(timeout_s=0.01)


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


# What goes wrong ----------------------------------------------------------------------------------------------------


def test_error_of_the_worker_is_raised_with_its_details(world):
    world.ready()
    job = world.submit()
    world.worker.begin(job.id)
    world.worker.say(Error(job.id, "device_memory", "Too little memory.", "Use the CPU.", {"cpu_seconds": 240}))
    with pytest.raises(DeviceMemoryError, match="Too little") as caught:
        job.result()
    assert caught.value.hint == "Use the CPU."
    assert job.details == {"cpu_seconds": 240}
    assert job.state is JobState.FAILED


def test_prepare_that_fails_fails_the_job_and_sends_nothing(world):
    def prepare():
        yield 0.1
        raise WorkerError("disk full")

    cleaned = []
    job = world.submit(prepare=prepare(), cleanup=lambda: cleaned.append(1))
    with pytest.raises(WorkerError, match="disk full"):
        job.result()
    assert world.worker.requested == []
    assert cleaned == [1]


def test_unforeseen_exception_becomes_one_that_a_person_may_meet(world):
    world.ready()
    job = world.submit(finish=lambda data: data["missing"])
    world.worker.answer(job.id)
    with pytest.raises(MAESegmentError, match="KeyError") as caught:
        job.result()
    assert isinstance(caught.value.__cause__, KeyError)


def test_crash_fails_the_running_job_and_says_why(world):
    world.ready()
    job = world.submit()
    world.worker.begin(job.id)
    world.worker.complain("Fatal: something odd\n")
    world.worker.exit(-11)
    with pytest.raises(WorkerError, match="SIGSEGV"):
        job.result()
    assert "something odd" in job.details["log"]
    assert "SIGSEGV" in world.client.last_exit
    assert world.client.state is WorkerState.STOPPED


def test_killed_by_the_system_means_out_of_memory(world):
    world.ready()
    job = world.submit()
    world.worker.begin(job.id)
    world.worker.exit(-9)
    with pytest.raises(WorkerError, match="memory ran out") as caught:
        job.result()
    assert "smaller region" in caught.value.hint


def test_jobs_behind_a_crash_go_to_a_new_worker(world):
    world.ready()
    first, second, third = world.submit(), world.submit(), world.submit(prepare=iter([0.5] * 5))
    world.worker.begin(first.id)
    world.worker.exit(1)
    assert first.state is JobState.FAILED
    assert (second.state, second.position) == (JobState.QUEUED, 0)
    assert len(world.transports) == 2
    world.clock.advance(0)
    world.worker.greet()
    assert world.worker.requested == [second.id, third.id]
    world.worker.answer(second.id)
    world.worker.answer(third.id)
    second.result()
    third.result()


def test_jobs_are_given_up_when_workers_keep_crashing(world):
    jobs = [world.submit() for _ in range(5)]
    for _ in range(10):
        if all(job.is_finished for job in jobs):
            break
        world.worker.greet()
        world.worker.exit(1)
    assert len(world.transports) == 3
    assert {job.state for job in jobs} == {JobState.FAILED}


def test_a_finished_job_renews_the_patience(world):
    jobs = [world.submit() for _ in range(8)]
    for number in range(4):
        world.worker.greet()
        world.worker.answer(jobs[2 * number].id)
        world.clock.advance(0)
        world.worker.begin(jobs[2 * number + 1].id)
        world.worker.exit(1)
    assert [job.state for job in jobs] == [JobState.DONE, JobState.FAILED] * 4


def test_end_before_ready_fails_all_jobs_with_the_last_words(world):
    jobs = [world.submit(), world.submit(prepare=iter([0.5] * 5))]
    world.worker.complain("Traceback\nModuleNotFoundError: No module named 'torch'\n")
    world.worker.exit(1)
    for job in jobs:
        with pytest.raises(WorkerError, match="No module named 'torch'"):
            job.result()
    assert len(world.transports) == 1


def test_what_the_worker_says_about_itself_is_the_reason(world):
    job = world.submit()
    world.worker.say(Hello(1, PROTOCOL, "1", "3"), Error(None, "worker", "torch is missing.", "Install it."))
    world.worker.exit(3)
    with pytest.raises(WorkerError, match="torch is missing") as caught:
        job.result()
    assert caught.value.hint == "Install it."


def test_interpreter_that_cannot_be_started(world):
    job = world.submit()
    world.worker.exit(None, "cannot be started: no such file")
    with pytest.raises(WorkerError, match="no such file"):
        job.result()


def test_interpreter_that_cannot_be_found():
    def launch():
        raise WorkerError("no Python")

    world = FakeWorld()
    client = WorkerClient(lambda: world._transport(), launch)
    job = client.submit(Segment("a", "f", "m"))
    assert not job.is_finished
    with pytest.raises(WorkerError, match="no Python"):
        job.result()
    assert client.state is WorkerState.STOPPED


def test_worker_that_never_gets_ready_is_killed(world):
    job = world.submit()
    world.worker.say(Hello(77, PROTOCOL, "1", "3"))
    world.worker.complain("still importing\n")
    world.clock.advance(119)
    assert not job.is_finished
    world.clock.advance(2)
    assert world.worker.killed == [77]
    with pytest.raises(WorkerError, match="still importing"):
        job.result()


def test_greeting_after_the_kill_gets_the_real_process_killed_too(world):
    world.submit()
    world.clock.advance(121)
    assert world.worker.killed == [None]
    world.worker.say(Hello(77, PROTOCOL, "1", "3"))
    assert world.worker.killed == [None, 77]


def test_worker_that_does_not_take_a_request_is_killed(world):
    world.ready()
    job = world.submit()
    world.clock.advance(16)
    assert world.worker.killed == [4242]
    with pytest.raises(WorkerError, match="does not answer"):
        job.result()


def test_busy_worker_that_gives_signs_of_life_is_not_killed(world):
    world.ready()
    first = world.submit()
    world.worker.begin(first.id)
    second = world.submit()
    for _ in range(10):
        world.clock.advance(10)
        world.worker.say(Progress(first.id, "segment", 0.1))
    assert world.worker.killed == []
    world.worker.say(Result(first.id, {}), Accepted(second.id, 0))
    world.clock.advance(100)
    assert world.worker.killed == []


def test_garbage_is_no_sign_of_life(world):
    world.ready()
    job = world.submit()
    for _ in range(4):
        world.clock.advance(10)
        world.worker.print(b"tick\n")
    assert job.state is JobState.FAILED


def test_time_to_start_does_not_count_as_silence(world):
    job = world.submit()
    world.clock.advance(100)
    world.worker.greet()
    world.clock.advance(14)
    assert job.state is JobState.QUEUED


def test_worker_of_another_version_is_refused(world):
    job = world.submit()
    world.worker.say(Hello(5, PROTOCOL + 1, "9.9", "3"))
    assert world.worker.killed == [5]
    with pytest.raises(WorkerError, match=r"MAESegment 9\.9"):
        job.result()


def test_behind_a_launcher_the_real_process_is_ended_too(world):
    world.ready()
    world.worker.exit(0)
    assert world.worker.killed == [4242]


def test_garbage_on_stdout_is_logged_and_harmless(world):
    world.ready()
    job = world.submit()
    world.worker.print(b'Warning: blah\n\xff\xfe\x00\n[]\n{"type": "progress", "id": "')
    world.worker.print(b'\n{"type": "result"}\n')
    world.worker.answer(job.id, n=1)
    assert job.result() == {"n": 1}
    assert "Warning: blah" in world.log_text


def test_endless_garbage_does_not_fill_the_log(world):
    world.ready()
    for _ in range(1000):
        world.worker.print(b"x" * 5000 + b"\n")
    assert len(world.log) < 60
    assert max(len(text) for _level, text in world.log) < 1000


def test_log_messages_and_stderr_reach_the_log(world):
    world.ready()
    world.worker.say(Log("warning", "The GPU is slow."))
    world.worker.complain("loading\n")
    assert ("warning", "The GPU is slow.") in world.log
    assert ("info", "loading") in world.log


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
types = st.sampled_from(["hello", "ready", "accepted", "started", "progress", "metric", "log", "result", "error", "x"])
names = [
    "id",
    "stage",
    "fraction",
    "eta_s",
    "data",
    "code",
    "message",
    "hint",
    "details",
    "level",
    "text",
    "devices",
    "pid",
]
strange_messages = st.builds(
    lambda kind, values: {**values, "type": kind},
    types,
    st.dictionaries(st.sampled_from(names), json_values | st.just("job-1")),
)


@given(st.lists(st.binary(max_size=30) | strange_messages.map(lambda m: json.dumps(m).encode()), max_size=12))
def test_no_output_whatsoever_upsets_the_client(lines):
    world = FakeWorld()
    job = world.submit()
    for line in lines:
        world.worker.print(line + b"\n")
    if not job.is_finished:
        world.worker.greet()
        world.worker.answer(job.id)
        world.clock.advance(0)
    assert job.is_finished
    world.client.shutdown()


# Cancel and shutdown ------------------------------------------------------------------------------------------------


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


def test_cancel_from_within_a_step_of_its_own(world):
    world.ready()
    jobs = []

    def finish(_data):
        jobs[0].cancel()
        yield 0.5
        return "node"

    jobs.append(world.submit(finish=finish))
    world.worker.answer(jobs[0].id)
    world.clock.advance(0)
    assert jobs[0].state is JobState.CANCELLED


def test_cancelled_raised_by_finish_is_a_cancel(world):
    world.ready()

    def finish(_data):
        raise Cancelled("The scene was closed.")

    job = world.submit(finish=finish)
    world.worker.answer(job.id)
    with pytest.raises(Cancelled, match="scene"):
        job.result()
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
