"""Which scan to correct next: nodes of the scene, or the files of a folder, measured one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import mrml
from ..bundle import Bundle
from ..cases.dataset import load_dataset
from ..errors import Cancelled, DatasetError, MAESegmentError
from ..inference.ranking import Uncertainty, rank
from ..translation import tr as _
from ..worker.client.client import Job, JobState
from ..worker.client.ranking import submit_ranking, submit_scan_ranking
from .session import SceneSession
from .staged_job import StagedJob


@dataclass(frozen=True)
class RankedVolume:
    """A scan and how uncertain the model is about it; `source` is a node (a list: one a channel) or a path.

    `score` is 0 (certain) to 1; `position` (RAS mm) lies in the least certain slice. All are None until it was
    measured, and if it could not be (`error`).
    """

    name: str
    source: Any
    score: float | None = None
    entropy: float | None = None
    position: tuple[float, float, float] | None = None
    uncertainty: Uncertainty | None = None
    error: MAESegmentError | None = None


class RankJob(StagedJob[list[RankedVolume]]):
    """`rows` are there from the beginning; what is measured comes first, the most useful to correct on top.

    One that cannot be measured does not stop the rest. What was measured before a cancel stays in `rows`.
    """

    def __init__(
        self,
        session: SceneSession,
        sources: Sequence[tuple[str, Any]],
        bundle: Bundle,
        settings: Mapping[str, Any],
        roi: tuple[float, ...] | None = None,
        callback: Callable[[RankJob], None] | None = None,
    ) -> None:
        super().__init__(session, callback)
        self.rows = [RankedVolume(name, source) for name, source in sources]
        self._pending = list(self.rows)
        self._session = session
        self._bundle = bundle
        self._settings = settings
        self._roi = roi
        self._job: Job[Uncertainty] | None = None
        self.state = JobState.RUNNING
        self._loop.call_later(0, self._next)

    @property
    def done(self) -> int:
        """How many scans are over."""
        return len(self.rows) - len(self._pending)

    def _cancel_current(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _next(self) -> None:
        if self.cancel_requested:
            self._fail(Cancelled())
        elif not self._pending:
            self._finish(self.rows)
        else:
            row = self._pending[0]
            try:
                job = self._submit(row)
            except MAESegmentError as error:
                self._over(row, error=error)
                return
            self._job = job
            job.add_listener(lambda job: self._changed(row, job))
            self._changed(row, job)

    def _submit(self, row: RankedVolume) -> Job[Uncertainty]:
        client, bundle, settings = self._session.client, self._bundle, self._settings
        if isinstance(row.source, Path):
            return submit_scan_ranking(client, row.source, model=bundle, settings=settings, roi=self._roi)
        nodes = tuple(row.source) if isinstance(row.source, Sequence) else (row.source,)
        image = mrml.image_of(nodes)
        return submit_ranking(
            client,
            image.channels,
            image.ijk_to_world,
            model=bundle,
            settings=settings,
            roi=self._roi,
            working_folder=self._session.working_folder,
        )

    def _changed(self, row: RankedVolume, job: Job[Uncertainty]) -> None:
        if self.is_finished or job is not self._job:
            return
        if not job.is_finished:
            fraction = (self.done + job.fraction) / len(self.rows)
            self._go_on(JobState.RUNNING, row.name, fraction)
        elif job.state is JobState.DONE:
            self._over(row, found=job.result())
        else:
            self._over(row, error=job.error)

    def _over(
        self, row: RankedVolume, *, found: Uncertainty | None = None, error: MAESegmentError | None = None
    ) -> None:
        self._job = None
        self._pending.remove(row)
        if found is not None:
            new = RankedVolume(
                row.name,
                row.source,
                found.score,
                found.entropy,
                found.position_ras,
                found,
            )
        else:
            new = RankedVolume(row.name, row.source, error=error)
        self.rows[self.rows.index(row)] = new
        self._sort()
        self._tell()
        # In a turn of its own: the job that is over is still telling its listeners.
        self._loop.call_later(0, self._next)

    def _sort(self) -> None:
        measured = [row for row in self.rows if row.uncertainty is not None]
        waiting = [row for row in self.rows if row.uncertainty is None and row.error is None]
        failed = [row for row in self.rows if row.error is not None]
        ordered = rank([row.uncertainty for row in measured if row.uncertainty is not None])
        self.rows[:] = [*(measured[index] for index in ordered), *waiting, *failed]


def sources_of(volumes: Any) -> list[tuple[str, Any]]:
    """(name, node or path): of volume nodes (a list among them is one scan of several channels), or of the scans in a
    folder that have no label map."""
    if isinstance(volumes, str | os.PathLike):
        folder = Path(volumes).expanduser()
        cases = [case for case in load_dataset(folder).cases if case.label is None]
        found = [(case.id, case.image[0]) for case in cases if len(case.image) == 1]
        if not found:
            raise DatasetError(
                _("There is no scan without a label map in {folder}.").format(folder=folder),
                _("Choose a folder with NIfTI, NRRD or MHA files, or with DICOM folders."),
            )
        return found
    nodes = list(volumes) if isinstance(volumes, Sequence) else [volumes]
    return [((node[0] if isinstance(node, Sequence) else node).GetName(), node) for node in nodes]
