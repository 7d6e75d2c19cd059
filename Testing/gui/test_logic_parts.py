"""Parts of the module that need neither a scene nor a worker: Qt's event loop, the log, diagnostics."""

from __future__ import annotations

import time

import pytest


def test_log_keeps_the_latest_lines_and_tells_listeners(plugin):
    log = plugin("session").LogBuffer(limit=3)
    seen = []
    remove = log.add_listener(seen.append)
    log.add("info", "one\ntwo")
    log.add("warning", "three")
    remove()
    log.add("error", "four")
    assert [line.split()[-1] for line in log.text().splitlines()] == ["two", "three", "four"]
    assert len(seen) == 3
    assert log.text(1).endswith("four")


def test_clock_calls_in_order_of_time_and_forgets(plugin, process_events_until):
    clock = plugin("qt_event_loop").QtLoop()
    calls = []
    clock.call_later(0.05, lambda: calls.append("late"))
    forget = clock.call_later(0.0, lambda: calls.append("forgotten"))
    clock.call_later(0.0, lambda: calls.append("soon"))
    forget()
    process_events_until(lambda: "late" in calls, 5.0)
    assert calls == ["soon", "late"]


def test_call_that_waits_lets_the_other_calls_happen(plugin, process_events_until):
    clock = plugin("qt_event_loop").QtLoop()
    calls = []

    def waits():
        clock.call_later(0.0, lambda: calls.append("inner"))
        while "inner" not in calls:
            clock.pump(0.01)
        calls.append("outer")

    clock.call_later(0.0, waits)
    process_events_until(lambda: "outer" in calls, 5.0)
    assert calls == ["inner", "outer"]


def test_work_aside_keeps_events_coming_and_raises_its_error(plugin):
    loop = plugin("qt_event_loop").qt_loop()
    beats = []

    def beat():
        beats.append(1)
        loop.call_later(0.01, beat)

    beat()
    assert loop.call_aside(lambda: time.sleep(0.2) or 7) == 7
    assert len(beats) > 5
    with pytest.raises(KeyError):
        loop.call_aside(lambda: {}["x"])


def test_home_folder_is_not_in_diagnostics(plugin):
    from pathlib import Path

    home = str(Path.home())
    assert plugin("diagnostics").without_home(f"{home}/models and {home}") == "~/models and ~"
