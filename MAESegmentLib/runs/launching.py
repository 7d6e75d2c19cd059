"""Starts a run's process such that it outlives this one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping

from ..errors import OutputError, WorkerError
from ..processes.interpreter import Interpreter, module_launch
from ..processes.launch import apart
from .run_folder import LOG, STARTED, FineTuneRun, write_json

_TRAINER = "MAESegmentLib.runs.trainer"
#: Kept until they have ended: on POSIX they have to be waited for, or they stay as zombies.
_started: list[subprocess.Popen[bytes]] = []


def start(run: FineTuneRun, interpreter: Interpreter, environ: Mapping[str, str]) -> int:
    """Do `run` in a new process that outlives this one; returns its id.

    Nothing happens to a run that has a process already: only one gets its lock.
    """
    reap()
    what = module_launch(interpreter, environ, _TRAINER, (str(run.path),))
    try:
        write_json(run.path / STARTED, {"time": time.time()})
        log = (run.path / LOG).open("ab")
    except OSError as error:
        raise OutputError(f"{run.path} cannot be written to: {error.strerror or error}.") from error
    with log:
        try:
            process = subprocess.Popen(
                [what.program, *what.arguments],
                env=dict(what.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=str(run.path),
                **apart(),
            )
        except OSError as error:
            raise WorkerError(
                f"{what.program} cannot be started: {error.strerror or error}.", "Choose another Python under Advanced."
            ) from error
    _started.append(process)
    return process.pid


def reap() -> bool:
    """Wait for processes that have ended; whether others that this process started are still running."""
    _started[:] = [process for process in _started if process.poll() is None]
    return bool(_started)
