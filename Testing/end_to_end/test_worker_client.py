"""The client with real processes: small misbehaving ones, then the real worker with a tiny network."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from MAESegmentLib.errors import Cancelled, WorkerError
from MAESegmentLib.jobs import AsyncioLoop, JobState, QueueLoop
from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.processes.process_tree import descendants
from MAESegmentLib.worker.client.client import WorkerClient, WorkerState
from MAESegmentLib.worker.client.requests import submit_segmentation
from MAESegmentLib.worker.client.transport import SubprocessTransport
from MAESegmentLib.worker.job_folder import JobFolder
from MAESegmentLib.worker.protocol import Segment
from Testing.bundles import save_tiny
from Testing.processes import is_alive, open_files, real_launch, resident_bytes, wait_for_end, wait_until
from Testing.scripted_workers import launch_of

LAUNCHERS = ["", "sh", "python"]


class Workplace:
    """Clients whose processes are all ended after the test; `log` is what they said."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.transports: list[SubprocessTransport] = []
        self._clients: list[WorkerClient] = []

    def client(self, launch: Callable[[], Launch], **options) -> WorkerClient:
        loop = QueueLoop()

        def transport() -> SubprocessTransport:
            self.transports.append(SubprocessTransport(loop))
            return self.transports[-1]

        client = WorkerClient(loop, transport, launch, log=lambda _level, text: self.log.append(text), **options)
        self._clients.append(client)
        return client

    def scripted(self, *behaviour: str, through: str = "", **options) -> WorkerClient:
        return self.client(lambda: launch_of(*behaviour, through=through), **options)

    def close(self) -> None:
        for client in self._clients:
            client.shutdown()
        for client in self._clients:
            assert client.wait_until_ended(15.0)


@pytest.fixture
def place() -> Iterator[Workplace]:
    place = Workplace()
    yield place
    place.close()


def submit(client: WorkerClient):
    return client.submit(Segment(client.new_id(), "folder", "model"))


def start(client: WorkerClient) -> int:
    """Wait until it is ready; the id of the real process, which a launcher may have started."""
    client.start()
    wait_until(lambda: client.state is WorkerState.IDLE, client.loop.pump)
    return client._process._pid


def run(client: WorkerClient, job, state: JobState, seconds: float = 30.0) -> None:
    wait_until(lambda: job.state is state or job.is_finished, client.loop.pump, seconds)
    assert job.state is state


# Processes that misbehave --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", LAUNCHERS)
def test_one_warm_process_answers_everything(place, through):
    client = place.scripted("good", through=through)
    assert len({submit(client).result(30)["pid"] for _ in range(20)}) == 1
    assert len(place.transports) == 1


@pytest.mark.parametrize("seed", range(3))
def test_worker_killed_at_random_moments(place, seed):
    """Every job ends, one way or the other, and the client serves the next."""
    dice = random.Random(seed)
    client = place.scripted("slow", "0.1")
    done = failed = 0
    for _ in range(6):
        jobs = [submit(client) for _ in range(dice.randint(1, 3))]
        end = time.monotonic() + dice.uniform(0.0, 0.35)
        while time.monotonic() < end:
            client.loop.pump(0.01)
        process = place.transports[-1]._process
        if process is not None:
            process.send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]))
        for job in jobs:
            wait_until(lambda job=job: job.is_finished, client.loop.pump, 60)
            assert job.state in (JobState.DONE, JobState.FAILED)
            if job.state is JobState.FAILED:
                assert isinstance(job.error, WorkerError)
        done += sum(job.state is JobState.DONE for job in jobs)
        failed += sum(job.state is JobState.FAILED for job in jobs)
    assert done
    assert submit(client).result(60)
    assert "SIG" in client.last_exit


@pytest.mark.parametrize("through", LAUNCHERS)
def test_worker_that_never_says_a_word(place, through):
    client = place.scripted("mute", through=through, start_timeout_s=1.0)
    job = submit(client)
    client.loop.pump(0.5)
    root = place.transports[0]._process.pid
    processes = [root, *descendants(root)]
    with pytest.raises(WorkerError, match="not get ready within 1 s"):
        job.result(30)
    wait_for_end(processes)


