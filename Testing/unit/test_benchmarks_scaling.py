"""The benchmark of large archives runs, and the prediction says what limits a larger machine."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from model_training.benchmarks.scaling import PRESETS, Assumptions, predict, predictions
from Testing.teams import ROOT

SBATCH = sorted((ROOT / "model_training" / "slurm").glob("*.sbatch"))
MEASURED = {
    **{f"{preset}: operations a patch": 1e12 for preset in PRESETS},
    **{f"{preset}: bytes of gradients": 4e8 for preset in PRESETS},
    "CT: bytes a volume": 5e7,
    "CT: core seconds a volume": 2.0,
    "seconds to agree, two processes": 0.001,
}


@pytest.mark.slow
def test_archives_of_two_sizes_are_timed_in_one_command(tmp_path: Path) -> None:
    results = tmp_path / "archive.csv"
    command = [sys.executable, "-m", "model_training.benchmarks.archive", "--results", str(results)]
    subprocess.run([*command, "--volumes", "100", "200"], cwd=ROOT, check=True)
    with results.open(newline="") as file:
        rows = {(row["what"], row["volumes"]): row for row in csv.DictReader(file)}
    assert len(rows) == 6
    assert rows["stream", "200"]["skipped"] == "2"
    assert all(float(row["ms_per_volume"]) > 0 for row in rows.values())


def test_more_gpus_are_never_slower_in_all_and_never_more_efficient() -> None:
    assumed = Assumptions()
    for row in predictions(MEASURED, assumed):
        assert 0 < float(str(row["efficiency"])) <= 1
    times = [predict(MEASURED, "synapse", gpus, assumed).step for gpus in (1, 8, 64, 256)]
    assert times == sorted(times)


def test_prediction_names_what_holds_it_up() -> None:
    fast, slow = Assumptions(cores_per_gpu=1000), Assumptions(cores_per_gpu=1)
    assert predict(MEASURED, "synapse", 8, slow).limit == "reading and preparing scans"
    assert predict(MEASURED, "synapse", 8, fast).limit == "computing"
    starved = Assumptions(cores_per_gpu=1000, network_bandwidth=1e9)
    assert predict(MEASURED, "synapse", 64, starved).limit == "exchanging gradients"
    assert predict(MEASURED, "synapse", 4096, fast).limit == "reading and preparing scans", "the shared file system"


@pytest.mark.parametrize("script", SBATCH, ids=lambda path: path.stem)
def test_cluster_scripts_are_valid_and_use_options_that_exist(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    command = text[text.index("-m MAESegmentLib.cli") :].split()
    name = command[2]
    options = {word for word in command if word.startswith("--")}
    done = subprocess.run(
        [sys.executable, "-m", "MAESegmentLib.cli", name, "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert options <= set(done.stdout.replace(",", " ").split())
