"""`maesegment doctor` tries things for real, and each problem it names comes with what to do about it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cli import check_compute
from MAESegmentLib.cli.check_compute import (
    check_gpus,
    check_processor,
    convolution_seconds,
    half_precision_findings,
    no_gpu,
)
from MAESegmentLib.cli.check_installation import (
    check_models,
    check_requirement,
    check_software,
    folder_finding,
    memory_finding,
)
from MAESegmentLib.cli.doctor import as_json, examine
from MAESegmentLib.cli.findings import Finding, Level, worst
from MAESegmentLib.cli.main import main
from Testing.skips import has_gpu

GIB = 2**30


def test_doctor_reports_on_everything_and_its_exit_code_follows(capsys):
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    topics = {finding["topic"] for finding in report["findings"]}
    assert {"MAESegment", "Python", "packages", "processor", "memory", "model folder", "models"} <= topics
    assert report["works"] == (code == 0)
    problems = [finding for finding in report["findings"] if finding["level"] == "problem"]
    assert bool(problems) == (code == 1)
    assert all(finding["advice"] for finding in report["findings"] if finding["level"] != "ok")


def test_doctor_prints_advice_beside_its_problem(capsys):
    main(["doctor"])
    printed = capsys.readouterr().out
    assert "processor" in printed
    assert ("→" in printed) == any(word in printed for word in ("note  ", "warning  ", "problem  "))


def test_a_broken_model_is_named_and_a_store_without_models_is_a_problem(tmp_path):
    (tmp_path / "broken" / "1.0.0" / "configs").mkdir(parents=True)
    (tmp_path / "broken" / "1.0.0" / "configs" / "metadata.json").write_text("{")
    broken, none = check_models(ModelStore(tmp_path, shipped_folder=tmp_path / "no"))
    assert broken.level is Level.WARNING
    assert "broken" in broken.fact
    assert none.level is Level.PROBLEM
    assert "models import" in none.advice


def test_this_installation_has_every_package_it_needs():
    assert worst(check_software()) is Level.OK


@pytest.mark.parametrize(
    ("requirement", "said"),
    [("no-such-package>=1.0", "not installed"), ("numpy>=999.0", "older than 999.0")],
)
def test_a_missing_or_old_package_is_a_problem_with_a_command_to_run(requirement, said):
    (finding,) = check_requirement(requirement)
    assert finding.level is Level.PROBLEM
    assert said in finding.fact
    assert "pip install" in finding.advice


def test_a_package_at_its_floor_is_fine():
    assert list(check_requirement(f"torch>={torch.__version__.partition('+')[0]}")) == []


@pytest.mark.parametrize(
    ("available", "level"), [(1 * GIB, Level.PROBLEM), (4 * GIB, Level.NOTE), (20 * GIB, Level.OK)]
)
def test_memory_is_judged_by_what_is_free(available, level):
    assert memory_finding(available, 32 * GIB).level is level


def test_a_folder_that_does_not_exist_yet_is_fine_where_it_can_be_made(tmp_path):
    assert folder_finding("model folder", tmp_path / "a" / "b", "").level is Level.OK
    assert not (tmp_path / "a").exists()


def test_a_file_in_place_of_a_folder_is_a_problem(tmp_path):
    (tmp_path / "models").write_text("")
    finding = folder_finding("model folder", tmp_path / "models" / "x", "set MAESEGMENT_MODELS")
    assert finding.level is Level.PROBLEM
    assert "set MAESEGMENT_MODELS" in finding.advice


def test_a_processor_is_timed():
    assert convolution_seconds(torch.device("cpu"), torch.float32, repeats=1) > 0


def test_the_gain_of_half_precision_is_a_ratio_of_processor_times(monkeypatch):
    """Whatever other programs do to the time that passes meanwhile."""
    threads = torch.get_num_threads()
    wall, thread = itertools.count(step=1000.0), itertools.count(step=1.0)
    monkeypatch.setattr(check_compute.time, "perf_counter", lambda: next(wall) ** 2)
    monkeypatch.setattr(check_compute.time, "thread_time", lambda: next(thread))
    processor = next(check_processor())
    assert processor.figures["bf16_gain"] == 1.0
    assert torch.get_num_threads() == threads


def test_without_a_gpu_the_reason_decides_the_advice():
    plain = no_gpu(built_for_cuda=False, nvidia_driver=False)
    cpu_build = no_gpu(built_for_cuda=False, nvidia_driver=True)
    old_driver = no_gpu(built_for_cuda=True, nvidia_driver=True)
    assert [finding.level for finding in (plain, cpu_build, old_driver)] == [Level.NOTE, Level.WARNING, Level.WARNING]
    assert "CUDA build" in cpu_build.advice
    assert "nvidia-smi" in old_driver.advice


def test_a_gpu_that_computes_wrongly_in_half_precision_is_found():
    good = {"float16": 1e-3, "bfloat16": 1e-2}
    assert list(half_precision_findings("cuda:0", good)) == []
    bad = list(half_precision_findings("cuda:0", {"float16": 0.5, "bfloat16": None}))
    assert [finding.level for finding in bad] == [Level.WARNING, Level.WARNING]
    assert "fp32" in bad[0].advice


def test_the_gpu_check_agrees_with_the_machine():
    findings = list(check_gpus())
    assert findings
    assert (findings[0].topic == "GPU") is not has_gpu()


@pytest.mark.gpu
def test_gpu_runs_real_convolutions_in_every_precision():
    finding = next(iter(check_gpus()))
    assert finding.level is Level.OK
    assert finding.figures["conv3d_s"] > 0
    assert set(finding.figures["half_precision_error"]) == {"float16", "bfloat16"}


def test_a_check_that_fails_is_a_problem_and_the_others_go_on():
    def broken():
        raise OSError("disk gone")

    findings = list(examine([("storage", broken), ("memory", lambda: [memory_finding(20 * GIB, 32 * GIB)])]))
    assert [finding.level for finding in findings] == [Level.PROBLEM, Level.OK]
    assert "disk gone" in findings[0].fact


def test_json_is_strict_and_says_whether_work_is_possible():
    report = json.loads(as_json([Finding("x", Level.WARNING, "slow", "wait", {"path": Path("a")})]))
    assert report["works"] is True
    assert report["findings"][0]["figures"] == {"path": "a"}
