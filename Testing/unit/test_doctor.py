"""`maesegment doctor` tries things for real, and each problem it names comes with what to do about it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cli import doctor, doctor_computing
from MAESegmentLib.cli.doctor_checks import (
    CheckResult,
    Level,
    as_json,
    attempt,
    check_folder,
    check_memory,
    check_models,
    check_requirement,
    check_software,
    worst_of,
)
from MAESegmentLib.cli.doctor_computing import check_gpus, check_half_precision, check_processor, no_gpu
from MAESegmentLib.cli.main import main
from Testing.skips import has_gpu


def test_doctor_reports_on_everything_and_its_exit_code_follows(capsys):
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    topics = {finding["topic"] for finding in report["findings"]}
    assert {"MAESegment", "Python", "packages", "processor", "memory", "model folder", "models"} <= topics
    assert report["works"] == (code == 0)
    problems = [finding for finding in report["findings"] if finding["level"] == "problem"]
    assert bool(problems) == (code == 1)
    assert all(finding["advice"] for finding in report["findings"] if finding["level"] != "ok")


@pytest.mark.parametrize(("level", "code"), [(Level.OK, 0), (Level.WARNING, 0), (Level.PROBLEM, 1)])
def test_doctor_prints_advice_beside_its_problem(capsys, monkeypatch, level, code):
    monkeypatch.setattr(doctor, "check_all", lambda: [CheckResult("disk", level, "full", "Free it.")])
    assert main(["doctor"]) == code
    printed = capsys.readouterr().out
    assert all(word in printed for word in (level.value, "disk", "full", "→ Free it."))


def test_a_broken_model_is_named_and_a_store_without_models_is_a_problem(tmp_path):
    (tmp_path / "broken" / "1.0.0" / "configs").mkdir(parents=True)
    (tmp_path / "broken" / "1.0.0" / "configs" / "metadata.json").write_text("{")
    broken, none = check_models(ModelStore(tmp_path, shipped_folder=tmp_path / "no"))
    assert broken.level is Level.WARNING
    assert "broken" in broken.fact
    assert none.level is Level.PROBLEM
    assert "models import" in none.advice


def test_this_installation_has_every_package_it_needs():
    assert worst_of(check_software()) is Level.OK


@pytest.mark.parametrize(
    ("requirement", "said"),
    [("no-such-package>=1.0", "not installed"), ("numpy>=999.0", "older than 999.0")],
)
def test_a_missing_or_old_package_is_a_problem_with_a_command_to_run(requirement, said):
    (result,) = check_requirement(requirement)
    assert result.level is Level.PROBLEM
    assert said in result.fact
    assert "pip install" in result.advice


def test_a_package_at_its_floor_is_fine():
    assert list(check_requirement(f"torch>={torch.__version__.partition('+')[0]}")) == []


@pytest.mark.parametrize(("gib", "level"), [(1, Level.PROBLEM), (4, Level.NOTE), (20, Level.OK)])
def test_memory_is_judged_by_what_is_free(gib, level):
    (result,) = check_memory(gib * 2**30)
    assert result.level is level


def test_a_folder_is_fine_where_it_can_be_made_and_a_file_in_its_place_is_a_problem(tmp_path):
    assert check_folder("model folder", tmp_path / "a" / "b", "").level is Level.OK
    assert not (tmp_path / "a").exists()
    (tmp_path / "models").write_text("")
    result = check_folder("model folder", tmp_path / "models" / "x", "set MAESEGMENT_MODELS")
    assert result.level is Level.PROBLEM
    assert "set MAESEGMENT_MODELS" in result.advice


def test_the_gain_of_half_precision_is_a_ratio_of_processor_times(monkeypatch):
    """Whatever other programs do to the time that passes meanwhile."""
    threads = torch.get_num_threads()
    wall, thread = itertools.count(step=1000.0), itertools.count(step=1.0)
    monkeypatch.setattr(doctor_computing.time, "perf_counter", lambda: next(wall) ** 2)
    monkeypatch.setattr(doctor_computing.time, "thread_time", lambda: next(thread))
    processor = next(check_processor())
    assert processor.figures["bf16_gain"] == 1.0
    assert processor.figures["conv3d_s"] > 0
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("built", "driver", "level", "said"),
    [
        (False, False, Level.NOTE, "takes longer"),
        (False, True, Level.WARNING, "CUDA build"),
        (True, True, Level.WARNING, "nvidia-smi"),
    ],
)
def test_without_a_gpu_the_reason_decides_the_advice(built, driver, level, said):
    result = no_gpu(built_for_cuda=built, nvidia_driver=driver)
    assert result.level is level
    assert said in result.advice


def test_a_gpu_that_computes_wrongly_in_half_precision_is_found():
    good = {"float16": 1e-3, "bfloat16": 1e-2}
    assert list(check_half_precision("cuda:0", good)) == []
    bad = list(check_half_precision("cuda:0", {"float16": 0.5, "bfloat16": None}))
    assert [result.level for result in bad] == [Level.WARNING, Level.WARNING]
    assert "fp32" in bad[0].advice


def test_the_gpu_check_agrees_with_the_machine():
    assert (next(iter(check_gpus())).topic == "GPU") is not has_gpu()


@pytest.mark.gpu
def test_gpu_runs_real_convolutions_in_every_precision():
    result = next(iter(check_gpus()))
    assert result.level is Level.OK
    assert result.figures["conv3d_s"] > 0
    assert set(result.figures["half_precision_error"]) == {"float16", "bfloat16"}


def test_a_check_that_fails_is_a_problem():
    def broken():
        raise OSError("disk gone")

    (result,) = attempt("storage", broken)
    assert result.level is Level.PROBLEM
    assert "disk gone" in result.fact


def test_json_is_strict_and_says_whether_work_is_possible():
    report = json.loads(as_json([CheckResult("x", Level.WARNING, "slow", "wait", {"path": Path("a")})]))
    assert report["works"] is True
    assert report["findings"][0]["figures"] == {"path": "a"}
