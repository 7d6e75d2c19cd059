"""What work on a scene needs of its program: the worker, the event loop, folders, a log, and who polls fine-tunings."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..jobs import EventLoop, Listeners
from ..processes.interpreter import Interpreter
from ..runs import FineTuneRun, RunState, list_runs
from ..runs.launching import reap
from ..storage.user_folders import default_runs_folder
from ..worker.client.client import WorkerClient

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogBuffer:
    """Keeps `limit` lines and notifies listeners of each new one; warnings and errors also go to Slicer's own log."""

    def __init__(self, limit: int = 2000) -> None:
        self._lines: deque[str] = deque(maxlen=limit)
        self._listeners: Listeners[str] = Listeners()

    def add(self, level: str, text: str) -> None:
        number = _LEVELS.get(level, logging.INFO)
        for line in text.rstrip().splitlines():
            stamped = f"{time.strftime('%H:%M:%S')} {level:<7} {line}"
            self._lines.append(stamped)
            self._listeners.notify(stamped)
        if number > logging.INFO:
            logging.log(number, "MAESegment: %s", text.rstrip())

    def text(self, last: int | None = None) -> str:
        """The kept lines, or the `last` of them."""
        lines = list(self._lines)
        return "\n".join(lines if last is None else lines[-last:])

    def clear(self) -> None:
        self._lines.clear()

    def add_listener(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """`callback(line)` after each line; what is returned removes it."""
        return self._listeners.add(callback)


_EVERY_S = 1.0


class RunWatch:
    """Lives as long as the session; the processes outlive it."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._watched: dict[Path, Any] = {}
        self._known: set[Path] = set()
        self._on_new_run: Callable[[], None] | None = None
        self._cancel_timer: Callable[[], None] | None = None

    def job_for(self, run: FineTuneRun, make: Callable[[], Any]) -> Any:
        """The one job of a run, so that all listeners of the run are notified alike."""
        job = self._watched.get(run.path)
        if job is None:
            job = self._watched[run.path] = make()
        return job

    def add(self, run: FineTuneRun, job: Any) -> None:
        """Poll a `FineTuneJob` until it `is_over`."""
        self._watched[run.path] = job
        self._schedule()

    def look_for_new(self, on_new_run: Callable[[], None]) -> None:
        """Call it whenever there is a run that was not there before, whoever began it."""
        self._known = _paths()
        self._on_new_run = on_new_run
        self._schedule()

    def stop(self) -> None:
        """Stop polling."""
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
        self._on_new_run = None
        self._watched.clear()

    def _schedule(self) -> None:
        """Poll again if a run is not over, one may appear, or a process of ours has to be reaped."""
        is_needed = reap() or self._on_new_run is not None or any(not job.is_over for job in self._watched.values())
        if self._cancel_timer is None and is_needed:
            self._cancel_timer = self._loop.call_later(_EVERY_S, self._tick)

    def _tick(self) -> None:
        self._cancel_timer = None
        for poll in [*(job.poll for job in self._watched.values() if not job.is_over), self._poll_folder]:
            try:
                poll()
            except Exception:
                logging.exception("MAESegment: a fine-tuning cannot be polled")
        self._schedule()

    def _poll_folder(self) -> None:
        if self._on_new_run is not None:
            before, self._known = self._known, _paths()
            if self._known - before:
                self._on_new_run()


def _paths() -> set[Path]:
    return {run.path for run in list_runs(default_runs_folder())}


def run_on_gpu(root: Path) -> FineTuneRun | None:
    """A fine-tuning, whoever started it, that has a GPU now."""
    for run in list_runs(root):
        if run.is_alive:
            status = run.status()
            if status.state is RunState.RUNNING and status.device.startswith("cuda"):
                return run
    return None


class SceneSession(Protocol):
    """Slicer has one of these, and each user of the browser."""

    @property
    def client(self) -> WorkerClient:
        """The warm worker."""

    @property
    def loop(self) -> EventLoop:
        """What callbacks and jobs run on."""

    @property
    def log(self) -> LogBuffer: ...

    @property
    def watch(self) -> RunWatch:
        """Polls fine-tunings, which are processes of their own."""

    @property
    def working_folder(self) -> Path:
        """Where volumes are handed over."""

    @property
    def case_root(self) -> Path:
        """Where corrected cases are kept, a folder below it for each model."""

    def set_case_root(self, path: str) -> None:
        """ "" for the default."""

    def chosen(self, name: str) -> str:
        """What this user chose last, on whichever day; "" if nothing."""

    def choose(self, name: str, value: str) -> None:
        """Keep a choice."""

    def interpreter(self) -> Interpreter:
        """The Python that runs the network."""

    def environment(self) -> dict[str, str]:
        """Environment of processes that the session starts."""
