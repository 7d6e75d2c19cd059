"""Several volumes one after the other: one that fails does not stop the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, MAESegmentError
from ..jobs import EventLoop, JobProgress, JobState
from ..jobs.runner import Job, Operation, logged

if TYPE_CHECKING:
    from .processing import SegmentationJob, SegmentationSummary


@dataclass
class BatchRow:
    """One line of the table. `message` says why it failed, or what to know about the result."""

    name: str
    state: JobState = JobState.QUEUED
    message: str = ""
    segmentation: Any = None
    summary: SegmentationSummary | None = None
    error: MAESegmentError | None = None

    def fail(self, error: MAESegmentError) -> None:
        self.state = JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
        self.error, self.message = error, str(error).replace("\n", " ")


@dataclass(frozen=True)
class BatchItem:
    """`start` submits the segmentation of what is called `name`; it may raise."""

    name: str
    start: Callable[[], SegmentationJob]


class BatchJob(Job[list[BatchRow]]):
    """Its result are the `rows`, whatever became of them: DONE if any succeeded, CANCELLED if asked to, else FAILED.

    `index` is the row that is being worked on (their number when all is done) and `current` its job.
    """

    def __init__(self, loop: EventLoop, names: Sequence[str]) -> None:
        super().__init__(loop)
        self.rows = [BatchRow(name) for name in names]
        self.index = 0
        self.current: SegmentationJob | None = None

    @property
    def succeeded(self) -> list[BatchRow]:
        return [row for row in self.rows if row.state is JobState.DONE]


def start_batch(
    items: Sequence[BatchItem], loop: EventLoop, callback: Callable[[BatchJob], object] | None = None
) -> BatchJob:
    """The next item is started only when the one before is over, so that one volume is on the disk."""
    job = BatchJob(loop, [item.name for item in items])

    def operation() -> Operation[list[BatchRow]]:
        yield JobProgress()
        yield from segment_in_turn(job, items)
        end_batch(job)
        return job.rows

    return job.run(operation(), callback)


def segment_in_turn(job: BatchJob, items: Sequence[BatchItem]) -> Operation[None]:
    """Fill the rows of `job`."""
    for row, item in zip(job.rows, items, strict=True):
        if job.cancel_requested:
            row.fail(Cancelled())
        else:
            row.state = JobState.PREPARING
            try:
                job.current = item.start()
                job.current.add_listener(functools.partial(_show, job, row))
                _show(job, row, job.current)
                row.segmentation = yield job.current
                row.state, row.summary = JobState.DONE, job.current.summary
                row.message = " ".join(row.summary.warnings) if row.summary else ""
            except Exception as error:
                row.fail(logged(error))
        job.current = None
        job.index += 1
        yield job.index / len(job.rows)


def end_batch(job: BatchJob) -> None:
    state = JobState.DONE if not job.rows or job.succeeded else JobState.FAILED
    job.finish(job.rows, JobState.CANCELLED if job.cancel_requested else state)


def _show(job: BatchJob, row: BatchRow, current: SegmentationJob) -> None:
    if not current.is_finished:
        row.state = current.state
        job.progress = JobProgress(row.name, (job.index + current.fraction) / len(job.rows), current.eta_s)
        job.notify()
