"""One warm worker per Slicer, which ends with it, and whose Python a user can choose."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from Testing.processes import is_alive


@pytest.fixture
def session_code(plugin):
    return plugin("session")


def test_all_logics_share_one_session(session_code):
    try:
        assert session_code.shared_session() is session_code.shared_session()
    finally:
        session_code.close_shared_session()


def test_closing_makes_room_for_a_new_session(session_code):
    first = session_code.shared_session()
    session_code.close_shared_session()
    second = session_code.shared_session()
    session_code.close_shared_session()
    assert first is not second


def test_nothing_starts_before_it_is_needed(session):
    assert session.client.state.name == "STOPPED"


def test_worker_starts_and_its_devices_are_known(session, process_events_until):
    session.set_python(sys.executable)
    session.client.start()
    process_events_until(lambda: session.client.state.name == "IDLE", 120.0)
    assert session.client.devices_known[-1]["name"] == "cpu"
    assert "Starting" in session.log.text()


def test_shutdown_ends_the_process(session, worker_pid, process_events_until):
    session.set_python(sys.executable)
    session.client.start()
    process_events_until(lambda: session.client.state.name == "IDLE", 120.0)
    pid = worker_pid()
    session.shutdown()
    process_events_until(lambda: not is_alive(pid), 10.0)


def test_worker_ends_when_its_client_is_killed(session, worker_pid, transports, process_events_until):
    """As when Slicer crashes: nothing is said to the worker, its input just closes."""
    session.set_python(sys.executable)
    session.client.start()
    process_events_until(lambda: session.client.state.name == "IDLE", 120.0)
    pid = worker_pid()
    (transport,) = transports
    transport.close_input()
    process_events_until(lambda: not is_alive(pid), 10.0)


def test_chosen_python_is_kept_in_the_settings(session, session_code, settings):
    session.set_python(sys.executable)
    assert settings.value(session_code.PYTHON_SETTING) == sys.executable
    assert session.interpreter().path == Path(sys.executable)


def test_variable_names_the_python_if_none_is_chosen(session_code, settings, monkeypatch):
    monkeypatch.setenv("MAESEGMENT_PYTHON", sys.executable)
    interpreter = session_code.Session(settings=settings).interpreter()
    assert interpreter.path == Path(sys.executable)
    assert "MAESEGMENT_PYTHON" in interpreter.origin


def test_chosen_python_that_is_gone_is_said_and_not_replaced(session, tmp_path):
    session.set_python(str(tmp_path / "gone"))
    with pytest.raises(Exception, match="gone") as caught:
        session.interpreter()
    assert caught.value.code == "worker"
    assert caught.value.hint


def test_without_pythonslicer_the_embedded_python_is_found(session, monkeypatch):
    """As in a Slicer that was built from source: sys.executable is empty there."""
    monkeypatch.setattr(sys, "executable", "")
    interpreter = session.interpreter()
    assert interpreter.path.is_file()
    assert "no PythonSlicer" in interpreter.origin


def test_request_with_an_unusable_python_fails_with_the_reason(session, process_events_until, tmp_path):
    session.set_python(str(tmp_path / "gone"))
    job = session.client.devices()
    process_events_until(lambda: job.is_finished, 10.0)
    assert "gone" in job.error.message


def test_working_folder_is_below_slicers_temporary_folder_unless_chosen(session, tmp_path):
    import slicer

    assert session.working_folder == Path(slicer.app.temporaryPath) / "MAESegment"
    session.set_working_folder(str(tmp_path))
    assert session.working_folder == tmp_path
    session.set_working_folder("")
    assert session.working_folder.name == "MAESegment"


def test_scripts_may_set_variables_for_the_worker(session_code, monkeypatch):
    monkeypatch.setenv("MAESEGMENT_MODELS", "/models")
    assert session_code.worker_environment()["MAESEGMENT_MODELS"] == "/models"


def test_restart_gives_a_new_process(session, worker_pid, process_events_until):
    session.set_python(sys.executable)
    session.client.start()
    process_events_until(lambda: session.client.state.name == "IDLE", 120.0)
    first = worker_pid()
    session.restart()
    process_events_until(lambda: session.client.state.name == "IDLE", 120.0)
    assert worker_pid() != first
    process_events_until(lambda: not is_alive(first), 10.0)


def test_transport_reports_a_signal_as_a_negative_code(plugin, launch_python, listener, process_events_until):
    transport = plugin("qt_transport").QProcessTransport()
    transport.start(launch_python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), listener)
    process_events_until(lambda: listener.exits, 20.0)
    assert listener.exits == [(-9, "")]


def test_transport_brings_lines_both_ways(plugin, launch_python, listener, process_events_until):
    transport = plugin("qt_transport").QProcessTransport()
    code = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True); print('e', file=sys.stderr)"
    transport.start(launch_python(code), listener)
    transport.write(b"hello\n")
    process_events_until(lambda: b"HELLO" in listener.output, 20.0)
    transport.close_input()
    process_events_until(lambda: listener.exits, 20.0)
    assert listener.exits == [(0, "")]
    assert b"e" in listener.errors
    transport.write(b"nobody listens\n")


def test_transport_kills_what_the_process_started(plugin, launch_python, listener, process_events_until):
    transport = plugin("qt_transport").QProcessTransport()
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    transport.start(launch_python(code), listener)
    process_events_until(lambda: b"\n" in listener.output, 20.0)
    grandchild = int(listener.output)
    transport.kill(None)
    process_events_until(lambda: listener.exits and not is_alive(grandchild), 20.0)


def test_transport_says_why_a_program_cannot_be_started(plugin, listener, process_events_until):
    from MAESegmentLib.processes.launch import Launch

    transport = plugin("qt_transport").QProcessTransport()
    transport.start(Launch("/nowhere/python", (), {}), listener)
    process_events_until(lambda: listener.exits, 10.0)
    code, reason = listener.exits[0]
    assert code is None
    assert reason.startswith("cannot be started")


def test_pump_returns_as_soon_as_something_happened(plugin, launch_python, listener):
    transport = plugin("qt_transport").QProcessTransport()
    transport.start(launch_python("print('x', flush=True); import time; time.sleep(5)"), listener)
    begun = time.monotonic()
    loop = plugin("qt_event_loop").qt_loop()
    while not listener.output:
        loop.pump(30.0)
    assert time.monotonic() - begun < 5.0
    transport.kill(None)
    while not listener.exits:
        loop.pump(1.0)
