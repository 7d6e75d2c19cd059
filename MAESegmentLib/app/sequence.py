"""The frames of a sequence, one after the other; the results become a sequence in the same browser."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import slicer

from .. import mrml
from ..errors import MAESegmentError, NodeError
from ..mrml.frames import find_sequence, frame_in_scene
from ..translation import tr as _
from ..worker.client.client import JobState
from .batch import BatchItem, BatchJob, EventLoop
from .processing import SegmentationJob

#: `start(volume node)` submits one frame.
StartFrame = Callable[[Any], SegmentationJob]


class SequenceJob(BatchJob):
    """A batch whose rows are frames. `output` is the sequence of segmentations, once there is one."""

    def __init__(
        self, node: Any, start: StartFrame, loop: EventLoop, callback: Callable[[BatchJob], None] | None = None
    ) -> None:
        self.output: Any = None
        self._node = node
        self._start = start
        self._frames = mrml.frames_of(node)
        if not self._frames:
            name = node.GetName() if node is not None else _("Nothing")
            raise NodeError(
                _("{name} belongs to no sequence.").format(name=name),
                _("Choose a sequence, or a volume that a sequence browser shows."),
            )
        self._sequence, browser = find_sequence(node)
        self._proxy = browser.GetProxyNode(self._sequence) if browser is not None else None
        self._volume: Any = None
        items = [BatchItem(frame.title, functools.partial(self._start_frame, frame)) for frame in self._frames]
        super().__init__(items, loop, callback)

    def _start_frame(self, frame: mrml.Frame) -> SegmentationJob:
        self._forget_volume()
        if self._sequence.GetScene() is None:
            raise NodeError(_("The sequence was removed from the scene."), _("Load it again."))
        self._volume = frame_in_scene(frame, self._proxy)
        return self._start(self._volume)

    def _finish(self) -> None:
        self._forget_volume()
        done = [(frame, row) for frame, row in zip(self._frames, self.rows, strict=True) if row.state is JobState.DONE]
        nodes = [(frame, row.segmentation) for frame, row in done if row.segmentation.GetScene() is not None]
        try:
            if nodes and self._sequence.GetScene() is not None:
                name = slicer.mrmlScene.GenerateUniqueName(f"{self._sequence.GetName()} segmentation")
                self.output = mrml.add_segmentation_sequence(self._node, nodes, name=name)
        except MAESegmentError as error:
            for _frame, row in done:
                row.state, row.error, row.message = JobState.FAILED, error, str(error)
            logging.warning("MAESegment: %s", error)
        finally:
            for _frame, row in done:
                mrml.remove_node(row.segmentation)
                row.segmentation = None

    def _forget_volume(self) -> None:
        mrml.remove_node(self._volume)
        self._volume = None
