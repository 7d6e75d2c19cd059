"""Several processes that train together, as `torchrun` starts them, and what becomes of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .skips import REPOSITORY

#: More threads than cores would only wait for each other.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "PYTHONFAULTHANDLER": "1"}


def torchrun(
    processes: int, arguments: Sequence[str], *, restarts: int = 0, module: str = "MAESegmentLib.cli"
) -> subprocess.Popen[str]:
    """`maesegment` with these arguments in several processes of this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher += ["--max-restarts", str(restarts), "-m", module]
    return subprocess.Popen(
        [*launcher, *arguments],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_team(processes: int, code: str, *arguments: str, timeout: float = 120) -> list[tuple[int, str]]:
    """Exit code and output of each of several Pythons that run `code` as a team, without a launcher that ends them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    team |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=REPOSITORY,
            env={**ENVIRONMENT, **team, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


def process_of_rank(launcher: subprocess.Popen[str], rank: int) -> int:
    """The id of the process of this rank that `launcher` has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if parent == launcher.pid and f"RANK={rank}".encode() in environment:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def wait_for(condition: Callable[[], object], launcher: subprocess.Popen[str], seconds: float = 240) -> None:
    """Until `condition()`, while `launcher` runs."""
    end = time.monotonic() + seconds
    while not condition() and launcher.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert condition(), launcher.communicate(timeout=60)[0] if launcher.poll() is not None else "it takes too long"
