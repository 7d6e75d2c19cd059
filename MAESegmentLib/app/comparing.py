"""Two versions of a model on one scan: both segmentations, where they disagree, and the figures."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from .. import mrml
from ..bundle import Bundle
from ..errors import Cancelled, MAESegmentError, NodeError
from ..evaluation.comparison import Comparison, Row, compare_label_maps
from ..images.labels import Label
from ..images.volume import LabelMap
from ..translation import tr as _
from ..worker.client.client import JobState
from .processing import SegmentationJob
from .staged_job import EventLoop, StagedJob

DISAGREEMENT = Label(1, "disagreement", (214, 39, 40))
#: How long a turn of the event loop is waited for the figures; Slicer stays alive.
_NAP_S = 0.005

#: `start(volume nodes, bundle)` submits one of the two segmentations.
Start = Callable[[Any, Bundle], SegmentationJob]


@dataclass(frozen=True)
class ComparisonNodes:
    """Three segmentation nodes, and a row for each structure that either version knows."""

    first: Any
    second: Any
    disagreement: Any
    rows: tuple[Row, ...]
    disagreement_ml: float = 0.0


class CompareJob(StagedJob[ComparisonNodes]):
    """Segments with one version, then with the other, then compares. What is cancelled leaves nothing behind."""

    def __init__(
        self,
        volume: Any,
        versions: tuple[Bundle, Bundle],
        start: Start,
        loop: EventLoop,
        callback: Callable[[CompareJob], None] | None = None,
    ) -> None:
        super().__init__(loop, callback)
        self.versions = versions
        self._volume = volume
        self._start = start
        self._current: SegmentationJob | None = None
        self._nodes: list[Any] = []
        self._begin()

    @property
    def _scan(self) -> Any:
        return self._volume[0] if isinstance(self._volume, Sequence) else self._volume

    def _cancel_current(self) -> None:
        if self._current is not None:
            self._current.cancel()

    def _begin(self) -> None:
        number = len(self._nodes)
        if number == len(self.versions):
            self._current = None
            self._step_through("compare", self._compare(), self._finish)
            return
        if self.cancel_requested:
            self._fail(Cancelled())
            return
        self._current = self._start(self._volume, self.versions[number])
        self._current.add_listener(functools.partial(self._changed, number))
        if self._current.is_finished:
            self._changed(number, self._current)

    def _changed(self, number: int, job: SegmentationJob) -> None:
        if self.is_finished or number != len(self._nodes):
            return
        if not job.is_finished:
            self._go_on(JobState.RUNNING, ("first", "second")[number], (number + job.fraction) / 2, job.eta_s)
        elif job.state is JobState.DONE:
            self._guarded(lambda: self._take(job, self.versions[number]))
        else:
            self._fail(job.error or MAESegmentError(_("It ended without a result.")), job.details)

    def _take(self, job: SegmentationJob, version: Bundle) -> None:
        node = job.result()
        name = f"{self._scan.GetName()} {version.name} {version.version}"
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
        self._nodes.append(node)
        # In a turn of its own: the job that is over is still telling its listeners.
        self._loop.call_later(0, lambda: self._guarded(self._begin))

    def _compare(self) -> Generator[float, None, ComparisonNodes]:
        first, second = self._nodes
        maps = []
        for node, version in zip(self._nodes, self.versions, strict=True):
            if node.GetScene() is None:
                raise NodeError(_("A segmentation was removed before it could be compared."), _("Compare again."))
            values = {mrml.segment_id_of(label): label.value for label in version.labels}
            drawing = yield from mrml.drawing_steps(node, self._scan, values)
            maps.append(LabelMap(drawing.array.transpose(2, 1, 0), drawing.ijk_to_world))
        labels = [version.labels for version in self.versions]
        comparison: Comparison = yield from _aside(lambda: compare_label_maps(maps[0], maps[1], *labels))
        node = yield from self._show(comparison)
        return ComparisonNodes(first, second, node, comparison.rows, comparison.disagreement_ml)

    def _show(self, comparison: Comparison) -> Generator[float, None, Any]:
        array = comparison.disagreement.array.transpose(2, 1, 0)
        yield 0.9
        block = array if array.any() else np.zeros((0, 0, 0), np.uint8)
        segments = yield from mrml.prepare_segments(self._scan, [DISAGREEMENT], block, (0, 0, 0))
        one, other = (f"{version.name} {version.version}" for version in self.versions)
        name = slicer.mrmlScene.GenerateUniqueName(f"{self._scan.GetName()}: {one} / {other}")
        return mrml.put_segments(self._scan, segments, name=name)

    def _fail(self, error: Exception, details: Any = None) -> None:
        if not self.is_finished:
            for node in self._nodes:
                mrml.remove_node(node)
            super()._fail(error, details)


def _aside(function: Callable[[], Any]) -> Generator[float, None, Any]:
    """What `function` returns, worked out in a thread: it may touch arrays, but neither Qt nor the scene."""
    outcome: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="MAESegment comparison", daemon=True)
    thread.start()
    while thread.is_alive():
        yield 0.5
        time.sleep(_NAP_S)
    if errors:
        raise errors[0]
    return outcome[0]
