"""Two versions of a model on one scan: both segmentations, where they disagree, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import mrml
from ..bundle import Bundle
from ..errors import NodeError
from ..evaluation.comparison import Comparison, Row, compare_label_maps
from ..images.labels import Label
from ..images.volume import LabelMap
from ..jobs import EventLoop, Job, JobProgress, in_thread
from ..jobs.runner import Operation
from ..translation import tr as _
from .processing import SegmentationJob
from .result_notes import summary_of

DISAGREEMENT = Label(1, "disagreement", (214, 39, 40))

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


class CompareJob(Job[ComparisonNodes]):
    """Segments with one version, then with the other, then compares. What is cancelled leaves nothing behind."""

    def __init__(self, loop: EventLoop, versions: tuple[Bundle, Bundle]) -> None:
        super().__init__(loop)
        self.versions = versions


def start_comparison(
    volume: Any,
    versions: tuple[Bundle, Bundle],
    start: Start,
    loop: EventLoop,
    callback: Callable[[CompareJob], object] | None = None,
) -> CompareJob:
    """Raises what is wrong with the request."""
    job = CompareJob(loop, versions)
    return job.run(_compare(job, volume, start, start(volume, versions[0])), callback)


def _compare(job: CompareJob, volume: Any, start: Start, current: SegmentationJob) -> Operation[ComparisonNodes]:
    scan = volume[0] if isinstance(volume, Sequence) else volume
    nodes: list[Any] = []
    try:
        nodes.append((yield from job.following(current, lambda one: _progress("first", 0, one))))
        _rename(nodes[0], scan, job.versions[0])
        current = start(volume, job.versions[1])
        nodes.append((yield from job.following(current, lambda one: _progress("second", 1, one))))
        _rename(nodes[1], scan, job.versions[1])
        yield JobProgress("compare")
        maps, labels = [], []
        for node, version in zip(nodes, job.versions, strict=True):
            if node.GetScene() is None:
                raise NodeError(_("A segmentation was removed before it could be compared."), _("Compare again."))
            summary = summary_of(node)
            labels.append(summary.labels if summary is not None else version.labels)
            values = {mrml.segment_id_of(label): label.value for label in labels[-1]}
            drawing = yield from mrml.drawing_steps(node, scan, values)
            maps.append(LabelMap(drawing.array.transpose(2, 1, 0), drawing.ijk_to_world))
        comparison = yield from in_thread(lambda: compare_label_maps(maps[0], maps[1], *labels))
        nodes.append((yield from _show(scan, comparison, job.versions)))
        first, second, disagreement = nodes
        return ComparisonNodes(first, second, disagreement, comparison.rows, comparison.disagreement_ml)
    except BaseException:
        for node in nodes:
            mrml.remove_node(node)
        raise


def _progress(stage: str, number: int, job: Job[Any]) -> JobProgress:
    return JobProgress(stage, (number + job.fraction) / 2, job.eta_s)


def _rename(node: Any, scan: Any, version: Bundle) -> None:
    node.SetName(mrml.unique_name(f"{scan.GetName()} {version.name} {version.version}"))


def _show(scan: Any, comparison: Comparison, versions: Sequence[Bundle]) -> Operation[Any]:
    array = comparison.disagreement.array.transpose(2, 1, 0)
    yield 0.9
    block = array if array.any() else np.zeros((0, 0, 0), np.uint8)
    segments = yield from mrml.prepare_segments(scan, [DISAGREEMENT], block, (0, 0, 0))
    one, other = (f"{version.name} {version.version}" for version in versions)
    node = mrml.put_segments(scan, segments, name=mrml.unique_name(f"{scan.GetName()}: {one} / {other}"))
    mrml.mark_difference(node)
    return node
