"""`torchrun ... -m MAESegmentLib.cli pretrain` and `finetune` with real processes, on the CPU with gloo."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.cli.main import main
from MAESegmentLib.training.loop.checkpoint import CHECKPOINT
from MAESegmentLib.training.loop.runlog import read_log
from Testing.bundles import tiny_network_config
from Testing.datasets import write_dataset
from Testing.teams import process_of_rank, torchrun, wait_for

SETTINGS = {"batch_size": 4, "micro_batch": 1, "log_every": 1, "checkpoint_every": 3, "validate_every": 10}
QUICK = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), 4, splits={"pool": ["case_0", "case_1", "case_2"]})


def pretraining(data: Path, out: Path, steps: int = 8) -> list[str]:
    network = {key: value for key, value in tiny_network_config().to_dict().items() if value is not None}
    network.pop("crop_size")
    recipe = {
        "network": {"preset": "small", **network},
        "autoencoder": {"unit": [8, 8, 8], "decoder_dim": 16},
        "preprocessing": {"spacing": [1, 1, 1], "patch_size": [16, 16, 16]},
        "settings": {**SETTINGS, "held_out": 0.3},
    }
    file = data / "recipe.json"
    file.write_text(json.dumps(recipe))
    return ["pretrain", "--data", str(data), "-o", str(out), "--recipe", str(file), "--steps", str(steps), *QUICK]


def fine_tuning(data: Path, base: Bundle, out: Path, steps: int) -> list[str]:
    chosen = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    command = ["finetune", "--cases", str(data), "-m", str(base.path), "-o", str(out), "--validation", "case_3"]
    return [*command, "--steps", str(steps), *chosen, *QUICK]


def assert_same_run(one: Path, several: Path) -> None:
    """Equal but for the order in which floating-point numbers were added."""
    for name in ("log.csv", "validation.csv"):
        expected, found = read_log(one / name), read_log(several / name)
        assert [row["step"] for row in found] == [row["step"] for row in expected]
        for left, right in zip(found, expected, strict=True):
            left.pop("seconds", None)
            assert left == pytest.approx({key: right[key] for key in left}, rel=2e-3, abs=1e-4)
    weights = [torch.load(folder / "model" / "models" / "model.pt", weights_only=True) for folder in (one, several)]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, atol=2e-3, rtol=1e-2, msg=key)


@pytest.mark.slow
def test_killed_fine_tuning_is_restarted_and_one_that_is_told_to_end_resumes_with_one_process(
    data: Path, base: Bundle, tmp_path: Path
) -> None:
    assert main(fine_tuning(data, base, tmp_path / "one", 30)) == 0
    out = tmp_path / "two"
    several = torchrun(2, fine_tuning(data, base, out, 30), restarts=1)
    wait_for((out / CHECKPOINT).exists, several)
    os.kill(process_of_rank(several, 1), signal.SIGKILL)
    killed = len(read_log(out / "log.csv"))
    wait_for(lambda: len(read_log(out / "log.csv")) > killed + 2, several)
    several.terminate()
    output, _ = several.communicate(timeout=400)
    assert "exitcode: -9" in output, output
    assert "to resume" in output, output
    assert not (out / "model").exists()
    reached = torch.load(out / CHECKPOINT, weights_only=True)["step"]
    assert len(read_log(out / "log.csv")) == reached
    assert main(fine_tuning(data, base, out, 30)) == 0
    assert_same_run(tmp_path / "one", out)


@pytest.mark.slow
def test_two_processes_stream_an_archive_with_bad_scans_like_one(data: Path, tmp_path: Path, capfd) -> None:
    archive = Path(shutil.copytree(data / "images", tmp_path / "archive"))
    for name in ("case_2.nii.gz", "broken.nii.gz"):
        (archive / name).write_bytes((archive / name).read_bytes()[:500] if name.startswith("case") else b"")
    chosen = ["--stream", "--data", str(archive), "--patches-per-volume", "2", "--set", "held_out=0.3"]
    assert main([*pretraining(data, tmp_path / "one"), *chosen]) == 0
    assert "2 scans could not be used" in capfd.readouterr().err
    several = torchrun(2, [*pretraining(data, tmp_path / "two"), *chosen])
    output, _ = several.communicate(timeout=400)
    assert several.returncode == 0, output
    assert output.count("Next: maesegment finetune") == 1, "one process talks, not all"
    assert_same_run(tmp_path / "one", tmp_path / "two")
    skipped = [(tmp_path / run / "skipped.csv").read_text() for run in ("one", "two")]
    assert skipped[0] == skipped[1]
    assert [line.split(",")[0] for line in skipped[0].splitlines()] == ["volume", "broken", "case_2"]
    assert not [*(tmp_path / "two").glob("skipped-*.csv")]


def test_splits_of_a_streamed_archive_are_refused(data: Path, tmp_path: Path, capsys) -> None:
    assert main([*pretraining(data, tmp_path / "out"), "--stream", "--split", "pool"]) == 2
    assert "no splits" in capsys.readouterr().err
