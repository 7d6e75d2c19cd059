"""A corrected case on its way into the store: drawn on the scan's grid here, written by the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import mrml
from ..cases.records import CaseRecord
from ..cases.store import CaseStore
from ..errors import MAESegmentError, NodeError
from ..jobs import EventLoop, Job, JobProgress, JobState
from ..jobs.runner import Operation
from ..mrml import case_nodes as case_scene
from ..translation import tr as _
from ..worker.client.requests import submit_case
from .case_proposal import PreparedCase
from .session import SceneSession

#: How often it is drawn again because the user continues editing meanwhile.
_ATTEMPTS = 5


@dataclass(frozen=True)
class CaseRequest:
    """What is to be stored where; `nodes` are one volume a channel."""

    nodes: tuple[Any, ...]
    segmentation: Any
    store: CaseStore
    prepared: PreparedCase


class CaseJob(Job[CaseRecord]):
    """A case that is being stored. `notes` are sentences about what was put right or is to be known."""

    def __init__(self, loop: EventLoop, name: str) -> None:
        super().__init__(loop, name)
        self.notes: list[str] = []


def start_case(
    session: SceneSession, request: CaseRequest, callback: Callable[[CaseJob], object] | None = None
) -> CaseJob:
    job = CaseJob(session.loop, request.nodes[0].GetName())
    job.update(JobState.PREPARING, JobProgress("draw"))
    return job.run(_store(job, session, request), callback)


def _store(job: CaseJob, session: SceneSession, request: CaseRequest) -> Operation[CaseRecord]:
    yield 0.0
    drawing, content, stamp = yield from _draw(request)
    if request.prepared.values and not drawing.array.any():
        raise NodeError(
            _("No segment of {name} lies within {scan}.").format(
                name=request.segmentation.GetName(), scan=request.nodes[0].GetName()
            ),
            _("Choose the scan that the segmentation was drawn on."),
        )
    job.notes += _notes_about(drawing, request.segmentation)
    image = mrml.image_of(request.nodes)
    storing = submit_case(
        session.client,
        image.channels,
        image.ijk_to_world,
        drawing.array,
        store=request.store.folder,
        submission=request.prepared.submission,
        working_folder=session.working_folder,
        noted=job.notes.extend,
    )
    record = yield from job.following(storing)
    if request.segmentation.GetScene() is not None:
        case_scene.link(request.segmentation, request.store, record, content, stamp)
    if request.prepared.remember:
        try:
            request.store.remember(request.prepared.remember)
        except MAESegmentError as error:  # it is stored: this must not make that look like a failure
            job.notes.append(_("The names of the segments could not be remembered: {why}").format(why=error))
    return record


def _draw(request: CaseRequest) -> Operation[tuple[mrml.Drawing, str, tuple[Any, ...]]]:
    """The label map and, of the same moment, what it is recognised by: (drawing, content, stamp)."""
    node = request.segmentation
    for _attempt in range(_ATTEMPTS):
        stamp = mrml.content_stamp(node)
        content = yield from mrml.content_steps(node)
        drawing = yield from mrml.drawing_steps(node, request.nodes[0], request.prepared.values)
        if mrml.content_stamp(node) == stamp:
            return drawing, content, stamp
    raise NodeError(
        _("{name} is being edited; it was not stored.").format(name=node.GetName()),
        _("Finish the edit, then add the case again."),
    )


def _notes_about(drawing: mrml.Drawing, segmentation: Any) -> list[str]:
    names = {segment.id: segment.name for segment in mrml.drawn_segments(segmentation)}
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
