"""The GPU campaign, rehearsed on the processor: every part runs, and a second start does what a kill left undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.bundle.archive import import_bundle
from model_training.gpu_campaign import outcome
from Testing.skips import REPOSITORY

RUN = REPOSITORY / "model_training" / "gpu_campaign" / "run.sh"


#: As the interpreter of `run.sh`: what takes seconds to import is imported once for both starts.
TWO_STARTS = f"""#!{sys.executable}
import os, signal, sys
import matplotlib.figure, monai.networks.nets, nibabel, torch._dynamo
from pathlib import Path
import model_training.benchmarks.volumes
from model_training.gpu_campaign.__main__ import main

options = sys.argv[sys.argv.index("model_training.gpu_campaign") + 1:]
reading, writing = os.pipe()
first = os.fork()
if not first:
    os.setsid()
    os.dup2(writing, 1)
    sys.stdout.reconfigure(line_buffering=True)
    os._exit(main(options))
os.close(writing)
for line in os.fdopen(reading):
    if line.startswith("four-headneck-ct: at most"):
        break
os.kill(first, signal.SIGKILL)
assert os.waitpid(first, 0)[1] == signal.SIGKILL
work = Path(options[options.index("--work") + 1])
(work / "network.before").write_bytes((work / "network.json").read_bytes())
raise SystemExit(main(options))
"""


@pytest.mark.slow
def test_a_campaign_that_was_killed_does_what_is_missing_and_reports_all(tmp_path: Path) -> None:
    work, python = tmp_path / "work", tmp_path / "python"
    python.write_text(TWO_STARTS)
    python.chmod(0o700)
    places = {"PYTHON": str(python), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [str(RUN), "--rehearse", "--device", "cpu", "--work", str(work), "--out", str(tmp_path / "out")]
    ended = subprocess.run(
        command, env={**os.environ, **places}, stdout=subprocess.PIPE, text=True, timeout=600, check=False
    )
    said = ended.stdout
    assert ended.returncode == 0, said
    assert "network: " not in said  # it was done before
    assert "four-headneck-ct: at most" in said
    network = (work / "network.before").read_text()
    assert json.loads(network)["status"] == "done"
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
