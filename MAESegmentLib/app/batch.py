"""Several volumes one after the other: one that fails does not stop the rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import Cancelled, MAESegmentError, refusal_by_system
from ..translation import tr as _
from ..worker.client.client import JobState
from .processing import SegmentationJob, SegmentationSummary


class EventLoop(Protocol):
    """What waiting and going on later needs."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]: ...
    def pump(self, seconds: float) -> None: ...


@dataclass
class BatchRow:
    """One line of the table. `message` says why it failed, or what to know about the result."""

    name: str
    state: JobState = JobState.QUEUED
    message: str = ""
    segmentation: Any = None
    summary: SegmentationSummary | None = None
    error: MAESegmentError | None = None


@dataclass(frozen=True)
class BatchItem:
    """`start` submits the segmentation of what is called `name`; it may raise."""

    name: str
    start: Callable[[], SegmentationJob]


class BatchJob:
    """Runs items in turn; the next is submitted only when the one before is over, so that one volume is on the disk."""

    def __init__(
        self, items: Sequence[BatchItem], loop: EventLoop, callback: Callable[[BatchJob], None] | None = None
    ) -> None:
        self.rows = [BatchRow(item.name) for item in items]
        self.current: SegmentationJob | None = None
        self.cancel_requested = False
        self._items = list(items)
        self._loop = loop
        self._index = -1
        self._listeners = [callback] if callback else []
        loop.call_later(0, self._next)

    @property
    def is_finished(self) -> bool:
        return self._index >= len(self._items)

    @property
    def index(self) -> int:
        """Row that is being worked on; the number of rows when all is done."""
        return max(self._index, 0)

    @property
    def fraction(self) -> float:
        """Rows done, and the part of the current one, 0..1."""
        if self.is_finished or not self.rows:
            return 1.0
        return (self.index + (self.current.fraction if self.current is not None else 0.0)) / len(self.rows)

    @property
    def state(self) -> JobState:
        """RUNNING, then DONE if any row succeeded, CANCELLED if asked to, FAILED if nothing succeeded."""
        if not self.is_finished:
            return JobState.RUNNING
        if self.cancel_requested:
            return JobState.CANCELLED
        return JobState.DONE if not self.rows or self.succeeded else JobState.FAILED

    @property
    def succeeded(self) -> list[BatchRow]:
        return [row for row in self.rows if row.state is JobState.DONE]

    def cancel(self) -> None:
        """Stop the current row and begin no other; what is finished stays."""
        self.cancel_requested = True
        if self.current is not None:
            self.current.cancel()

    def result(self, timeout_s: float | None = None) -> list[BatchRow]:
        """The rows, when all are over; raises nothing that a row met, only `TimeoutError`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_finished:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"The batch is not finished after {timeout_s:g} s.")
            self._loop.pump(0.05)
        return self.rows

    def add_listener(self, callback: Callable[[BatchJob], None]) -> None:
        """`callback(batch)` after every change."""
        self._listeners.append(callback)

    def _next(self) -> None:
        self._index += 1
        self.current = None
        if self.is_finished:
            self._finish()
        else:
            self._begin(self._items[self._index], self.rows[self._index])
        self._tell()

    def _finish(self) -> None:
        """For those that make something of all rows."""

    def _begin(self, item: BatchItem, row: BatchRow) -> None:
        if self.cancel_requested:
            self._over(row, JobState.CANCELLED, Cancelled())
            return
        row.state = JobState.PREPARING
        try:
            job = item.start()
        except MAESegmentError as error:
            self._over(row, JobState.FAILED, error)
        except Exception as error:
            logging.exception("MAESegment: %s could not be started", item.name)
            unexpected = MAESegmentError(_("Unexpected error: {error}").format(error=error))
            self._over(row, JobState.FAILED, refusal_by_system(error) or unexpected)
        else:
            self.current = job
            job.add_listener(self._changed)
            if job.is_finished:
                self._changed(job)

    def _changed(self, job: SegmentationJob) -> None:
        if job is not self.current:
            return
        row = self.rows[self._index]
        row.state = job.state
        if job.is_finished:
            if job.state is JobState.DONE:
                row.segmentation, row.summary = job.result(), job.summary
                row.message = " ".join(job.summary.warnings) if job.summary else ""
            self._over(row, job.state, job.error)
        self._tell()

    def _over(self, row: BatchRow, state: JobState, error: MAESegmentError | None) -> None:
        row.state, row.error = state, error
        if error is not None:
            row.message = str(error).replace("\n", " ")
        self.current = None
        self._loop.call_later(0, self._next)

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(self)
            except Exception:
                logging.exception("MAESegment: a callback of the batch failed")
