"""The process of one fine-tuning run: `python -m MAESegmentLib.runs.trainer RUN_FOLDER`.

It may be killed at any moment: started again, it resumes from its last checkpoint, and a version that it saved or
published is not made a second time.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import Cancelled, MAESegmentError, OutputError, WorkerError, expected
from ..processes.environment import TRAIN, complaint
from ..processes.processor import leave_a_core, process_began, yield_to_others
from .run_folder import CASES, DISCARD, END, RESULT, SCANS, STOP, WORK, FineTuneRun, StatusWriter, write_json

#: Exit codes: done or discarded; failed with a reason in status.json; another process has the run.
DONE, FAILED, BUSY = 0, 1, 2
_POLL_EVERY_S = 0.5
_LOCK_S = 5.0


def main(arguments: list[str]) -> int:
    with suppress(AttributeError, OSError):  # no such thing on Windows; or it leads a session already
        os.setsid()
    run = FineTuneRun(Path(arguments[0]))
    lock = run.lock
    end = time.monotonic() + _LOCK_S
    while not lock.try_acquire():  # whoever polls it holds it for a moment
        if time.monotonic() > end:
            print("Another process works on this run.", file=sys.stderr)
            return BUSY
        time.sleep(0.05)
    yield_to_others()
    leave_a_core(os.environ)
    return work_through(run)


def work_through(run: FineTuneRun) -> int:
    """Do what is left of it in this process; an exit code. Why it failed is in its status."""
    status = StatusWriter(run)
    try:
        status.write()
        _work(run, status)
    except Cancelled:
        _discard(run)
    except MAESegmentError as error:
        return _fail(status, error)
    except Exception as error:
        traceback.print_exc()
        return _fail(status, expected(error))
    return DONE


def _work(run: FineTuneRun, status: StatusWriter) -> None:
    if not (run.path / RESULT).is_file():
        trouble = complaint(TRAIN)
        if trouble is not None:
            raise WorkerError(*trouble)
        from .training import FineTuneWork

        work = FineTuneWork(
            run,
            status,
            should_cancel=_given(run, DISCARD),
            should_stop=_given(run, STOP, END),
            should_end=_given(run, END),
            begun=process_began(),
        )
        write_json(run.path / RESULT, work.result().to_dict())
    # Large and not needed any more; logs and report stay.
    for name in (CASES, SCANS):
        shutil.rmtree(run.path / name, ignore_errors=True)
    shutil.rmtree(run.work / "model", ignore_errors=True)
    (run.work / "checkpoint.pt").unlink(missing_ok=True)


def _given(run: FineTuneRun, *commands: str) -> Callable[[], bool]:
    """Whether one of them has been given; the file is polled twice a second."""
    polled, given = [0.0], [False]

    def is_given() -> bool:
        if not given[0] and time.monotonic() - polled[0] > _POLL_EVERY_S:
            polled[0] = time.monotonic()
            given[0] = run.command in commands
        return given[0]

    return is_given


def _discard(run: FineTuneRun) -> None:
    """Delete what is large; the folder itself can go only once its lock is free, so not here."""
    for name in (WORK, CASES, SCANS):
        shutil.rmtree(run.path / name, ignore_errors=True)


def _fail(status: StatusWriter, error: MAESegmentError) -> int:
    print(error, file=sys.stderr, flush=True)
    with suppress(OutputError):
        status.write(error)
    return FAILED


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # Threads of torch must not keep the process alive.
    os._exit(code)
