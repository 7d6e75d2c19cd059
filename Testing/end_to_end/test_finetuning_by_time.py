"""Fine-tuning by time in its own process: stopped and killed at any moment, alone and in a team, from the shell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cli.main import main
from MAESegmentLib.runs import FineTuneRun, RunState, launching
from MAESegmentLib.runs.run_folder import CONTROL, END, STOP
from MAESegmentLib.training.loop.checkpoint import CHECKPOINT
from MAESegmentLib.training.loop.runlog import read_log
from Testing.datasets import write_dataset
from Testing.finetuning import Clinic, kill_trainer, launch, make_clinic, wait_for_end, wait_until
from Testing.teams import process_of_rank, torchrun, wait_for

#: So long that it ends only because it is told to.
LONG = {"minutes": 30.0, "learning_rate": 1e-3, "device": "cpu", "threads": 1}
SHORT = ["--minutes", "0.25", "--device", "cpu", "--precision", "fp32", "--threads", "1"]


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return make_clinic(tmp_path)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "_TRAINER", "Testing.hasty")


def rates(run: FineTuneRun) -> list[float]:
    return [row["learning_rate"] for row in read_log(run.work / "log.csv")]


@pytest.mark.usefixtures("hasty")
def test_a_killed_run_resumes_its_plan_and_a_stop_anneals_it(clinic: Clinic) -> None:
    run = clinic.start(clinic.request(check=["case-0003"], settings=LONG))
    wait_until(run, (run.work / CHECKPOINT).exists)
    kill_trainer(run)
    kept = torch.load(run.work / CHECKPOINT, weights_only=True)
    spent = json.loads((run.work / "time.json").read_text())["spent_s"]
    assert kept["schedule"]["deadline"] == pytest.approx(1800.0, rel=0.02)
    assert kept["schedule"]["decay_from"] is None
    assert run.status().state is RunState.INTERRUPTED
    launch(run)
    wait_until(run, lambda: run.is_alive and run.status().step > kept["step"])
    status = run.status()
    assert status.eta_s is not None
    assert status.eta_s < 1800.0 - spent
    run.stop_and_keep()
    wait_for_end(run)
    result = run.status().outcome()
    assert not result.indicative_only  # the last weights, not the best on the case that they are measured on
    assert "about" not in result.banner
    annealed = read_log(run.work / "log.csv")[-1]
    assert annealed["step"] <= 1.2 * kept["step"] + 100
    assert annealed["learning_rate"] < 0.1 * max(rates(run))
    training = clinic.models.find(f"tiny-mr@{result.model['version']}").metadata["maesegment"]["training"]
    assert training["stopped_early"]


def test_a_run_that_is_stopped_before_its_first_step_leaves_a_version(clinic: Clinic) -> None:
    run = clinic.start(clinic.request(settings=LONG))
    run.stop_and_keep()
    wait_for_end(run)
    assert run.status().outcome().how == "nothing was held out"
    assert len(clinic.models.list()) == 2


def test_a_second_stop_is_another_wish_than_the_second_half_of_a_double_click(tmp_path: Path) -> None:
    run = FineTuneRun(tmp_path)
    run.stop_and_keep()
    run.stop_and_keep()
    assert run.command == STOP
    long_ago = (tmp_path / CONTROL).stat().st_mtime - 60
    os.utime(tmp_path / CONTROL, (long_ago, long_ago))
    run.stop_and_keep()
    assert run.command == END


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", 3)


def fine_tuning(data: Path, base: Bundle, out: Path, *more: str) -> list[str]:
    command = ["finetune", "--cases", str(data), "-m", str(base.path), "-o", str(out), *SHORT]
    return [*command, *more]


def test_the_shell_trains_for_the_time_and_says_that_steps_contradict(
    data: Path, base: Bundle, tmp_path: Path, capfd
) -> None:
    assert main(fine_tuning(data, base, tmp_path / "out", "--validation", "none")) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["minutes"] == 0.25
    assert report["steps"] == read_log(tmp_path / "out" / "log.csv")[-1]["step"]
    assert main(fine_tuning(data, base, tmp_path / "other", "--steps", "5")) == 2
    assert "exclude each other" in capfd.readouterr().err


@pytest.mark.slow
def test_a_team_agrees_on_the_plan_and_resumes_it(data: Path, base: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ("--validation", "case_2", "--batch-size", "2")
    team = torchrun(2, fine_tuning(data, base, out, *more), restarts=1, module="Testing.hasty")
    wait_for((out / CHECKPOINT).exists, team)
    os.kill(process_of_rank(team, 1), 9)
    output, _ = team.communicate(timeout=400)
    assert team.returncode == 0, output
    found = [row["learning_rate"] for row in read_log(out / "log.csv")]
    assert found[-1] < 0.1 * max(found)
