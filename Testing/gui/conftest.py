"""Fixtures for the Qt side: a stand-in for Slicer, the real module in it, and a user's patience."""

from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from MAESegmentLib.processes.process_tree import descendants
from Testing import slicer_core
from Testing.gui import standin
from Testing.gui.logic_fixtures import *  # noqa: F403
from Testing.gui.looking import Screenshot
from Testing.gui.panel_fixtures import *  # noqa: F403
from Testing.skips import REPOSITORY


@pytest.fixture
def slicer_gui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Slicer's application object; the scene is empty, and what goes wrong in a slot fails the test."""
    # No test stores cases among a user's documents, or meets a user's runs.
    monkeypatch.setenv("MAESEGMENT_CASES", str(tmp_path / "cases of the test"))
    monkeypatch.setenv("MAESEGMENT_RUNS", str(tmp_path / "runs"))
    # Not this test's, e.g. of one that failed, or ended but not waited for.
    others = {*descendants(os.getpid())}
    application = standin.install()
    application.temporaryPath = str(tmp_path)
    standin.Settings.values.clear()
    standin.dialogs.answers.clear()
    standin.dialogs.unexpected.clear()
    import slicer

    slicer.util.selected_modules.clear()
    slicer_core.fresh_scene()
    failures: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: failures.append(error))
    code_before = _own_code()
    with slicer_core.no_vtk_errors():
        yield application
        for name in [name for name in application.moduleManager().modules if name != "SegmentEditor"]:
            standin.unload_module(name)
        slicer_core.fresh_scene()
        left = _children_after(10.0, application, others)
    if sys.modules["MAESegmentLib"] is not code_before["MAESegmentLib"]:
        # The module was loaded again, which executes our code again, as Reload must: other tests would meet two of each
        # class.
        for name in _own_code():
            del sys.modules[name]
        sys.modules.update(code_before)
    assert not left, f"processes left behind: {left}"
    assert not standin.dialogs.unexpected, f"popped up: {standin.dialogs.unexpected}"
    if failures:
        raise failures[0][1]


def _own_code() -> dict[str, Any]:
    own = ("MAESegment", "MAESegmentPlugin", "MAESegmentLib", "MAESegmentSelfTest")
    return {name: code for name, code in sys.modules.items() if name.split(".")[0] in own}


def _children_after(seconds: float, application: Any, others: set[int]) -> set[int]:
    """Child processes that are still there: a worker has a moment to end, a trainer that ended is waited for."""
    from MAESegmentLib.runs.launching import reap

    end = time.monotonic() + seconds
    while (left := {*descendants(os.getpid())} - others) and time.monotonic() < end:
        application.processEvents()
        reap()
        time.sleep(0.01)
    return left


@pytest.fixture
def process_events_until(slicer_gui: Any) -> Callable[..., None]:
    """`process_events_until(condition, timeout)`: as a user who waits; fails after `timeout` seconds."""

    def wait(condition: Callable[[], Any], timeout: float = 60.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"still not so after {timeout:g} s"
            slicer_gui.processEvents()
            time.sleep(0.002)

    return wait


@pytest.fixture
def screenshot(slicer_gui: Any, tmp_path: Path) -> Screenshot:
    """`screenshot(widget, name)` writes a PNG; to MAESEGMENT_SCREENSHOTS if that is set, to be looked at."""
    folder = os.environ.get("MAESEGMENT_SCREENSHOTS")
    return Screenshot(slicer_gui, Path(folder) if folder else tmp_path)


@pytest.fixture
def module(slicer_gui: Any, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ARG001
    """The real module MAESegment, entered, with this Python for the network and a model of its own."""
    monkeypatch.setenv("MAESEGMENT_MODELS", str(models_folder))
    monkeypatch.setenv("MAESEGMENT_PYTHON", sys.executable)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    loaded = standin.load_module(REPOSITORY / "MAESegment", "MAESegment")
    loaded.show()
    return loaded
