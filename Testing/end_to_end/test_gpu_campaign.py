"""The GPU campaign, rehearsed on the processor: every part runs, and a second start does what a kill left undone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.bundle.archive import import_bundle
from model_training.gpu_campaign import outcome
from Testing.skips import REPOSITORY

RUN = REPOSITORY / "model_training" / "gpu_campaign" / "run.sh"


def start(work: Path, *options: str) -> subprocess.Popen[str]:
    command = [str(RUN), "--rehearse", "--device", "cpu", "--work", str(work), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_campaign_that_was_killed_does_what_is_missing_and_reports_all(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = start(work)
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("four-headneck-ct: at most"):
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    network = (work / "network.json").read_text()
    assert json.loads(network)["status"] == "done"

    second = start(work, "--out", str(tmp_path / "out"))
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 0, said
    assert "network: " not in said  # it was done before
    assert (work / "network.json").read_text() == network
    out = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(out) == {"results.json", "report.md", "log.txt", "hippocampus-mr.zip", "headneck-ct.zip"}
    assert max(path.stat().st_size for path in out.values()) < 16 * 2**20
    results = json.loads(out["results.json"].read_text())
    assert {part["status"] for part in results["parts"].values()} == {"done"}
    assert results["parts"]["tests"]["blocks"]["pytest -m gpu"]["skipped"] > 0
    assert results["parts"]["long-headneck-ct"]["blocks"]["headneck-ct"]["steps"] > 0
    assert import_bundle(out["headneck-ct.zip"], ModelStore(tmp_path / "models")).name == "headneck-ct"
    report = out["report.md"].read_text()
    assert "MONAI, grid" in report
    assert "official design" in report
    with pytest.raises(SystemExit, match="on a GPU"):
        outcome.adopt(results)
