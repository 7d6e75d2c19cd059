"""A run's folder says where the run stands, whoever looks and whatever was left half done."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MAESegmentLib.errors import DeviceMemoryError, OutputError, WorkerError
from MAESegmentLib.processes.interpreter import Interpreter
from MAESegmentLib.runs import FineTuneRun, RunRequest, RunResult, RunState, create_run, list_runs, start
from MAESegmentLib.runs.records import CaseChange
from MAESegmentLib.runs.run_folder import LOG, RESULT, STARTED, STATUS, StatusWriter, write_json
from MAESegmentLib.storage.lock import FileLock
from MAESegmentLib.training.run_context import Progress

BASE = {"name": "tiny-mr", "version": "1.0.0", "hash": "0" * 64}
REQUEST = RunRequest(BASE, "/models/tiny-mr/1.0.0", "/cases/tiny-mr", ("case-0001", "case-0002"), settings={"steps": 3})


def result(**changes) -> RunResult:
    values = {
        "model": {**BASE, "version": "1.1.0"},
        "path": "/models/tiny-mr/1.1.0",
        "parent": BASE,
        "cases": 5,
        "how": "4 held-out cases",
        "indicative_only": False,
        "before": {"front": 0.71},
        "after": {"front": 0.83},
        "mean_before": 0.712,
        "mean_after": 0.834,
    }
    return RunResult(**{**values, **changes})


@pytest.fixture
def run(tmp_path: Path) -> FineTuneRun:
    return create_run(tmp_path / "runs", REQUEST)


def say(run: FineTuneRun, **what) -> None:
    write_json(run.path / STATUS, {"stage": "train", "fraction": 0.43, "step": 12, "steps": 30, **what})


def test_a_request_is_read_back_as_it_was_made(run: FineTuneRun) -> None:
    again = FineTuneRun(run.path).request
    assert replace(again, created="") == REQUEST
    assert again.created


def test_runs_are_listed_newest_first_and_nothing_else(tmp_path: Path) -> None:
    first, second = create_run(tmp_path, REQUEST), create_run(tmp_path, REQUEST)
    first = FineTuneRun(first.path.rename(tmp_path / "run-20251231-235959-ffffff"))
    (tmp_path / "run-notes").mkdir()
    (tmp_path / ".run-20260101-000000-abcdef.part").mkdir()
    assert [run.path for run in list_runs(tmp_path)] == [second.path, first.path]
    assert list_runs(tmp_path / "nowhere") == []


def test_a_run_whose_process_is_starting_waits(run: FineTuneRun) -> None:
    write_json(run.path / STARTED, {"time": time.time()})
    os.utime(run.path / STARTED, (1, 1))  # a file server's clock may be far off
    assert run.status().state is RunState.WAITING


def test_a_process_that_never_came_is_an_interruption_with_its_last_words(run: FineTuneRun) -> None:
    write_json(run.path / STARTED, {"time": 0})
    (run.path / LOG).write_text("Traceback\nModuleNotFoundError: No module named 'torch'\n")
    status = run.status()
    assert status.state is RunState.INTERRUPTED
    assert status.error is not None
    assert "No module named 'torch'" in status.error.message


def test_who_has_the_lock_is_at_work(run: FineTuneRun) -> None:
    say(run, eta_s=60.0)
    with run.lock:
        status = run.status()
        assert status.state is RunState.RUNNING
        assert status.eta_s == pytest.approx(60.0, abs=5.0)
    assert run.status().state is RunState.INTERRUPTED
    assert "43 %" in run.status().text


def test_looking_does_not_take_the_lock_from_anybody(run: FineTuneRun) -> None:
    assert not run.is_alive
    other = FileLock(run.lock.path)
    assert other.try_acquire()
    assert run.is_alive
    assert run.is_alive
    other.release()
    assert not run.is_alive


def test_a_failure_is_told_as_the_exception_it_was(run: FineTuneRun) -> None:
    say(run, error={"code": "device_memory", "message": "The memory is too small.", "hint": "Close programs."})
    status = run.status()
    assert status.state is RunState.FAILED
    assert isinstance(status.error, DeviceMemoryError)
    assert status.error.hint == "Close programs."


def test_stop_and_discard_are_asked_for_by_files(run: FineTuneRun) -> None:
    with run.lock:
        run.stop_and_keep()
        assert run.status().stop_requested
        run.discard()
        assert run.command == "discard"
        with pytest.raises(WorkerError, match="still running"):
            run.remove()
    assert run.status().state is RunState.DISCARDED


def test_an_interrupted_run_that_is_discarded_is_gone(run: FineTuneRun, tmp_path: Path) -> None:
    say(run)
    run.discard()
    assert not run.path.exists()
    assert not [*(tmp_path / "runs").iterdir()]


def test_going_on_forgets_what_was_asked_and_what_failed(run: FineTuneRun) -> None:
    say(run, error={"code": "output", "message": "The disk is full.", "hint": ""})
    run.stop_and_keep()
    started = []
    run.resume(started.append)
    assert started == [run]
    assert run.command == ""
    assert run.status().state is not RunState.FAILED


def test_a_result_is_the_end(run: FineTuneRun) -> None:
    say(run)
    write_json(run.path / RESULT, result(per_case=(CaseChange("case-0003", 0.8, 0.7),)).to_dict())
    status = run.status()
    assert status.state is RunState.DONE
    assert status.result == result(per_case=(CaseChange("case-0003", 0.8, 0.7),))
    assert run.decision == ""
    run.set_decision("accepted")
    assert FineTuneRun(run.path).decision == "accepted"


@given(cut=st.integers(0, 400))
def test_logs_that_are_being_written_are_read_as_far_as_they_are_whole(tmp_path_factory, cut: int) -> None:
    run = create_run(tmp_path_factory.mktemp("runs"), REQUEST)
    run.work.mkdir()
    log = "step,loss,seconds\n" + "".join(f"{step},{1 / step:.6g},{step}\n" for step in range(1, 20))
    dice = "step,dice front,dice back,dice,score\n2,0.5,nan,0.5,0.5\n4,0.7,0.6,0.65,0.65\n"
    (run.work / "log.csv").write_text(log[:cut])
    (run.work / "validation.csv").write_text(dice[:cut])
    curves = run.curves()
    whole = log[:cut].count("\n")
    assert [step for step, _loss in curves.loss] == list(range(1, max(whole, 1)))
    assert all(set(row) <= {"front", "back", "mean"} for _step, row in curves.dice)
    if cut >= len(dice):
        assert curves.dice == ((2, {"front": 0.5, "mean": 0.5}), (4, {"front": 0.7, "back": 0.6, "mean": 0.65}))


def test_curves_of_folds_are_their_mean(run: FineTuneRun) -> None:
    for number, value in enumerate((0.4, 0.6)):
        fold = run.work / "folds" / f"{number:02d}"
        fold.mkdir(parents=True)
        (fold / "validation.csv").write_text(f"step,dice front,dice,score\n5,{value},{value},{value}\n")
        (fold / "before.json").write_text(json.dumps({"by_label": {"front": value / 2, "mean": value / 2}}))
    curves = run.curves()
    assert curves.dice == ((5, {"front": 0.5, "mean": 0.5}),)
    assert curves.before == pytest.approx({"front": 0.25, "mean": 0.25})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "tiny-mr 1.1.0: mean Dice 0.71 -> 0.83 on 4 held-out cases; no case got worse."),
        (
            {"per_case": (CaseChange("a", 0.8, 0.7), CaseChange("b", 0.6, 0.9))},
            "tiny-mr 1.1.0: mean Dice 0.71 -> 0.83 on 4 held-out cases; 1 case got worse.",
        ),
        (
            {"mean_before": 0.7111, "mean_after": 0.7142, "indicative_only": True},
            "tiny-mr 1.1.0: mean Dice 0.711 -> 0.714 on 4 held-out cases (indicative only); no case got worse.",
        ),
        ({"mean_before": None, "before": None}, "tiny-mr 1.1.0: mean Dice 0.83 on 4 held-out cases."),
        (
            {"mean_before": None, "mean_after": None, "after": None},
            "tiny-mr 1.1.0: trained on 5 cases; nothing was held out, so nothing was measured.",
        ),
    ],
)
def test_the_banner_says_what_was_measured_and_on_what(changes, said: str) -> None:
    assert result(**changes).banner == said


def test_better_is_said_only_of_what_was_measured() -> None:
    assert result().is_better is True
    assert result(mean_after=0.70).is_better is False
    assert result(mean_after=0.7123).is_better is False  # the same
    assert result(mean_before=None).is_better is True  # it could not do this at all
    assert result(mean_after=None).is_better is None


def test_the_share_that_is_done_is_of_the_whole(run: FineTuneRun) -> None:
    writer = StatusWriter(run, steps=40)
    shares = []
    for progress in (Progress("prepare", 1.0), Progress("before", 0.0), Progress("train", 0.25, step=10)):
        writer(progress)
        shares.append(run.status().fraction)
    assert shares == [0.0, 0.0, 0.25]


def test_rounds_that_are_to_come_are_named(run: FineTuneRun) -> None:
    writer = StatusWriter(run, steps=150)
    said = []
    for fold in (None, (0, 3), (2, 3)):
        writer(Progress("train", 0.22, step=136, fold=fold))
        writer.write()
        written = json.loads((run.path / "status.json").read_text())
        said.append((written["text"], written["fold"]))
    assert said == [
        ("Training, step 136 of 150", None),
        ("Training, step 136 of 150; 3 rounds of leave-one-out follow", None),
        ("Leave-one-out 2 of 3: training, step 136 of 150", [2, 3]),
    ]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(OutputError, match="runs"):
        create_run(tmp_path / "runs", REQUEST)


def test_a_python_that_does_not_exist_is_named(run: FineTuneRun) -> None:
    with pytest.raises(WorkerError, match="no-such-python"):
        start(run, Interpreter(run.path / "no-such-python", "a test"), dict(os.environ))
