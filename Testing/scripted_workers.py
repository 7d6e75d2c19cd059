"""Worker processes that misbehave: `python scripted_workers.py BEHAVIOUR`, with nothing but the standard library.

They speak the protocol by themselves, so that a mistake in ours does not hide on both sides.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def launch_of(behaviour: str, *arguments: str, through: str = ""):
    """A `Launch` of this file; `through` a launcher: "sh" (waits for it, as PythonSlicer does) or "python"."""
    from MAESegmentLib.processes.launch import Launch

    command = (sys.executable, str(Path(__file__).resolve()), behaviour, *arguments)
    if through == "sh":
        # The second command keeps the shell from replacing itself by the first.
        command = ("/bin/sh", "-c", '"$@"; exit $?', "sh", *command)
    elif through == "python":
        command = (sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))", *command)
    return Launch(command[0], command[1:], dict(os.environ))


def say(kind: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
    sys.stdout.flush()


def greet() -> None:
    with contextlib.suppress(OSError):  # it leads a session already unless there is a launcher
        os.setsid()
    say("hello", pid=os.getpid(), protocol=1, version="test", python=sys.version.split()[0])
    say("ready", torch="none", devices=[{"name": "cpu", "title": "CPU"}], seconds=0.0)


def requests():
    for line in sys.stdin:
        yield json.loads(line)


def serve(handle: Callable[[str], None]) -> None:
    """Greet, then accept everything and `handle` each segmentation; end when stdin does."""
    greet()
    for request in requests():
        if request["type"] in ("segment", "devices"):
            say("accepted", id=request["id"], position=0)
            say("started", id=request["id"])
            handle(request["id"])


def good() -> None:
    serve(lambda job_id: say("result", id=job_id, data={"pid": os.getpid()}))


def slow(seconds: str = "0.2") -> None:
    """Takes its time, with progress, and honours a cancel between windows of 0.05 s."""
    cancelled: set[str] = set()
    pending: list[str] = []
    closed = threading.Event()

    def read() -> None:
        for request in requests():
            if request["type"] == "cancel":
                cancelled.add(request["id"])
            else:
                say("accepted", id=request["id"], position=len(pending))
                pending.append(request["id"])
        closed.set()

    greet()
    threading.Thread(target=read, daemon=True).start()
    while not closed.is_set():
        if not pending:
            time.sleep(0.005)
            continue
        job_id = pending[0]
        say("started", id=job_id)
        windows = max(1, round(float(seconds) / 0.05))
        for window in range(windows):
            if job_id in cancelled or closed.is_set():
                say("error", id=job_id, code="cancelled", message="Cancelled.")
                break
            time.sleep(0.05)
            say("progress", id=job_id, stage="segment", fraction=window / windows, eta_s=1.0)
        else:
            say("result", id=job_id, data={"pid": os.getpid()})
        pending.pop(0)


def mute() -> None:
    """Never says a word, and does not read."""
    time.sleep(1000)


def ignores_cancel() -> None:
    """Accepts, starts, and is then lost in a computation; not even the end of stdin or SIGTERM gets through."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(lambda _job_id: time.sleep(1000))


def with_children() -> None:
    """As `ignores_cancel`, with a child and a grandchild whose ids are in the log; one has a session of its own."""
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
    sys.stderr.write("children " + " ".join(str(child.pid) for child in children) + "\n")
    sys.stderr.flush()
    ignores_cancel()


def killed_by_system() -> None:
    """What the kernel's out-of-memory killer does."""
    serve(lambda _job_id: os.kill(os.getpid(), signal.SIGKILL))


BEHAVIOURS: dict[str, Callable[..., None]] = {
    behaviour.__name__: behaviour
    for behaviour in (
        good,
        slow,
        mute,
        ignores_cancel,
        with_children,
        killed_by_system,
    )
}

if __name__ == "__main__":
    BEHAVIOURS[sys.argv[1]](*sys.argv[2:])
