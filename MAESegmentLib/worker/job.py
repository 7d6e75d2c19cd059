"""One request to the worker as its caller sees it: state, progress, cancel, result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from ..errors import Cancelled, MAESegmentError

T = TypeVar("T")

#: A caller that waits looks at the clock at least this often.
_SLICE_S = 0.1


class JobState(Enum):
    """PREPARING: the volume is being handed over; QUEUED: the worker has other things to do first, or is starting."""

    PREPARING = "preparing"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobProgress:
    """How far a job is: `fraction` of `stage` (0..1), seconds left if known, jobs before it."""

    stage: str = ""
    fraction: float = 0.0
    eta_s: float | None = None
    position: int = 0


class JobOwner(Protocol):
    """The part of the client that a job uses."""

    def cancel_job(self, job_id: str) -> None: ...

    def pump(self, seconds: float) -> None: ...


class Job(Generic[T]):
    """Made by `WorkerClient.submit`. Lives on the thread of the client's event loop; can be awaited in asyncio."""

    def __init__(self, job_id: str, owner: JobOwner, log: Callable[[str, str], None]) -> None:
        self.id = job_id
        self.state = JobState.QUEUED
        self.progress = JobProgress()
        self.cancel_requested = False
        self.error: MAESegmentError | None = None
        #: Figures that came with an error, e.g. `free_bytes`; after a crash `log`, the worker's last words.
        self.details: Mapping[str, Any] = {}
        self._owner = owner
        self._log = log
        self._value: T | None = None
        self._listeners: list[Callable[[Job[T]], None]] = []

    @property
    def stage(self) -> str:
        """One of `protocol.STAGES`, or "" before the first."""
        return self.progress.stage

    @property
    def fraction(self) -> float:
        return self.progress.fraction

    @property
    def eta_s(self) -> float | None:
        return self.progress.eta_s

    @property
    def position(self) -> int:
        """How many others come before it."""
        return self.progress.position

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def cancel(self) -> None:
        """Stop soon: it ends as CANCELLED even if the result is on its way. Nothing happens if it has ended."""
        self._owner.cancel_job(self.id)

    def result(self, timeout_s: float | None = None) -> T:
        """What came out, waited for while events are processed. Raises the job's error, or `TimeoutError`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_finished:
            left = _SLICE_S if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"The job is not finished after {timeout_s:g} s.")
            self._owner.pump(min(left, _SLICE_S))
        return self._outcome()

    def __await__(self) -> Generator[Any, None, T]:
        """The result, for a client whose events come through asyncio. Cancelling the task cancels the job."""
        import asyncio

        done = asyncio.get_running_loop().create_future()

        def look(job: Job[T]) -> None:
            if job.is_finished and not done.done():
                done.set_result(None)

        self.add_listener(look)
        try:
            if not self.is_finished:
                yield from done
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._outcome()

    def add_listener(self, callback: Callable[[Job[T]], None]) -> None:
        """`callback(job)` after every change. What it raises is logged and disturbs nobody."""
        self._listeners.append(callback)

    def update(self, state: JobState, progress: JobProgress) -> None:
        """For the client: where it stands."""
        if (state, progress) != (self.state, self.progress) and not self.is_finished:
            self.state, self.progress = state, progress
            self._notify()

    def finish(self, value: T) -> None:
        """For the client: done."""
        if not self.is_finished:
            self._value = value
            self.progress = JobProgress(self.stage, 1.0, 0.0)
            self.state = JobState.DONE
            self._notify(last=True)

    def fail(self, error: MAESegmentError, details: Mapping[str, Any] | None = None) -> None:
        """For the client: ended without a result."""
        if not self.is_finished:
            self.error, self.details = error, dict(details or {})
            error.details = error.details or self.details
            self.state = JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
            self._notify(last=True)

    def note_cancel_request(self) -> None:
        """For the client: cancelled, but the worker has not stopped yet."""
        self.cancel_requested = True
        self._notify()

    def _outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]

    def _notify(self, *, last: bool = False) -> None:
        listeners = tuple(self._listeners)
        if last:
            self._listeners.clear()
        for listener in listeners:
            call_safely(listener, self, self._log)


def call_safely(listener: Callable[[Any], None], subject: Any, log: Callable[[str, str], None]) -> None:
    """What a listener gets wrong is its own business."""
    try:
        listener(subject)
    except Exception as error:
        log("error", f"A callback failed: {type(error).__name__}: {error}")
        logging.getLogger(__name__).exception("A callback failed")
