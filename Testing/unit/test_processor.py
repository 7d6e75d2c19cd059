"""What a process takes of the processor: the priority of background work, and the cores it may use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from MAESegmentLib.processes import processor
from MAESegmentLib.processes.interpreter import Interpreter, module_launch
from MAESegmentLib.processes.processor import (
    background_threads,
    leave_a_core,
    spin_briefly,
    usable_cores,
    yield_to_others,
)
from Testing.children import become_nobody, fork, wait

_AUTOGROUP = Path("/proc/self/autogroup")


def nice_after(before: int) -> int:
    """The nice value of an ordinary user's process of nice value `before`, once it has given way."""

    def work() -> None:
        become_nobody()
        os.nice(before)
        yield_to_others()
        os._exit(os.getpriority(os.PRIO_PROCESS, 0))

    return wait(fork(work))


@pytest.mark.parametrize(("before", "after"), [(0, 10), (7, 10), (10, 10), (15, 15), (19, 19)])
def test_background_work_lowers_its_priority_and_never_raises_it(before: int, after: int) -> None:
    assert nice_after(before) == after


@pytest.mark.parametrize("before", [os.SCHED_OTHER, os.SCHED_IDLE])
def test_under_nice_19_whoever_wakes_up_comes_first(before: int) -> None:
    """The worker, which inherits nice 19 from Slicer and may not leave it, before the trainer; no class is raised."""

    def work() -> None:
        become_nobody()
        os.nice(19)
        os.sched_setscheduler(0, before, os.sched_param(0))
        yield_to_others()
        assert os.sched_getscheduler(0) == (os.SCHED_BATCH if before == os.SCHED_OTHER else before)

    assert wait(fork(work)) == 0


def test_a_session_of_its_own_gives_way_as_a_whole() -> None:
    """Where Linux weighs sessions ("autogroup"), a nice value alone would change nothing for other sessions."""

    def work() -> None:
        os.setsid()
        yield_to_others()
        if group := _AUTOGROUP.read_text().split() if _AUTOGROUP.exists() else []:
            assert group[-1] == "10"

    assert wait(fork(work)) == 0


def test_a_refusal_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("getpriority", "setpriority", "sched_setscheduler", "getsid"):
        monkeypatch.setattr(os, name, refuse)
    yield_to_others()


@pytest.mark.parametrize("text", [None, "", "\n", "/autogroup-7 nice", "\0"])
def test_a_session_without_a_group_gives_way_by_itself(
    text: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file is absent without "autogroup", and empty in the session that the system (a container) started with."""
    group = tmp_path / "autogroup"
    if text is not None:
        group.write_text(text)
    monkeypatch.setattr(processor, "_AUTOGROUP", group)

    def work() -> None:
        os.setsid()
        yield_to_others()

    assert nice_after(0) == 10
    assert wait(fork(work)) == 0
    assert (group.read_text() if group.exists() else None) == text


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_threads_spin_briefly_unless_the_user_said_how_to_wait(name: str) -> None:
    environment = {"PATH": "/bin"}
    spin_briefly(environment)
    assert environment == {"PATH": "/bin", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
    chosen = {name: "7"}
    spin_briefly(chosen)
    assert chosen == {name: "7"}


def test_every_process_that_computes_is_told_how_to_wait() -> None:
    launch = module_launch(Interpreter(Path(sys.executable), "this"), {"GOMP_CPU_AFFINITY": "0"}, "any.module")
    assert launch.environment["GOMP_SPINCOUNT"] == "1000"
    code = "import os; from MAESegmentLib.cli.main import main; main(['models', 'list']); print(os.environ['{}'])"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}

    def value(variable: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code.format(variable)],
            env={**own, **environment},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()[-1]

    assert value("GOMP_SPINCOUNT") == "1000"
    assert value("GOMP_SPINCOUNT", GOMP_SPINCOUNT="5") == "5"


def test_training_leaves_a_core_to_segmenting(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(processor, "usable_cores", lambda cores=cores: cores)
        environment: dict[str, str] = {}
        leave_a_core(environment)
        assert environment == {"OMP_NUM_THREADS": str(threads)}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_threads_that_the_user_chose_stay(name: str) -> None:
    environment = {name: "3"}
    leave_a_core(environment)
    assert environment == {name: "3"}
    assert background_threads(environment) is None


def test_cores_are_those_of_the_affinity_mask() -> None:
    def work() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        assert usable_cores() == 1

    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert wait(fork(work)) == 0


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_was_set_meanwhile_does_not_take_the_time_of_a_run(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(processor.time, "time", lambda: real() + jump)
    assert -0.1 <= time.perf_counter() - processor.process_began() <= 121.0
