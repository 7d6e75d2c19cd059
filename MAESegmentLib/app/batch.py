"""Several volumes, or the frames of a sequence, one after the other: one that fails does not stop the rest."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import mrml
from ..errors import Cancelled, MAESegmentError, NodeError
from ..jobs import EventLoop, JobProgress, JobState
from ..jobs.runner import Job, Operation, logged
from ..mrml.frames import find_sequence, frame_in_scene
from ..translation import tr as _

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


class BatchJob(Job[list[BatchRow]]):
    """Its result are the `rows`, whatever became of them: DONE if any succeeded, CANCELLED if asked to, else FAILED.

    `index` is the row that is being worked on (their number when all is done) and `current` its job. If the rows are
    the frames of a sequence, `output` is the sequence of segmentations, once there is one.
    """

    output: Any = None

    def __init__(self, loop: EventLoop, names: Sequence[str]) -> None:
        super().__init__(loop)
        self.rows = [BatchRow(name) for name in names]
        self.index = 0
        self.current: SegmentationJob | None = None

    @property
    def succeeded(self) -> list[BatchRow]:
        return [row for row in self.rows if row.state is JobState.DONE]


def start_batch(
    items: Sequence[tuple[str, Callable[[], SegmentationJob]]],
    loop: EventLoop,
    callback: Callable[[BatchJob], object] | None = None,
    *,
    gather: Callable[[BatchJob], object] = lambda _job: None,
) -> BatchJob:
    """`items` are names with what submits the segmentation, which may raise. The next one is started only when the one
    before is over, so that one volume is on the disk. `gather(job)` is called before the job ends."""
    job = BatchJob(loop, [name for name, _start in items])

    def operation() -> Operation[list[BatchRow]]:
        yield JobProgress()
        for row, (_name, start) in zip(job.rows, items, strict=True):
            if job.cancel_requested:
                row.fail(Cancelled())
            else:
                row.state = JobState.PREPARING
                try:
                    job.current = start()
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
        gather(job)
        state = JobState.DONE if not job.rows or job.succeeded else JobState.FAILED
        job.finish(job.rows, JobState.CANCELLED if job.cancel_requested else state)
        return job.rows

    return job.run(operation(), callback)


def _show(job: BatchJob, row: BatchRow, current: SegmentationJob) -> None:
    if not current.is_finished:
        row.state = current.state
        job.progress = JobProgress(row.name, (job.index + current.fraction) / len(job.rows), current.eta_s)
        job.notify()


def start_sequence(
    node: Any,
    start: Callable[[Any], SegmentationJob],
    loop: EventLoop,
    callback: Callable[[BatchJob], object] | None = None,
) -> BatchJob:
    """Segment the frames of a sequence node, or of the sequence that a volume node shows; `NodeError` without one.

    `start(volume node)` submits one frame. The results become a sequence in the same browser.
    """
    frames = mrml.frames_of(node)
    if not frames:
        name = node.GetName() if node is not None else _("Nothing")
        raise NodeError(
            _("{name} belongs to no sequence.").format(name=name),
            _("Choose a sequence, or a volume that a sequence browser shows."),
        )
    sequence, browser = find_sequence(node)
    proxy = browser.GetProxyNode(sequence) if browser is not None else None
    volumes: list[Any] = []

    def start_frame(frame: mrml.Frame) -> SegmentationJob:
        mrml.remove_node(volumes.pop() if volumes else None)
        if sequence.GetScene() is None:
            raise NodeError(_("The sequence was removed from the scene."), _("Load it again."))
        volumes.append(frame_in_scene(frame, proxy))
        return start(volumes[0])

    def gather(job: BatchJob) -> None:
        mrml.remove_node(volumes.pop() if volumes else None)
        _put_together(job, node, sequence, frames)

    items = [(frame.title, functools.partial(start_frame, frame)) for frame in frames]
    return start_batch(items, loop, callback, gather=gather)


def _put_together(job: BatchJob, node: Any, sequence: Any, frames: list[mrml.Frame]) -> None:
    """One sequence of the frames that succeeded; their own segmentation nodes go."""
    done = [(frame, row) for frame, row in zip(frames, job.rows, strict=True) if row.state is JobState.DONE]
    nodes = [(frame, row.segmentation) for frame, row in done if row.segmentation.GetScene() is not None]
    try:
        if nodes and sequence.GetScene() is not None:
            name = mrml.unique_name(f"{sequence.GetName()} segmentation")
            job.output = mrml.add_segmentation_sequence(node, nodes, name=name)
    except MAESegmentError as error:
        for _frame, row in done:
            row.fail(error)
        logging.warning("MAESegment: %s", error)
    finally:
        for _frame, row in done:
            mrml.remove_node(row.segmentation)
            row.segmentation = None
