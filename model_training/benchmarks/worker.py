"""How soon things start: `python -m model_training.benchmarks.worker`.

`maesegment --help`; the worker process until it is ready; and from a request to the moment when the network starts, for
the first request (the model is loaded) and for later ones (it is warm). Each repetition starts a process of its own;
wall time counts, since a user waits. Rows go to results/worker.csv.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.images.reading import read_volume
from MAESegmentLib.samples import head_path
from MAESegmentLib.worker.job_folder import JobFolder
from MAESegmentLib.worker.protocol import Message, Segment, Shutdown

from .runner import begin, record, where

#: What is timed, and the most seconds it should take.
HELP, READY, FIRST, LATER = "maesegment --help", "worker is ready", "first request", "later request"
LIMITS = {HELP: 0.3, READY: 4.0, FIRST: None, LATER: 0.2}
#: Requests to one worker, the first included.
_REQUESTS = 3


def main() -> None:
    arguments = begin(
        __doc__, lambda parser: parser.add_argument("--repeats", type=int, default=7, help="processes started")
    )
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        request = _request(Path(folder))
        for _ in range(arguments.repeats):
            for name, values in measure(request).items():
                seconds[name] += values
    record("worker", [_row(name, values) for name, values in seconds.items()], ("what",))


def measure(request: Segment) -> dict[str, list[float]]:
    """Seconds of one repetition."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "MAESegmentLib.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
    found = {HELP: [time.perf_counter() - begun]}
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "MAESegmentLib.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        _wait(worker.stdout, lambda event: event["type"] == "ready")
        found[READY] = [time.perf_counter() - begun]
        waits = []
        for _ in range(_REQUESTS):
            begun = time.perf_counter()
            _send(worker.stdin, request)
            _wait(worker.stdout, lambda event: event["type"] == "progress" and event["stage"] == "segment")
            waits.append(time.perf_counter() - begun)
            _wait(worker.stdout, lambda event: event["type"] == "result")
        _send(worker.stdin, Shutdown())
    return found | {FIRST: waits[:1], LATER: waits[1:]}


def _request(folder: Path) -> Segment:
    """A box around the hippocampus in the MNI152 head (197 x 233 x 189 voxels), as the panel sends it."""
    volume = read_volume(head_path())
    job = JobFolder.create(folder)
    for _ in job.write_volume([channel.T for channel in volume.array], volume.ijk_to_ras):
        pass
    settings = {"device": "cpu"}
    model = ModelStore().find("hippocampus")
    return Segment("benchmark", str(job.path), str(model.path), settings, (9, 44, -46, 3, -31, 7))


def _send(stream: IO[bytes], message: Message) -> None:
    stream.write(message.encode())
    stream.flush()


def _wait(stream: IO[bytes], is_it: Any) -> None:
    for line in stream:
        event = json.loads(line)
        if event["type"] == "error":
            raise RuntimeError(event["message"])
        if is_it(event):
            return
    raise RuntimeError("the worker ended")


def _row(name: str, seconds: list[float]) -> dict[str, object]:
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return {
        "what": name,
        "limit_s": LIMITS[name] or "",
        "repeats": len(seconds),
        "median_s": f"{middle:.3f}",
        "q1_s": f"{low:.3f}",
        "q3_s": f"{high:.3f}",
        "least_s": f"{min(seconds):.3f}",
        **where(),
    }


if __name__ == "__main__":
    main()
