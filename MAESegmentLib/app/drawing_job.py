"""What a user drew, on its way: the rest of the scan follows in the worker, and goes into the same segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import mrml
from ..bundle import Bundle
from ..errors import NodeError
from ..images.labels import Label, by_name
from ..jobs import Job, JobProgress, JobState
from ..jobs.runner import Operation
from ..translation import tr as _
from ..worker.client.requests import Drawing, submit_drawing
from ..worker.job_folder import JobFolder
from .processing import roi_box
from .produced import DRAWN, PRODUCED, drawn_of, note_drawn, note_produced, packed, produced_of
from .result_notes import note_summary, summary_of
from .session import SceneSession


@dataclass(frozen=True)
class DrawingRequest:
    """`scribbles` are grown, else the rest of the scan follows. `bundle` is the model whose features help (None: only
    outlines and grey values are used)."""

    nodes: tuple[Any, ...]
    segmentation: Any
    bundle: Bundle | None = None
    scribbles: bool = False
    plane: str = ""
    roi: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DrawingSummary:
    """`followed`: how the rest of each structure was made (`propagation.update.Followed` as a dictionary)."""

    followed: tuple[Mapping[str, Any], ...]
    plane: str
    seconds: float
    warnings: tuple[str, ...]


class DrawingJob(Job[Any]):
    """`result` is the segmentation node, which holds what followed. `undo` takes that back."""

    summary: DrawingSummary | None = None
    _before: tuple[Any, Mapping[str, Any], Mapping[str, str | None]] | None = None

    def undo(self) -> bool:
        """The segmentation as it was before, whatever was done to it since; False if there is nothing to take back."""
        if self._before is None:
            return False
        node, segments, notes = self._before
        self._before = None
        if node.GetScene() is None:
            return False
        mrml.restore_segments(node, segments)
        for name, text in notes.items():
            node.SetAttribute(name, text)
        return True

    def keep(self, node: Any) -> None:
        """For `undo`."""
        notes = {name: node.GetAttribute(name) for name in (PRODUCED, DRAWN)}
        self._before = node, mrml.kept_segments(node), notes


def start_drawing(
    session: SceneSession, request: DrawingRequest, callback: Callable[[DrawingJob], object] | None = None
) -> DrawingJob:
    """Begin; a job that fails or is cancelled leaves the segmentation as it is."""
    image = mrml.image_of(request.nodes)
    segments = mrml.drawn_segments(request.segmentation)
    if all(segment.is_empty for segment in segments):
        raise NodeError(
            _("Nothing is drawn in {name}.").format(name=request.segmentation.GetName()),
            _("Draw a structure on some slices, or correct a result, first."),
        )
    job = DrawingJob(session.loop, mrml.distinct_name(request.nodes[0]))
    job.update(JobState.PREPARING, JobProgress("draw"))
    watch = mrml.SceneWatch([*request.nodes, request.segmentation], job.cancel)
    job.add_listener(lambda job: watch.end() if job.is_finished else None)
    values = _values(segments, request.bundle)
    return job.run(_follow(job, session, request, values, image.grid.shape), callback)


def _values(segments: tuple[mrml.Segment, ...], bundle: Bundle | None) -> dict[str, int]:
    """A label value for each segment (by ID): the model's for its own labels."""
    own = by_name(bundle.labels if bundle is not None else ())
    values: dict[str, int] = {}
    for segment in segments:
        label = own.get(segment.name)
        if label is not None and label.value not in values.values():
            values[segment.id] = label.value
    free = iter(range(1, 65536))
    taken = {*values.values(), *(label.value for label in own.values())}
    for segment in segments:
        if segment.id not in values:
            values[segment.id] = next(value for value in free if value not in taken)
    return values


