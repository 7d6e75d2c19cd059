"""The frames of a sequence, one after the other; the results become a sequence in the same browser."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from .. import mrml
from ..errors import MAESegmentError, NodeError
from ..jobs import EventLoop, JobProgress, JobState
from ..jobs.runner import Operation
from ..mrml.frames import find_sequence, frame_in_scene
from ..translation import tr as _
from .batch import BatchItem, BatchJob, BatchRow, end_batch, segment_in_turn
from .processing import SegmentationJob

#: `start(volume node)` submits one frame.
StartFrame = Callable[[Any], SegmentationJob]


class SequenceJob(BatchJob):
    """A batch whose rows are frames. `output` is the sequence of segmentations, once there is one."""

    output: Any = None


def start_sequence(
    node: Any, start: StartFrame, loop: EventLoop, callback: Callable[[BatchJob], object] | None = None
) -> SequenceJob:
    """Segment the frames of a sequence node, or of the sequence that a volume node shows; `NodeError` without one."""
    frames = mrml.frames_of(node)
    if not frames:
        name = node.GetName() if node is not None else _("Nothing")
        raise NodeError(
            _("{name} belongs to no sequence.").format(name=name),
            _("Choose a sequence, or a volume that a sequence browser shows."),
        )
    job = SequenceJob(loop, [frame.title for frame in frames])
    return job.run(_segment_frames(job, node, frames, start), callback)


def _segment_frames(
    job: SequenceJob, node: Any, frames: list[mrml.Frame], start: StartFrame
) -> Operation[list[BatchRow]]:
    sequence, browser = find_sequence(node)
    proxy = browser.GetProxyNode(sequence) if browser is not None else None
    volumes: list[Any] = []

    def start_frame(frame: mrml.Frame) -> SegmentationJob:
        mrml.remove_node(volumes.pop() if volumes else None)
        if sequence.GetScene() is None:
            raise NodeError(_("The sequence was removed from the scene."), _("Load it again."))
        volumes.append(frame_in_scene(frame, proxy))
        return start(volumes[0])

    yield JobProgress()
    try:
        yield from segment_in_turn(
            job, [BatchItem(frame.title, functools.partial(start_frame, frame)) for frame in frames]
        )
    finally:
        mrml.remove_node(volumes.pop() if volumes else None)
    _put_together(job, node, sequence, frames)
    end_batch(job)
    return job.rows


def _put_together(job: SequenceJob, node: Any, sequence: Any, frames: list[mrml.Frame]) -> None:
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
