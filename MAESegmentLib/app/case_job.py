"""A corrected case on its way into the store: drawn on the scan's grid here, written by the worker."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import mrml
from ..cases.records import CaseRecord
from ..cases.store import CaseStore
from ..errors import MAESegmentError, NodeError
from ..mrml import case_nodes as case_scene
from ..translation import tr as _
from ..worker.client.client import Job, JobState
from ..worker.client.storing import submit_case
from .case_proposal import PreparedCase
from .session import SceneSession
from .staged_job import StagedJob

#: How often it is drawn anew because a person goes on editing meanwhile.
_ATTEMPTS = 5


@dataclass(frozen=True)
class CaseRequest:
    """What is to be stored where; `nodes` are one volume a channel."""

    nodes: tuple[Any, ...]
    segmentation: Any
    store: CaseStore
    prepared: PreparedCase


class CaseJob(StagedJob[CaseRecord]):
    """A case that is being stored. `notes` are sentences about what was put right or is to be known."""

    def __init__(self, session: SceneSession, request: CaseRequest, callback: Callable[[CaseJob], None] | None) -> None:
        super().__init__(session, callback)
        self.name = request.nodes[0].GetName()
        self.notes: list[str] = []
        self._session = session
        self._request = request
        self._job: Job[CaseRecord] | None = None
        self._content, self._stamp = "", ()
        self._step_through("draw", self._draw(), self._send)

    def _cancel_current(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _draw(self) -> Generator[float, None, mrml.Drawing]:
        """The label map and, of the same moment, what it is recognised by."""
        node = self._request.segmentation
        for _attempt in range(_ATTEMPTS):
            self._stamp = case_scene.content_stamp(node)
            self._content = yield from mrml.content_steps(node)
            drawing = yield from mrml.drawing_steps(node, self._request.nodes[0], self._request.prepared.values)
            if case_scene.content_stamp(node) == self._stamp:
                return drawing
        raise NodeError(
            _("{name} is being edited; it was not stored.").format(name=node.GetName()),
            _("Finish the edit, then add the case again."),
        )

    def _send(self, drawing: mrml.Drawing) -> None:
        request = self._request
        if request.prepared.values and not drawing.array.any():
            raise NodeError(
                _("No segment of {name} lies within {scan}.").format(
                    name=request.segmentation.GetName(), scan=request.nodes[0].GetName()
                ),
                _("Choose the scan that the segmentation was drawn on."),
            )
        self.notes += self._notes_about(drawing)
        image = mrml.image_of(request.nodes)
        job = submit_case(
            self._session.client,
            image.channels,
            image.ijk_to_world,
            drawing.array,
            store=request.store.folder,
            submission=request.prepared.submission,
            working_folder=self._session.working_folder,
            noted=self.notes.extend,
        )
        self._job = job
        job.add_listener(self._changed)
        self._changed(job)

    def _changed(self, job: Job[CaseRecord]) -> None:
        if not job.is_finished:
            self._go_on(job.state, job.stage, job.fraction, job.eta_s)
        elif job.state is JobState.DONE:
            self._guarded(lambda: self._note(job.result()))
        else:
            self._fail(job.error or MAESegmentError(_("The case was not stored.")), job.details)

    def _note(self, record: CaseRecord) -> None:
        """It is stored; what follows must not make that look like a failure."""
        node, store = self._request.segmentation, self._request.store
        if node.GetScene() is not None:
            case_scene.link(node, store, record, self._content, self._stamp)
        if self._request.prepared.remember:
            try:
                store.remember(self._request.prepared.remember)
            except MAESegmentError as error:
                self.notes.append(_("The names of the segments could not be remembered: {why}").format(why=error))
        self._finish(record)

    def _notes_about(self, drawing: mrml.Drawing) -> list[str]:
        names = {segment.id: segment.name for segment in mrml.drawn_segments(self._request.segmentation)}
        notes = [
            _("{loser} and {winner} overlap in {count} voxels; there, {winner} was stored.").format(
                loser=names.get(loser, loser), winner=names.get(winner, winner), count=count
            )
            for loser, winner, count in drawing.overlaps
        ]
        outside: Sequence[str] = [names.get(one, one) for one in drawing.outside]
        if outside:
            notes.append(_("Parts of {names} lie outside the scan and were left out.").format(names=", ".join(outside)))
        return notes
