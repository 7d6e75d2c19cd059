"""Jobs as a script without an event loop has them: up to date whenever they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from ..errors import MAESegmentError
from ..jobs import EventLoop, Job, JobProgress, JobState
from ..jobs.listeners import Listeners

T = TypeVar("T")


class ConsoleJob(Generic[T]):
    """Its state is up to date whenever it is read; nothing happens in between."""

    def __init__(self, handles: JobHandles, job: Job[T]) -> None:
        self._handles = handles
        self._job = job

    @property
    def state(self) -> JobState:
        return self._now.state

    @property
    def progress(self) -> JobProgress:
        return self._now.progress

    @property
    def is_finished(self) -> bool:
        return self._now.is_finished

    @property
    def error(self) -> MAESegmentError | None:
        return self._now.error

    @property
    def details(self) -> Mapping[str, Any]:
        """Figures that came with an error, e.g. `cpu_seconds`."""
        return self._now.details

    def cancel(self) -> None:
        self._job.cancel()

    def result(self, timeout_s: float | None = None) -> T:
        """Waits for it. Raises the job's error, or `TimeoutError`."""
        return self._job.result(timeout_s)

    @property
    def _now(self) -> Job[T]:
        self._handles.update(self._job)
        return self._job


class JobHandles:
    """The one rule for `wait` and `callback`."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._is_notifying = False

    def outcome(
        self, job: Job[T], wait: bool, callback: Callable[[ConsoleJob[T]], None] | None = None
    ) -> T | ConsoleJob[T]:
        """The result, waited for; with `wait=False` or a callback the job, once the worker has all that it needs.

        Ctrl-C while waiting cancels the job.
        """
        handle = ConsoleJob(self, job)
        if callback is not None:
            listener = Listeners[Job[T]](lambda _job: self._notify(callback, handle))
            job.add_listener(listener.notify)
            if job.is_finished:
                listener.notify(job)
        elif wait:
            try:
                return job.result()
            except KeyboardInterrupt:
                job.cancel()
                raise
        # From here on the worker needs nothing more of this process, even if nobody asks for a while.
        while job.state is JobState.PREPARING:
            self._loop.pump(0.1)
        return handle

    def update(self, job: Job[Any]) -> None:
        """Not from within a callback: it would be notified of the next change before this one."""
        if not job.is_finished and not self._is_notifying:
            self._loop.pump(0.0)

    def _notify(self, callback: Callable[[ConsoleJob[T]], None], handle: ConsoleJob[T]) -> None:
        before, self._is_notifying = self._is_notifying, True
        try:
            callback(handle)
        finally:
            self._is_notifying = before
