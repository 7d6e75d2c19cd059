"""The client when something goes wrong: each reason is said, and other jobs go on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.errors import DeviceMemoryError, WorkerError
from MAESegmentLib.jobs import JobState
from MAESegmentLib.worker.client.client import WorkerClient, WorkerState
from MAESegmentLib.worker.protocol import PROTOCOL, Accepted, Error, Hello, Log, Progress, Result, Segment
from Testing.unit.worker.fakes import FakeWorld


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
    client = WorkerClient(world.clock, world._transport, launch)
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
    with pytest.raises(WorkerError, match="does not respond"):
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
types = st.sampled_from(["hello", "ready", "accepted", "started", "progress", "log", "result", "error", "x"])
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
