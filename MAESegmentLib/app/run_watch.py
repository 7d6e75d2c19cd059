"""Fine-tunings that run in processes of their own, looked at once a second by one timer for all."""

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
    """What is looked after."""

    @property
    def is_over(self) -> bool: ...

    def look(self) -> None: ...


class RunWatch:
    """Lives as long as the session; that it stops does not concern the processes."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._watched: dict[Path, Any] = {}
        self._forget: Callable[[], None] | None = None

    def job_of(self, run: FineTuneRun, make: Callable[[], Any]) -> Any:
        """The one job of a run, so that all who look at the run hear the same."""
        job = self._watched.get(run.path)
        if job is None:
            job = self._watched[run.path] = make()
        return job

    def add(self, run: FineTuneRun, job: Watched) -> None:
        self._watched[run.path] = job
        self.go_on()

    def go_on(self) -> None:
        """Look from now on, if there is anything to look at, or a process of ours whose end is to be noted."""
        if self._forget is None and (reap() or any(not job.is_over for job in self._watched.values())):
            self._forget = self._loop.call_later(_EVERY_S, self._tick)

    def stop(self) -> None:
        """No look any more."""
        if self._forget is not None:
            self._forget()
            self._forget = None
        self._watched.clear()

    def _tick(self) -> None:
        self._forget = None
        for job in [*self._watched.values()]:
            if not job.is_over:
                try:
                    job.look()
                except Exception:
                    logging.exception("MAESegment: a fine-tuning cannot be looked at")
        self.go_on()


def run_on_gpu(root: Path) -> FineTuneRun | None:
    """A fine-tuning, whoever started it, that has a GPU now."""
    for run in list_runs(root):
        if run.is_alive:
            status = run.status()
            if status.state is RunState.RUNNING and status.device.startswith("cuda"):
                return run
    return None
