"""What a user drew, on its way: the rest of the scan follows in the worker, and goes into the same segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import mrml
from ..bundle import Bundle
from ..errors import NodeError
from ..images.labels import Label, by_name
from ..jobs import Job, JobProgress, JobState
from ..jobs.runner import Operation
from ..mrml.redrawing import UndoPoint, made_mark, put_redrawn, redrawing_steps
from ..propagation.drawn import is_background
from ..translation import tr as _
from ..worker.client.requests import Drawing, submit_drawing
from ..worker.job_folder import JobFolder, full_label_array
from .processing import roi_box
from .produced import drawn_of, note_drawn, note_produced, packed, produced_of
from .result_notes import note_summary, summary_of
from .session import SceneSession

#: How often it is drawn again because the user continues editing meanwhile.
_ATTEMPTS = 5


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
    #: Around the change of the segmentation, so that an editor's own undo knows of it.
    changing: Callable[[Any], AbstractContextManager[Any]] = lambda _node: nullcontext()


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
    _before: UndoPoint | None = None
    _stamp: tuple[Any, ...] = ()

    def undo(self) -> bool:
        """The segmentation as it was before, whatever was done to it since; False if there is nothing to take back."""
        point, self._before = self._before, None
        if point is None or point.node.GetScene() is None:
            return False
        point.restore()
        return True

    @property
    def is_edited_since(self) -> bool:
        """Whether `undo` would take back more than this job has done."""
        return self._before is not None and mrml.content_stamp(self._before.node) != self._stamp

    def change(self, node: Any, images: Mapping[str, Any]) -> None:
        """Put them into the segments, so that it can be undone."""
        self._before = UndoPoint(node)
        put_redrawn(node, images)

    def changed(self, node: Any) -> None:
        """All of it is there now."""
        self._stamp = mrml.content_stamp(node)


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
    values = values_of(segments, request)
    return job.run(_follow(job, session, request, values, image.grid.shape), callback)


def values_of(segments: tuple[mrml.Segment, ...], request: DrawingRequest) -> dict[str, int]:
    """A label value for each segment (by ID): the model's for its own labels."""
    own = by_name(request.bundle.labels if request.bundle is not None else ())
    segments = tuple(segment for segment in segments if request.scribbles or not is_background(segment.name))
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
    stamp = mrml.content_stamp(request.segmentation)
    made, drawing = yield from read_drawing(request, values, shape)
    mark = made_mark(request.segmentation)
    image = mrml.image_of(request.nodes)
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
        finish=lambda data, folder: _put(job, request, values, drawing, (stamp, mark), data, folder),
    )
    return (yield from job.following(following))


def read_drawing(
    request: DrawingRequest, values: Mapping[str, int], shape: tuple[int, ...]
) -> Operation[tuple[Drawing, mrml.Drawing]]:
    """What the worker is told, and the drawing itself."""
    node = request.segmentation
    drawing = yield from mrml.drawing_steps(node, request.nodes[0], values)
    names = _names(node)
    if not drawing.array.any() and any(not segment.is_empty for segment in mrml.drawn_segments(node)):
        raise NodeError(
            _("No segment of {name} lies within {scan}.").format(name=node.GetName(), scan=request.nodes[0].GetName()),
            _("Choose the scan that the segmentation was drawn on."),
        )
    _check(drawing, names)
    return Drawing(
        drawing.array,
        {value: names[segment_id] for segment_id, value in values.items()},
        _before(node, values, shape, drawing),
        request.plane,
        drawn_of(node, values),
    ), drawing


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


def _check(drawing: mrml.Drawing, names: Mapping[str, str]) -> None:
    """What was drawn is to be kept voxel for voxel."""
    for loser, winner, count in drawing.overlaps:
        raise NodeError(
            _("{loser} and {winner} overlap in {count} voxels.").format(
                loser=names.get(loser, loser), winner=names.get(winner, winner), count=count
            ),
            _("Remove the overlap in one of them (Segment Editor, Logical operators: Subtract)."),
        )


def _put(
    job: DrawingJob,
    request: DrawingRequest,
    values: Mapping[str, int],
    drawing: mrml.Drawing,
    was: tuple[tuple[Any, ...], str],
    data: Mapping[str, Any],
    folder: JobFolder,
) -> Operation[Any]:
    node, (stamp, mark) = request.segmentation, was
    block, origin = folder.read_labels(data["labels"])
    # They have done their work.
    helpers = [one for one, name in _names(node).items() if request.scribbles and is_background(name)]
    for helper in helpers:
        block = np.where(block == values[helper], 0, block).astype(block.dtype)
    produced = yield from packed(block, origin, data["labels"]["shape_ijk"], values)
    labels = full_label_array(block, origin, data["labels"]["shape_ijk"])
    drawn = data.get("drawn", {})
    axes = {int(one["axis"]) for one in (drawn, *drawn.get("also", ())) if one} - {-1}
    images = yield from _redrawn(request, values, drawing, stamp, labels, axes)
    if made_mark(node) != mark:
        raise NodeError(
            _("{name} was made anew meanwhile; it was left as it is.").format(name=node.GetName()),
            _("Draw in it, then try it again."),
        )
    with request.changing(node):
        job.change(node, images)
        mrml.note_volume(node, request.nodes[0])
        for helper in helpers:
            node.GetSegmentation().RemoveSegment(helper)
        note_produced(node, produced)
        if "drawn" in data:
            note_drawn(node, data["drawn"], {value: segment_id for segment_id, value in values.items()})
    job.changed(node)
    _note_volumes(node, {one: value for one, value in values.items() if one not in helpers}, data)
    job.summary = DrawingSummary(
        tuple(data.get("followed", ())),
        str(data.get("plane", "")),
        float(data.get("seconds", 0.0)),
        tuple(map(str, data.get("warnings", ()))),
    )
    return node


def _redrawn(
    request: DrawingRequest,
    values: Mapping[str, int],
    drawing: mrml.Drawing,
    drawn_at: tuple[Any, ...],
    labels: np.ndarray,
    axes: set[int],
) -> Operation[Mapping[str, Any]]:
    """What `put_redrawn` takes, of the moment that it is put there: only voxels that followed, and none of a slice
    (across the voxel `axes`) in which anything was drawn meanwhile."""
    node, volume = request.segmentation, request.nodes[0]
    for _attempt in range(_ATTEMPTS):
        stamp = mrml.content_stamp(node)
        kept = labels == drawing.array
        there = {segment_id: value for segment_id, value in values.items() if segment_id in _names(node)}
        if stamp != drawn_at:
            now = yield from mrml.drawing_steps(node, volume, values)
            drawn = now.array != np.where(np.isin(drawing.array, [*there.values()]), drawing.array, 0)
            kept |= drawn
            for axis in axes:
                kept |= drawn.any(axis=tuple(other for other in range(3) if other != 2 - axis), keepdims=True)
        images = yield from redrawing_steps(node, volume, labels, there, kept)
        if mrml.content_stamp(node) == stamp:
            return images
    raise NodeError(
        _("{name} is being edited; it was left as it is.").format(name=node.GetName()),
        _("Finish the edit, then try it again."),
    )


def _names(node: Any) -> dict[str, str]:
    return {segment.id: segment.name for segment in mrml.drawn_segments(node)}


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