@pytest.mark.parametrize("through", LAUNCHERS)
def test_worker_out_of_memory(place, through):
    client = place.scripted("killed_by_system", through=through)
    first, second = submit(client), submit(client)
    with pytest.raises(WorkerError, match="memory") as caught:
        first.result(30)
    assert "smaller region" in caught.value.hint
    with pytest.raises(WorkerError, match="memory"):
        second.result(30)
    assert client.state is WorkerState.STOPPED


def test_waiting_for_a_job_in_the_callback_of_another(place):
    """As a script may do it that segments the next scan when the last one is done."""
    client = place.scripted("slow", "0.1")
    first, answers = submit(client), []

    def go_on(job) -> None:
        if job.is_finished:
            answers.append(submit(client).result(30))

    first.add_listener(go_on)
    first.result(30)
    assert len(answers) == 1


@pytest.mark.parametrize("through", LAUNCHERS)
def test_whole_tree_is_killed_after_the_grace_period(place, through):
    client = place.scripted("with_children", through=through, grace_s=0.5)
    pid = start(client)
    job = submit(client)
    run(client, job, JobState.RUNNING)
    wait_until(lambda: any(text.startswith("children") for text in place.log), client.loop.pump)
    line = next(text for text in place.log if text.startswith("children"))
    children = [int(number) for number in line.split()[1:]]
    assert all(map(is_alive, [pid, *children]))
    job.cancel()
    run(client, job, JobState.CANCELLED, 10)
    wait_for_end([pid, place.transports[0]._process.pid, *children])
    assert client.state is WorkerState.STOPPED


@pytest.mark.parametrize("through", LAUNCHERS)
def test_launcher_that_dies_alone_leaves_nothing_behind(place, through):
    client = place.scripted("ignores_cancel", through=through)
    pid = start(client)
    job = submit(client)
    run(client, job, JobState.RUNNING)
    os.kill(place.transports[0]._process.pid, signal.SIGKILL)
    run(client, job, JobState.FAILED)
    wait_for_end([pid])


def test_children_of_a_crashed_worker_are_ended(place):
    client = place.scripted("with_children")
    pid = start(client)
    wait_until(lambda: any(text.startswith("children") for text in place.log), client.loop.pump)
    line = next(text for text in place.log if text.startswith("children"))
    child, with_own_session = [int(number) for number in line.split()[1:]]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: client.state is WorkerState.STOPPED, client.loop.pump)
    wait_for_end([child])
    os.kill(with_own_session, signal.SIGKILL)  # nothing tells any more whose it was


def test_many_workers_leave_no_files_or_threads_behind(place):
    client = place.scripted("good")
    submit(client).result(30)
    gc.collect()
    files, threads = open_files(os.getpid()), threading.active_count()
    for _ in range(15):
        client.shutdown()
        assert client.wait_until_ended(10)
        submit(client).result(30)
    gc.collect()
    assert open_files(os.getpid()) <= files
    wait_until(lambda: threading.active_count() <= threads, client.loop.pump, 5)


# asyncio -------------------------------------------------------------------------------------------------------------


def test_awaiting_jobs_in_asyncio():
    async def talk():
        loop = AsyncioLoop()
        client = WorkerClient(loop, lambda: SubprocessTransport(loop), lambda: launch_of("slow", "0.1"))
        first, second = submit(client), submit(client)
        answers = await asyncio.wait_for(asyncio.gather(first, second), 30)
        client.shutdown()
        while not client.is_ended:
            await asyncio.sleep(0.01)
        return answers

    first, second = asyncio.run(talk())
    assert first["pid"] == second["pid"]


def test_cancelling_the_asyncio_task_cancels_the_job():
    async def talk():
        loop = AsyncioLoop()
        client = WorkerClient(loop, lambda: SubprocessTransport(loop), lambda: launch_of("slow", "60"))
        job = submit(client)
        task = asyncio.ensure_future(_outcome(job))
        while job.state is not JobState.RUNNING:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(Cancelled):
            await job
        client.shutdown()
        return job

    assert asyncio.run(talk()).state is JobState.CANCELLED


async def _outcome(job):
    return await job


# The real worker -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-mr")


def volume_of(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 500, (size, size, size)).astype(np.int16)