def _follow(
    job: DrawingJob, session: SceneSession, request: DrawingRequest, values: Mapping[str, int], shape: tuple[int, ...]
) -> Operation[Any]:
    yield 0.0
    node = request.segmentation
    stamp = mrml.content_stamp(node)
    drawing = yield from mrml.drawing_steps(node, request.nodes[0], values)
    names = {segment.id: segment.name for segment in mrml.drawn_segments(node)}
    _check(drawing, node, names)
    image = mrml.image_of(request.nodes)
    made = Drawing(
        drawing.array,
        {value: names[segment_id] for segment_id, value in values.items()},
        _before(node, values, shape, drawing),
        request.plane,
        drawn_of(node, values),
    )
    following = submit_drawing(
        session.client,
        image.channels,
        image.ijk_to_world,
        made,
        scribbles=request.scribbles,
        model=request.bundle,
        settings=request.settings,
        roi=roi_box(request.roi, request.nodes[0].GetScene()),
        working_folder=session.working_folder,
        finish=lambda data, folder: _put(job, request, values, stamp, data, folder),
    )
    return (yield from job.following(following))


def _before(node: Any, values: Mapping[str, int], shape: tuple[int, ...], drawing: mrml.Drawing) -> Any:
    """The result that was corrected, with the values of the drawing; None if it is not known."""
    found = produced_of(node, shape)
    if found is None:
        return None
    labels, had = found
    table = np.zeros(int(labels.max(initial=0)) + 1, drawing.array.dtype)
    for segment_id, value in had.items():
        if value < len(table):
            table[value] = values.get(segment_id, 0)
    return table[labels]


def _check(drawing: mrml.Drawing, node: Any, names: Mapping[str, str]) -> None:
    """What was drawn is to be kept voxel for voxel."""
    for loser, winner, count in drawing.overlaps:
        raise NodeError(
            _("{loser} and {winner} overlap in {count} voxels.").format(
                loser=names.get(loser, loser), winner=names.get(winner, winner), count=count
            ),
            _("Remove the overlap in one of them (Segment Editor, Logical operators: Subtract)."),
        )
    advice = _("Copy its segments to a new segmentation with the scan as source geometry.")
    for found, text in (
        (drawing.resampled, _("{names} of {segmentation} lie on another grid than the scan.")),
        (drawing.outside, _("Parts of {names} of {segmentation} lie outside the scan.")),
    ):
        if found:
            listed = ", ".join(names.get(one, one) for one in found)
            raise NodeError(text.format(names=listed, segmentation=node.GetName()), advice)


def _put(
    job: DrawingJob,
    request: DrawingRequest,
    values: Mapping[str, int],
    stamp: tuple[Any, ...],
    data: Mapping[str, Any],
    folder: JobFolder,
) -> Operation[Any]:
    node, volume = request.segmentation, request.nodes[0]
    block, origin = folder.read_labels(data["labels"])
    yield 0.2
    segments = yield from mrml.refilled_segments(node, volume, values, block, origin)
    produced = yield from packed(block, origin, data["labels"]["shape_ijk"], values)
    if node.GetScene() is None or mrml.content_stamp(node) != stamp:
        raise NodeError(
            _("{name} was edited meanwhile; it was left as it is.").format(name=node.GetName()),
            _("Finish the edit, then try it again."),
        )
    job.keep(node)
    mrml.put_segments(volume, segments, name="", into=node)
    note_produced(node, produced)
    if "drawn" in data:
        note_drawn(node, data["drawn"], {value: segment_id for segment_id, value in values.items()})
    _note_volumes(node, values, data)
    job.summary = DrawingSummary(
        tuple(data.get("followed", ())),
        str(data.get("plane", "")),
        float(data.get("seconds", 0.0)),
        tuple(map(str, data.get("warnings", ()))),
    )
    return node


def _note_volumes(node: Any, values: Mapping[str, int], data: Mapping[str, Any]) -> None:
    """The volumes of a result that is shown with them."""
    summary = summary_of(node)
    if summary is not None:
        segments = {segment.id: segment for segment in mrml.drawn_segments(node)}
        labels = tuple(
            Label(value, segments[one].name, segments[one].colour, segments[one].terminology)
            for one, value in values.items()
        )
        volumes = {int(value): float(ml) for value, ml in data["volumes_ml"].items()}
        note_summary(node, replace(summary, labels=labels, volumes_ml=volumes, cleaned={}))
