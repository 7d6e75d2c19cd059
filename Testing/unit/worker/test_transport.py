"""Processes through threads and pipes: output, exit codes, the event queue, the whole tree's end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from MAESegmentLib.jobs import AsyncioLoop, QueueLoop
from MAESegmentLib.processes.launch import Launch
from MAESegmentLib.processes.process_tree import descendants, kill_tree
from MAESegmentLib.worker.client.transport import SubprocessTransport
from Testing.processes import is_alive, wait_for_end


class Heard:
    """Everything that was reported, and from which thread."""

    def __init__(self) -> None:
        self.output = b""
        self.errors = b""
        self.exits: list[tuple[int | None, str]] = []
        self.threads: set[threading.Thread] = set()

    def on_output(self, data: bytes) -> None:
        assert not self.exits
        self.threads.add(threading.current_thread())
        self.output += data

    def on_error_output(self, data: bytes) -> None:
        assert not self.exits
        self.threads.add(threading.current_thread())
        self.errors += data

    def on_exit(self, code: int | None, reason: str) -> None:
        self.threads.add(threading.current_thread())
        self.exits.append((code, reason))


def python(script: str, *arguments: str) -> Launch:
    return Launch(sys.executable, ("-c", script, *arguments), dict(os.environ))


def run(launch: Launch, written: bytes = b"") -> Heard:
    loop, transport, heard = start(launch)
    transport.write(written)
    transport.close_input()
    assert loop.wait_until(lambda: heard.exits, 60.0)
    return heard


def start(launch: Launch) -> tuple[QueueLoop, SubprocessTransport, Heard]:
    loop, heard = QueueLoop(), Heard()
    transport = SubprocessTransport(loop)
    transport.start(launch, heard)
    return loop, transport, heard


def test_output_errors_and_exit_code_all_arrive_here():
    script = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data * 2); sys.exit('bye')"
    heard = run(python(script), b"x" * 1_000_000)
    assert heard.output == b"x" * 2_000_000
    assert heard.errors.strip() == b"bye"
    assert heard.exits == [(1, "")]
    assert heard.threads == {threading.current_thread()}


def test_signal_is_a_negative_exit_code():
    heard = run(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert heard.exits == [(-signal.SIGKILL, "")]


def test_program_that_does_not_exist_is_reported_and_does_not_raise(tmp_path):
    heard = run(Launch(str(tmp_path / "nothing"), (), {}))
    assert heard.exits == [(None, "cannot be started: No such file or directory")]


def test_environment_is_exactly_what_was_given():
    heard = run(Launch(sys.executable, ("-c", "import os; print(sorted(os.environ))"), {"ONLY": "this"}))
    assert b"ONLY" in heard.output
    assert b"HOME" not in heard.output


def test_writing_never_blocks_though_nobody_reads():
    loop, transport, heard = start(python("import time; time.sleep(1000)"))
    transport.write(b"x" * 10_000_000)
    transport.kill(None)
    assert loop.wait_until(lambda: heard.exits, 60.0)


def test_writing_and_killing_after_the_end_are_harmless():
    loop, transport, heard = start(python("pass"))
    assert loop.wait_until(lambda: heard.exits, 60.0)
    transport.write(b"x")
    transport.close_input()
    transport.kill(None)


def test_exit_is_reported_though_a_child_holds_the_pipes():
    script = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'],"
        " start_new_session=True); print(child.pid, flush=True)"
    )
    loop, _transport, heard = start(python(script))
    assert loop.wait_until(lambda: heard.exits, 60.0)
    child = int(heard.output)
    assert is_alive(child)
    kill_tree(child)
    wait_for_end([child])


TREE = """
import os, subprocess, sys, time
depth = int(sys.argv[1])
if depth:
    subprocess.Popen([sys.executable, __file__, str(depth - 1)], start_new_session=depth == 1)
print(os.getpid(), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def tree(tmp_path):
    """Ids of a process, its child and its grandchild, which has a session of its own."""
    script = tmp_path / "tree.py"
    script.write_text(TREE)
    root = subprocess.Popen([sys.executable, str(script), "2"], stdout=subprocess.PIPE, start_new_session=True)
    pids = [int(root.stdout.readline()) for _ in range(3)]
    yield root.pid, pids
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    root.stdout.close()
    root.wait()


def test_descendants_are_found(tree):
    root, pids = tree
    assert set(descendants(root)) == set(pids) - {root}


def test_whole_tree_is_killed_whatever_its_groups(tree):
    root, pids = tree
    kill_tree(root)
    wait_for_end(pids)


def test_killing_what_is_gone_is_harmless():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    kill_tree(process.pid)


@pytest.mark.parametrize("pid", [0, -1, 1, pytest.param(os.getpid(), id="own")])
def test_no_killing_of_oneself_or_everything(pid):
    kill_tree(pid)


def test_member_of_this_group_is_killed_alone():
    """A process that Slicer started without a group of its own must not take Slicer with it."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    assert os.getpgid(process.pid) == os.getpgrp()
    kill_tree(process.pid)
    assert process.wait(10) == -signal.SIGKILL


# The event queue -----------------------------------------------------------------------------------------------------


def test_timers_ring_in_order_and_those_forgotten_do_not():
    events, rung = QueueLoop(), []
    events.call_later(0.02, lambda: rung.append("late"))
    forget = events.call_later(0.0, lambda: rung.append("never"))
    events.call_later(0.0, lambda: rung.append("soon"))
    forget()
    end = time.monotonic() + 5
    while len(rung) < 2 and time.monotonic() < end:
        events.pump(0.1)
    assert rung == ["soon", "late"]


def test_timer_may_forget_another_that_is_due():
    events, rung = QueueLoop(), []
    events.call_later(0.0, lambda: forget())
    forget = events.call_later(0.0, lambda: rung.append("no"))
    events.pump(0.01)
    events.pump(0.01)
    assert rung == []


def test_pump_returns_as_soon_as_something_was_done():
    events = QueueLoop()
    events.call_later(0.01, lambda: None)
    begun = time.monotonic()
    events.pump(10.0)
    assert time.monotonic() - begun < 5.0


def test_pump_takes_no_longer_than_asked():
    events = QueueLoop()
    begun = time.monotonic()
    events.pump(0.05)
    assert 0.04 < time.monotonic() - begun < 5.0


def test_one_turn_a_pump():
    events, turns = QueueLoop(), []

    def again() -> None:
        turns.append(1)
        events.call_later(0.0, again)

    events.call_later(0.0, again)
    events.pump(0.1)
    assert len(turns) == 1


def test_failing_callback_loses_no_other():
    events, done = QueueLoop(), []
    events.post(lambda: 1 / 0)
    events.post(lambda: done.append(1))
    with pytest.raises(ZeroDivisionError):
        events.pump(0.0)
    events.pump(0.0)
    assert done == [1]


# Other event loops ---------------------------------------------------------------------------------------------------


def test_waiting_within_the_asyncio_loop_is_refused():
    async def wait() -> None:
        with pytest.raises(RuntimeError, match="await"):
            AsyncioLoop().wait_until(lambda: False)

    asyncio.run(wait())


def test_process_that_outlives_its_loop_is_harmless():
    heard = Heard()

    async def leave() -> SubprocessTransport:
        transport = SubprocessTransport(AsyncioLoop())
        transport.start(python("import sys; sys.stdin.read(); print('late')"), heard)
        return transport

    transport = asyncio.run(leave())
    transport.close_input()
    wait_for_end([transport._process.pid])
    assert heard.exits == []
