"""Anything that takes a while, as its caller sees it: state, progress, cancel, result.

What a job does is a generator (an operation): it yields where it stands, or what it waits for, and returns the result.
Each step is one turn of the event loop, so that a window stays alive meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from concurrent import futures
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Generic, TypeVar

from ..errors import Cancelled, MAESegmentError, expected
from .event_loop import NAP_S, EventLoop, in_daemon_thread
from .listeners import Listeners

T = TypeVar("T")
R = TypeVar("R")
J = TypeVar("J", bound="Job[Any]")


class JobState(Enum):
    """PREPARING: the volume is being handed over; QUEUED: the worker has other things to do first, or is starting."""

    PREPARING = "preparing"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobProgress:
    """How far a job is: `fraction` of `stage` (0..1), seconds left if known, jobs before it."""

    stage: str = ""
    fraction: float = 0.0
    eta_s: float | None = None
    position: int = 0


class Promise(Generic[T]):
    """A value that an operation waits for (`value = yield promise`), until somebody calls `resolve`."""

    def __init__(self, cancel: Callable[[], None] = lambda: None) -> None:
        """`cancel` is called if the waiting job is cancelled: it ends the job, or resolves this early."""
        self.cancel = cancel
        self.is_resolved = False
        self.value: T | None = None
        self.error: Exception | None = None
        self._then: Callable[[], None] = lambda: None

    def resolve(self, value: T | None = None, error: Exception | None = None) -> None:
        """The operation continues with `value`, or with `error` raised; only the first call counts."""
        if not self.is_resolved:
            self.is_resolved, self.value, self.error = True, value, error
            self._then()

    def then(self, callback: Callable[[], None]) -> None:
        """Call when it is resolved; at once if it is."""
        self._then = callback
        if self.is_resolved:
            callback()


#: Yields a fraction of the stage (0..1) or a `JobProgress`, None for another turn, a `Promise` or `Job` to wait for it.
Operation = Generator[Any, Any, T]


def _nothing() -> None:
    return


class Job(Generic[T]):
    """Lives on the thread of its event loop. `result` waits for it; within asyncio it is awaited."""

    def __init__(self, loop: EventLoop, name: str = "") -> None:
        """`name` is what a user calls it, e.g. that of the scan."""
        self.name = name
        #: Of the request to the worker, if it is one.
        self.id = ""
        self.state = JobState.QUEUED
        self.progress = JobProgress()
        self.cancel_requested = False
        self.error: MAESegmentError | None = None
        #: Figures that came with an error, e.g. `free_bytes`; after a crash `log`, the worker's last words.
        self.details: Mapping[str, Any] = {}
        self._loop = loop
        self._value: T | None = None
        self._listeners: Listeners[Any] = Listeners()
        self._operation: Operation[T] | None = None
        self._cleanup: Callable[[], object] = _nothing
        self._after: Callable[[], object] = _nothing
        self._promise: Promise[Any] | None = None
        self._cancelled: Cancelled | None = None
        self._is_stepping = False

    # For callers ------------------------------------------------------------------------------------------------------

    @property
    def stage(self) -> str:
        """What it is at: one of `protocol.STAGES` while the worker segments; "" before the first."""
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
        return self.state.is_finished

    def cancel(self, reason: str = "") -> None:
        """Stop soon: it ends as CANCELLED even if the result is on its way. Nothing happens if it has ended."""
        if self.is_finished or self.cancel_requested:
            return
        self.cancel_requested = True
        self._cancelled = Cancelled(reason) if reason else Cancelled()
        if self._promise is not None:
            self._promise.cancel()
        if not self._is_stepping and (self._promise is None or self._promise.is_resolved):
            self._step()
        if not self.is_finished:
            self.notify()

    def result(self, timeout_s: float | None = None) -> T:
        """What came out, waited for while events are processed. Raises the job's error, or `TimeoutError`."""
        if not self._loop.wait_until(lambda: self.is_finished, timeout_s):
            raise TimeoutError(f"The job is not finished after {timeout_s:g} s.")
        return self._outcome()

    def __await__(self) -> Generator[Any, None, T]:
        """The result, for a loop of asyncio. Cancelling the task cancels the job."""
        import asyncio

        done = asyncio.get_running_loop().create_future()
        remove = self.add_listener(lambda job: done.set_result(None) if job.is_finished and not done.done() else None)
        try:
            if not self.is_finished:
                yield from done
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            remove()
        return self._outcome()

    def add_listener(self, callback: Callable[[Any], object]) -> Callable[[], None]:
        """`callback(job)` after every change; what is returned removes it. What it raises is logged."""
        return self._listeners.add(callback)

    # For those who do the work ----------------------------------------------------------------------------------------

    def run(
        self: J,
        operation: Operation[Any],
        callback: Callable[[J], object] | None = None,
        *,
        cleanup: Callable[[], object] = _nothing,
        after: Callable[[], object] = _nothing,
    ) -> J:
        """Do `operation`, its first step at once. `cleanup` is called once before listeners are notified of the end,
        however it ends, `after` once they were. `callback` is called in a later turn if that was the last step."""
        self._operation, self._cleanup, self._after = operation, cleanup, after
        if self._step():
            self._loop.add_steps(self._step)
        if callback is not None and self.is_finished:
            self._loop.call_later(0.0, lambda: Listeners(callback).notify(self))
        elif callback is not None:
            self.add_listener(callback)
        return self

    def update(self, state: JobState, progress: JobProgress | None = None) -> None:
        """Where it stands."""
        progress = self.progress if progress is None else progress
        if (state, progress) != (self.state, self.progress) and not self.is_finished:
            self.state, self.progress = state, progress
            self.notify()

    def finish(self, value: T, state: JobState = JobState.DONE) -> None:
        """It has ended with a result; `state` is another than DONE for a result that is not what was hoped for."""
        if not self.is_finished:
            self._value = value
            self.progress = replace(self.progress, fraction=1.0, eta_s=None, position=0)
            self._end(state)

    def fail(self, error: Exception, details: Mapping[str, Any] | None = None) -> None:
        """It has ended without a result; as CANCELLED if `cancel` was called."""
        if not self.is_finished:
            if self._cancelled is not None:
                error, details = self._cancelled, None
            self.error = logged(error)
            self.error.details = self.details = dict(details or self.error.details)
            self._end(JobState.CANCELLED if isinstance(self.error, Cancelled) else JobState.FAILED)

    def notify(self) -> None:
        """Something that listeners may want to know has changed."""
        self._listeners.notify(self)

    def following(self, other: Job[R], show: Callable[[Job[R]], JobProgress] | None = None) -> Operation[R]:
        """Wait for `other` within this job's operation, its state and progress (or `show(other)`) being this one's."""

        def mirror(other: Job[R]) -> None:
            if not other.is_finished:
                state = other.state if show is None else JobState.RUNNING
                self.update(state, other.progress if show is None else show(other))

        remove = other.add_listener(mirror)
        mirror(other)
        try:
            return (yield other)
        finally:
            remove()

    # ------------------------------------------------------------------------------------------------------------------

    def _end(self, state: JobState) -> None:
        operation, self._operation = self._operation, None
        if operation is not None and not self._is_stepping:
            _guarded(operation.close)
        _guarded(self._cleanup)
        self.state = state
        self.notify()
        self._listeners.clear()
        _guarded(self._after)

    def _step(self) -> bool:
        """Whether there is more to do in the next turn."""
        operation, promise = self._operation, self._promise
        if operation is None or self._is_stepping or (promise is not None and not promise.is_resolved):
            return False
        self._promise = None
        error: Exception | None = promise.error if promise is not None else None
        if self._cancelled is not None:
            error, self._cancelled = self._cancelled, None
        failure: Exception | None = None
        is_over = False
        self._is_stepping = True
        try:
            if error is not None:
                step = operation.throw(error)
            else:
                step = operation.send(promise.value if promise is not None else None)
        except StopIteration as stop:
            is_over, step = True, stop.value
        except Exception as raised:
            failure = raised
        except BaseException:  # Ctrl-C: whoever pumps hears of it, and the job does not wait for ever
            self._is_stepping = False
            self.fail(Cancelled())
            raise
        finally:
            self._is_stepping = False
        if failure is not None:
            self.fail(failure)
        elif is_over:
            self._return(step)
        else:
            return self._take(operation, step)
        return False

    def _return(self, value: T) -> None:
        if self._cancelled is not None:  # in the last step
            self.fail(self._cancelled)
        else:
            self.finish(value)

    def _take(self, operation: Operation[T], step: Any) -> bool:
        if self.is_finished:  # in this step, by somebody else
            _guarded(operation.close)
            return False
        if isinstance(step, Job):
            step = _promise_of(step)
        if isinstance(step, Promise):
            self._promise = step
            if self._cancelled is not None:
                step.cancel()
            # In a turn of its own: a job that is over is still notifying its listeners.
            step.then(lambda: self._loop.add_steps(self._step, urgent=True))
            return False
        if step is not None:
            self._show(step)
        return not self.is_finished

    def _show(self, step: float | JobProgress) -> None:
        if not isinstance(step, JobProgress):
            step = replace(self.progress, fraction=min(max(float(step), 0.0), 1.0))
        self.update(JobState.RUNNING if self.state is JobState.QUEUED else self.state, step)

    def _outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]


def in_thread(function: Callable[[], R]) -> Operation[R]:
    """`yield from in_thread(f)`: what `f()` returns, worked out in a thread; it must touch neither Qt nor the scene."""
    future = in_daemon_thread(function)
    while not future.done():
        yield None
        futures.wait([future], NAP_S)
    return future.result()


def logged(error: Exception) -> MAESegmentError:
    """`errors.expected`; the traceback of one that nobody foresaw goes to the log."""
    if not isinstance(error, MAESegmentError):
        logging.getLogger(__name__).error("MAESegment: unexpected error", exc_info=error)
    return expected(error)


def _promise_of(job: Job[Any]) -> Promise[Any]:
    promise: Promise[Any] = Promise(job.cancel)

    def over(job: Job[Any]) -> None:
        if job.is_finished:
            promise.resolve(job._value, job.error)

    job.add_listener(over)
    over(job)
    return promise


def _guarded(function: Callable[[], object]) -> None:
    """What goes wrong in it is logged: the job has ended for another reason."""
    try:
        function()
    except Exception:
        logging.getLogger(__name__).exception("MAESegment: cleaning up failed")
