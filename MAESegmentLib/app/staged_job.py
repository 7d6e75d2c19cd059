"""Work of several stages that the logic does without keeping Slicer waiting; what its jobs have in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from ..errors import Cancelled, MAESegmentError, refusal_by_system
from ..translation import tr as _
from ..worker.client.client import JobState
from ..worker.client.stepping import Stepper, Steps

T = TypeVar("T")

FINISHED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class EventLoop(Protocol):
    """What waiting and going on later needs: a session, or the event clock."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]: ...
    def pump(self, seconds: float) -> None: ...


class StagedJob(Generic[T]):
    """State, progress, listeners and the wait for the result. Lives on Slicer's main thread."""

    def __init__(self, loop: EventLoop, callback: Callable[[Any], None] | None = None) -> None:
        self.state = JobState.QUEUED
        self.stage = ""
        self.fraction = 0.0
        self.eta_s: float | None = None
        self.error: MAESegmentError | None = None
        #: Figures that came with an error.
        self.details: Mapping[str, Any] = {}
        self.cancel_requested = False
        self._loop = loop
        self._stepper = Stepper(loop.call_later)
        self._steps: Steps | None = None
        self._value: T | None = None
        self._listeners = [callback] if callback else []

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def cancel(self) -> None:
        """Stop soon; the job ends as cancelled."""
        if self.is_finished or self.cancel_requested:
            return
        self.cancel_requested = True
        if self._steps is not None:
            self._steps.close()
            self._steps = None
            self._fail(Cancelled())
        else:
            self._cancel_current()

    def result(self, timeout_s: float | None = None) -> T:
        """What came out, waited for while Slicer stays alive. Raises the job's error, or `TimeoutError`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_finished:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"The job is not finished after {timeout_s:g} s.")
            self._loop.pump(0.05)
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]

    def add_listener(self, callback: Callable[[Any], None]) -> None:
        """`callback(job)` after every change."""
        self._listeners.append(callback)

    # For those that do the work ---------------------------------------------------------------------------------------

    def _cancel_current(self) -> None:
        """Cancel what another does for this job at the moment; how it ends is told to `_fail`."""

    def _step_through(self, stage: str, steps: Iterator[float], done: Callable[[Any], None]) -> None:
        """Do `steps`, one a turn of the event loop; `done` gets what they return. They yield the share done."""

        def over(value: Any) -> None:
            self._steps = None
            self._guarded(lambda: done(value))

        def failed(error: Exception) -> None:
            self._steps = None
            self._fail(error)

        self._go_on(JobState.PREPARING, stage, 0.0)
        self._steps = Steps(steps, lambda part: self._go_on(self.state, stage, float(part)), over, failed)
        self._stepper.add(self._steps)

    def _guarded(self, step: Callable[[], None]) -> None:
        """What goes wrong in `step` is how the job ends."""
        try:
            step()
        except Exception as error:
            self._fail(error)

    def _go_on(self, state: JobState, stage: str, fraction: float, eta_s: float | None = None) -> None:
        now = (state, stage, min(max(fraction, 0.0), 1.0), eta_s)
        if not self.is_finished and now != (self.state, self.stage, self.fraction, self.eta_s):
            self.state, self.stage, self.fraction, self.eta_s = now
            self._tell()

    def _finish(self, value: T) -> None:
        if not self.is_finished:
            self._value, self.fraction, self.eta_s, self.state = value, 1.0, None, JobState.DONE
            self._tell()

    def _fail(self, error: Exception, details: Mapping[str, Any] | None = None) -> None:
        if self.is_finished:
            return
        if not isinstance(error, MAESegmentError):
            logging.error("MAESegment: unexpected error", exc_info=error)
            unexpected = MAESegmentError(_("Unexpected error: {error}").format(error=error), _("Send the log."))
            unexpected.__cause__ = error
            error = refusal_by_system(error) or unexpected
        error.details = dict(details or error.details)
        self.error, self.details = error, error.details
        self.state = JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(self)
            except Exception:
                logging.exception("MAESegment: a callback failed")
