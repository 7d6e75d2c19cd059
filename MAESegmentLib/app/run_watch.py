"""Fine-tunings run in processes of their own; one timer polls them all once a second."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..jobs import EventLoop
from ..runs import FineTuneRun, RunState, list_runs
from ..runs.launching import reap

_EVERY_S = 1.0


class Watched(Protocol):
    """A fine-tuning that is polled."""

    @property
    def is_over(self) -> bool: ...

    def poll(self) -> None: ...


class RunWatch:
    """Lives as long as the session; the processes outlive it."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._watched: dict[Path, Any] = {}
        self._cancel_timer: Callable[[], None] | None = None

    def job_for(self, run: FineTuneRun, make: Callable[[], Any]) -> Any:
        """The one job of a run, so that all listeners of the run are notified alike."""
        job = self._watched.get(run.path)
        if job is None:
            job = self._watched[run.path] = make()
        return job

    def add(self, run: FineTuneRun, job: Watched) -> None:
        self._watched[run.path] = job
        self._schedule()

    def _schedule(self) -> None:
        """Poll again if a run is not over, or a process of ours has to be reaped."""
        if self._cancel_timer is None and (reap() or any(not job.is_over for job in self._watched.values())):
            self._cancel_timer = self._loop.call_later(_EVERY_S, self._tick)

    def stop(self) -> None:
        """Stop polling."""
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
        self._watched.clear()

    def _tick(self) -> None:
        self._cancel_timer = None
        for job in [*self._watched.values()]:
            if not job.is_over:
                try:
                    job.poll()
                except Exception:
                    logging.exception("MAESegment: a fine-tuning cannot be polled")
        self._schedule()


def run_on_gpu(root: Path) -> FineTuneRun | None:
    """A fine-tuning, whoever started it, that has a GPU now."""
    for run in list_runs(root):
        if run.is_alive:
            status = run.status()
            if status.state is RunState.RUNNING and status.device.startswith("cuda"):
                return run
    return None
