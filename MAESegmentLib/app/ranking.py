"""Which scan to correct next: nodes of the scene, or the files of a folder, measured one after the other."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import mrml
from ..bundle import Bundle
from ..cases.dataset import load_dataset
from ..console.calls import several
from ..errors import DatasetError, MAESegmentError
from ..inference.ranking import Uncertainty, rank
from ..jobs import EventLoop, Job, JobProgress
from ..jobs.runner import Operation
from ..translation import tr as _
from ..worker.client.requests import submit_ranking, submit_scan_ranking
from .session import SceneSession


@dataclass(frozen=True)
class RankedVolume:
    """A scan and how uncertain the model is about it; `source` is a node (a list: one a channel) or a path.

    `score` is 0 (certain) to 1; `position` (RAS mm) lies in the least certain slice. All are None until it was
    measured, and if it could not be (`error`).
    """

    name: str
    source: Any
    uncertainty: Uncertainty | None = None
    error: MAESegmentError | None = None

    @property
    def score(self) -> float | None:
        return self.uncertainty.score if self.uncertainty is not None else None

    @property
    def position(self) -> tuple[float, float, float] | None:
        return self.uncertainty.position_ras if self.uncertainty is not None else None


class RankJob(Job[list[RankedVolume]]):
    """`rows` are there from the beginning; what is measured comes first, the most useful to correct on top.

    One that cannot be measured does not stop the rest. What was measured before a cancel stays in `rows`.
    """

    def __init__(self, loop: EventLoop, sources: Sequence[tuple[str, Any]]) -> None:
        super().__init__(loop)
        self.rows = [RankedVolume(name, source) for name, source in sources]

    @property
    def done(self) -> int:
        """How many scans are over."""
        return sum(row.score is not None or row.error is not None for row in self.rows)

    def set_row(self, row: RankedVolume, new: RankedVolume) -> None:
        self.rows[self.rows.index(row)] = new
        measured = [one for one in self.rows if one.uncertainty is not None]
        waiting = [one for one in self.rows if one.uncertainty is None and one.error is None]
        failed = [one for one in self.rows if one.error is not None]
        ordered = rank([one.uncertainty for one in measured if one.uncertainty is not None])
        self.rows[:] = [*(measured[index] for index in ordered), *waiting, *failed]
        self.notify()


def start_ranking(
    session: SceneSession,
    sources: Sequence[tuple[str, Any]],
    bundle: Bundle,
    settings: Mapping[str, Any],
    roi: tuple[float, ...] | None = None,
    callback: Callable[[RankJob], object] | None = None,
) -> RankJob:
    """Measure `sources` (see `sources_of`), one after the other."""
    job = RankJob(session.loop, sources)
    how: dict[str, Any] = {"model": bundle, "settings": settings, "roi": roi}

    def operation() -> Operation[list[RankedVolume]]:
        yield JobProgress()
        for row in [*job.rows]:
            try:
                current = _submit(session, row.source, how)
                found = yield from job.following(current, functools.partial(_progress, job, row))
            except MAESegmentError as error:
                if job.cancel_requested:
                    raise
                job.set_row(row, replace(row, error=error))
            else:
                job.set_row(row, replace(row, uncertainty=found))
        return job.rows

    return job.run(operation(), callback)


def _submit(session: SceneSession, source: Any, how: Mapping[str, Any]) -> Job[Uncertainty]:
    if isinstance(source, Path):
        return submit_scan_ranking(session.client, source, **how)
    image = mrml.image_of(tuple(source) if isinstance(source, Sequence) else (source,))
    return submit_ranking(
        session.client, image.channels, image.ijk_to_world, working_folder=session.working_folder, **how
    )


def _progress(job: RankJob, row: RankedVolume, current: Job[Any]) -> JobProgress:
    return JobProgress(row.name, (job.done + current.fraction) / len(job.rows))


def sources_of(volumes: Any) -> list[tuple[str, Any]]:
    """(name, node or path): of volume nodes (a list among them is one scan of several channels) and of files, or of the
    scans in a folder that have no label map."""
    if isinstance(volumes, str | os.PathLike):
        folder = Path(volumes).expanduser()
        advice = _("Choose a folder with NIfTI, NRRD or MHA files, or with DICOM folders.")
        cases = [case for case in load_dataset(folder, expected=advice).cases if case.label is None]
        found = [(case.id, case.image[0]) for case in cases if len(case.image) == 1]
        if not found:
            raise DatasetError(
                _("There is no scan without a label map in {folder}.").format(folder=folder),
                advice,
            )
        return found
    kinds, advice = (mrml.Node, Path), _("Give volume nodes, files, or a folder of scans.")
    listed = several(volumes, kinds, advice, inside=(str, list, tuple))
    nodes = [Path(one) if isinstance(one, str) else one for one in listed]
    for node in nodes:
        several(node, kinds, advice)
    return [(node.name if isinstance(node, Path) else _first(node).GetName(), node) for node in nodes]


def _first(node: Any) -> Any:
    return node[0] if isinstance(node, Sequence) else node