def segment(client: WorkerClient, model, folder: Path, channels: Sequence[np.ndarray] | None = None, **options):
    """A job whose result is the worker's answer with the block of labels."""

    def finish(data, job_folder: JobFolder):
        block, origin = job_folder.read_labels(data["labels"])
        return {**data, "block": np.array(block), "origin": origin}

    options = {"settings": {"device": "cpu", "check_familiarity": False}, **options}
    return submit_segmentation(
        client,
        channels or [volume_of(24)],
        np.eye(4),
        model=model,
        working_folder=folder,
        finish=finish,
        **options,
    )


@pytest.fixture
def client(place) -> WorkerClient:
    return place.client(real_launch)


def test_real_worker_segments_and_leaves_no_folder(client, model, tmp_path):
    job = segment(client, model, tmp_path)
    stages = []
    job.add_listener(lambda job: stages.append(job.stage) if job.stage not in stages else None)
    answer = job.result(120)
    assert answer["labels"]["shape_ijk"] == [24, 24, 24]
    assert answer["block"].dtype == np.uint8
    assert stages[0] == "send"
    assert "segment" in stages
    assert client.devices_known[-1]["name"] == "cpu"
    assert [*tmp_path.iterdir()] == []


def test_real_worker_killed_in_the_middle(client, model, tmp_path):
    job, behind = segment(client, model, tmp_path, [volume_of(160)]), segment(client, model, tmp_path)
    wait_until(lambda: job.stage == "segment", client.loop.pump, 120)
    os.kill(client._process._pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="memory ran out"):
        job.result(30)
    assert behind.result(120)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_real_worker_killed_at_a_random_moment(client, model, tmp_path, seed):
    """Of its start or of its work: each job ends, and the next one is done."""
    dice = random.Random(seed)
    jobs = [segment(client, model, tmp_path, [volume_of(64)]) for _ in range(2)]
    end = time.monotonic() + dice.uniform(0.0, 2.5)
    while time.monotonic() < end:
        client.loop.pump(0.01)
    client._process._transport._process.kill()
    for job in jobs:
        wait_until(lambda job=job: job.is_finished, client.loop.pump, 120)
    assert segment(client, model, tmp_path).result(120)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_many_requests_without_leak(client, model, tmp_path):
    volume = volume_of(24)

    def many(count: int) -> None:
        for _ in range(count):
            segment(client, model, tmp_path, [volume]).result(120)

    many(20)
    pid = client._process._pid
    gc.collect()
    before = [(open_files(process), resident_bytes(process)) for process in (os.getpid(), pid)]
    many(80)
    gc.collect()
    after = [(open_files(process), resident_bytes(process)) for process in (os.getpid(), pid)]
    for (files, memory), (files_then, memory_then) in zip(after, before, strict=True):
        assert files <= files_then
        assert memory - memory_then < 30 * 2**20
    assert client._process._pid == pid
    assert client._exchanges == {}
    assert [*tmp_path.iterdir()] == []


ORPHAN = """
import sys
from pathlib import Path
from MAESegmentLib.jobs import QueueLoop
from MAESegmentLib.worker.client.client import WorkerClient
from MAESegmentLib.worker.protocol import Segment
from MAESegmentLib.worker.client.transport import SubprocessTransport
from Testing.end_to_end.test_worker_client import segment, start, volume_of
from Testing.processes import real_launch
from Testing.scripted_workers import launch_of
from MAESegmentLib.bundle import open_bundle

through, model, folder = sys.argv[1:]
launch = real_launch()
if through:
    wrapper = launch_of("good", through=through)
    inner = (launch.program, *launch.arguments)
    cut = len(wrapper.arguments) - 3
    launch = type(launch)(wrapper.program, (*wrapper.arguments[:cut], *inner), launch.environment)
loop = QueueLoop()
client = WorkerClient(loop, lambda: SubprocessTransport(loop), lambda: launch)
print(start(client), client._process._transport._process.pid, flush=True)
job = segment(client, open_bundle(Path(model)), Path(folder), [volume_of(160)])
while job.stage != "segment":
    client.loop.pump(0.05)
print("running", flush=True)
while True:
    client.loop.pump(1.0)
"""


@pytest.mark.parametrize("through", LAUNCHERS[:2])
def test_no_orphan_after_the_client_is_killed(model, tmp_path, through):
    script = tmp_path / "client.py"
    script.write_text(ORPHAN)
    process = subprocess.Popen(
        [sys.executable, str(script), through, str(model.path), str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert process.stdout.readline() == "running\n"
    assert all(map(is_alive, pids))
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_for_end(pids, 10.0) < 5.0
