"""One warm worker per Slicer, which ends with it, and whose Python a user can choose; and the event loop it runs on."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from MAESegmentLib.processes.launch import Launch
from Testing.processes import is_alive


@pytest.fixture
def session_code(plugin):
    return plugin("session")


@pytest.fixture
def loop(plugin):
    return plugin("qt_event_loop").qt_loop()


def test_all_logics_share_one_session_until_it_is_closed(session_code):
    first = session_code.shared_session()
    assert session_code.shared_session() is first
    session_code.close_shared_session()
    second = session_code.shared_session()
    session_code.close_shared_session()
    assert first is not second


@pytest.mark.parametrize("input_closes", [False, True], ids=["shut down", "as when Slicer crashes"])
def test_worker_starts_when_it_is_needed_and_ends(
    session, worker_pid, transports, process_events_until, input_closes, tmp_path
):
    session.set_python(sys.executable)
    assert session.client.state.name == "STOPPED"
    session.client.start()
    process_events_until(lambda: session.client.state.name == "IDLE", 300.0)
    assert session.client.devices_known[-1]["name"] == "cpu"
    assert "Starting" in session.log.text()
    pid = worker_pid()
    if input_closes:  # nothing is said to the worker
        transports[-1].close_input()
        process_events_until(lambda: not is_alive(pid), 30.0)
        return
    session.restart()
    process_events_until(lambda: session.client.state.name == "IDLE" and not is_alive(pid), 300.0)
    pid = worker_pid()
    session.set_python(str(tmp_path / "gone"))
    process_events_until(lambda: not is_alive(pid), 30.0)
    job = session.client.devices()
    process_events_until(lambda: job.is_finished, 30.0)
    assert "gone" in job.error.message


def test_chosen_python_is_kept_in_the_settings_and_not_replaced_when_it_is_gone(
    session, session_code, settings, tmp_path
):
    session.set_python(sys.executable)
    assert settings.value(session_code.PYTHON_SETTING) == sys.executable
    assert session.interpreter().path == Path(sys.executable)
    session.set_python(str(tmp_path / "gone"))
    with pytest.raises(Exception, match="gone") as caught:
        session.interpreter()
    assert caught.value.code == "worker"
    assert caught.value.hint


def test_variables_of_a_script_name_the_python_and_reach_the_worker(session_code, settings, monkeypatch):
    monkeypatch.setenv("MAESEGMENT_PYTHON", sys.executable)
    interpreter = session_code.Session(settings=settings).interpreter()
    assert interpreter.path == Path(sys.executable)
    assert "MAESEGMENT_PYTHON" in interpreter.origin
    monkeypatch.setenv("MAESEGMENT_MODELS", "/models")
    assert session_code.worker_environment()["MAESEGMENT_MODELS"] == "/models"


def test_without_pythonslicer_the_embedded_python_is_found(session, monkeypatch):
    """As in a Slicer that was built from source: sys.executable is empty there."""
    monkeypatch.setattr(sys, "executable", "")
    interpreter = session.interpreter()
    assert interpreter.path.is_file()
    assert "no PythonSlicer" in interpreter.origin


def test_working_folder_is_below_slicers_temporary_folder_unless_chosen(session, slicer_gui, tmp_path):
    for chosen, expected in (("", Path(slicer_gui.temporaryPath) / "MAESegment"), (str(tmp_path / "own"),) * 2):
        session.set_working_folder(chosen)
        assert session.working_folder == Path(expected)


# The process ----------------------------------------------------------------------------------------------------------


class Recorder:
    """What a transport reported."""

    def __init__(self):
        self.output = self.errors = b""
        self.exits = []

    def on_output(self, data):
        self.output += data

    def on_error_output(self, data):
        self.errors += data

    def on_exit(self, code, reason):
        self.exits.append((code, reason))


@pytest.fixture
def run(plugin):
    """`run(code)`: a process of this Python; returns its transport and what it reports."""

    def run(code, program=sys.executable):
        transport, recorder = plugin("qt_transport").QProcessTransport(), Recorder()
        transport.start(Launch(program, ("-c", code), dict(os.environ)), recorder)
        return transport, recorder

    return run


def test_lines_go_both_ways(run, process_events_until):
    code = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True); print('e', file=sys.stderr)"
    transport, heard = run(code)
    transport.write(b"hello\n")
    process_events_until(lambda: b"HELLO" in heard.output, 20.0)
    transport.close_input()
    process_events_until(lambda: heard.exits, 20.0)
    assert heard.exits == [(0, "")]
    assert b"e" in heard.errors
    transport.write(b"nobody listens\n")


def test_a_signal_is_a_negative_code_and_what_cannot_be_started_has_a_reason(run, process_events_until):
    _transport, killed = run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    _transport, unknown = run("", program="/nowhere/python")
    process_events_until(lambda: killed.exits and unknown.exits, 20.0)
    assert killed.exits == [(-9, "")]
    ((code, reason),) = unknown.exits
    assert code is None
    assert reason.startswith("cannot be started")


def test_what_the_process_started_is_killed_with_it(run, process_events_until):
    transport, heard = run(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    process_events_until(lambda: b"\n" in heard.output, 20.0)
    transport.kill(None)
    process_events_until(lambda: heard.exits and not is_alive(int(heard.output)), 20.0)


# The event loop -------------------------------------------------------------------------------------------------------


def test_calls_come_in_order_of_time_also_while_one_of_them_waits(loop, process_events_until):
    calls = []

    def waits():
        loop.call_later(0.0, lambda: calls.append("inner"))
        while "inner" not in calls:
            loop.pump(0.01)
        calls.append("outer")

    loop.call_later(0.05, lambda: calls.append("late"))
    forget = loop.call_later(0.0, lambda: calls.append("forgotten"))
    loop.call_later(0.0, waits)
    forget()
    process_events_until(lambda: "late" in calls, 5.0)
    assert calls == ["inner", "outer", "late"]


def test_work_aside_keeps_events_coming_and_raises_its_error(loop):
    happened = threading.Event()
    loop.call_later(0.01, happened.set)
    assert loop.call_aside(lambda: happened.wait(30)), "no event happened meanwhile"
    with pytest.raises(KeyError):
        loop.call_aside(lambda: {}["x"])


def test_pump_returns_as_soon_as_something_happened(run, loop):
    transport, heard = run("print('x', flush=True); import time; time.sleep(1000)")
    while not heard.output:
        loop.pump(300.0)
    transport.kill(None)
    while not heard.exits:
        loop.pump(300.0)


def test_log_keeps_the_latest_lines_and_tells_listeners(plugin):
    log, seen = plugin("session").LogBuffer(limit=3), []
    remove = log.add_listener(seen.append)
    log.add("info", "one\ntwo")
    log.add("warning", "three")
    remove()
    log.add("error", "four")
    assert [line.split()[-1] for line in log.text().splitlines()] == ["two", "three", "four"]
    assert len(seen) == 3
    assert log.text(1).endswith("four")


def test_home_folder_is_not_in_diagnostics(plugin):
    home = str(Path.home())
    assert plugin("diagnostics").without_home(f"{home}/models and {home}") == "~/models and ~"
