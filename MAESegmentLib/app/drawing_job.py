"""What a user drew, on its way: the rest of the scan follows in the worker, and goes into the same segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from .. import mrml
from ..bundle import Bundle
from ..errors import DrawingError, NodeError
from ..images.labels import Label, by_name, is_background
from ..jobs import Job, JobProgress, JobState
from ..jobs.runner import Operation
from ..mrml.layers import block_of
from ..mrml.redrawing import UndoPoint, made_mark, put_redrawn, redrawing_steps
from ..propagation.drawn import CHOOSE_PLANE, Drawn
from ..propagation.planes import joined
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
    """`followed`: how the rest of each structure was made (`propagation.update.Followed` as a dictionary). `changed`:
    of what grew, how much (ml) each structure gained and lost beside the strokes."""

    followed: tuple[Mapping[str, Any], ...]
    plane: str
    seconds: float
    warnings: tuple[str, ...]
    changed: tuple[Mapping[str, Any], ...] = ()


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


@dataclass(frozen=True, eq=False)
class DrawingLayer:
    """Segments that do not overlap, by ID with their label values: what the worker is told, and the drawing itself."""

    values: Mapping[str, int]
    told: Drawing
    drawing: mrml.Drawing


@dataclass(frozen=True, eq=False)
class _Done:
    """What became of a layer: its labels (K, J, I), and what the worker says of it; nothing if nothing followed."""

    layer: DrawingLayer
    labels: np.ndarray
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> list[Drawn]:
        stored = self.data.get("drawn") or ({} if self.data else self.layer.told.earlier)
        first = Drawn.from_dict(stored) if stored else Drawn()
        return [one for one in (first, *first.also) if one.axis >= 0]


def _follow(
    job: DrawingJob, session: SceneSession, request: DrawingRequest, values: Mapping[str, int], shape: tuple[int, ...]
) -> Operation[Any]:
    yield 0.0
    was = mrml.content_stamp(request.segmentation), made_mark(request.segmentation)
    layers = yield from read_layers(request, values, shape)
    image = mrml.image_of(request.nodes)
    done: list[_Done] = []
    failed: DrawingError | None = None
    for layer in layers:
        following = submit_drawing(
            session.client,
            image.channels,
            image.ijk_to_world,
            layer.told,
            scribbles=request.scribbles,
            model=request.bundle,
            settings=request.settings,
            roi=roi_box(request.roi, request.nodes[0].GetScene()),
            working_folder=session.working_folder,
            finish=partial(_read, layer),
        )
        try:
            done.append((yield from job.following(following)))
        except DrawingError as error:
            if error.hint == CHOOSE_PLANE:
                raise
            # Nothing was drawn in these: that is a failure only if nothing was in the others.
            failed = failed or error
            done.append(_Done(layer, layer.drawing.array))
    if failed is not None and not any(one.data for one in done):
        raise failed
    return (yield from _put(job, request, done, was))


def _read(layer: DrawingLayer, data: Mapping[str, Any], folder: JobFolder) -> _Done:
    block, origin = folder.read_labels(data["labels"])
    return _Done(layer, full_label_array(block, origin, data["labels"]["shape_ijk"]), data)


def read_layers(
    request: DrawingRequest, values: Mapping[str, int], shape: tuple[int, ...]
) -> Operation[list[DrawingLayer]]:
    """What was drawn; more than one layer where segments overlap. A background is in each."""
    node, names = request.segmentation, _names(request.segmentation)
    todo, found = [dict(values)], list[DrawingLayer]()
    while todo:
        part = todo.pop(0)
        drawing = yield from mrml.drawing_steps(node, request.nodes[0], part)
        if drawing.overlaps:
            todo = [*_apart(part, drawing, names), *todo]
            continue
        told = Drawing(
            drawing.array,
            {value: names[segment_id] for segment_id, value in part.items()},
            _before(node, part, shape, drawing),
            request.plane,
            drawn_of(node, part),
        )
        found.append(DrawingLayer(part, told, drawing))
    is_there = any(one.drawing.array.any() for one in found)
    if not is_there and any(not segment.is_empty for segment in mrml.drawn_segments(node)):
        raise NodeError(
            _("No segment of {name} lies within {scan}.").format(name=node.GetName(), scan=request.nodes[0].GetName()),
            _("Choose the scan that the segmentation was drawn on."),
        )
    return found


def _apart(values: Mapping[str, int], drawing: mrml.Drawing, names: Mapping[str, str]) -> list[dict[str, int]]:
    """Those that overlap in different ones."""
    helpers = {one: value for one, value in values.items() if is_background(names[one])}
    for loser, winner, count in drawing.overlaps:
        if loser in helpers or winner in helpers:
            raise NodeError(
                _("{loser} and {winner} overlap in {count} voxels.").format(
                    loser=names[loser], winner=names[winner], count=count
                ),
                _("Erase one of them there: what is background is none of the structures."),
            )
    pairs = {frozenset(pair[:2]) for pair in drawing.overlaps}
    parts: list[dict[str, int]] = []
    for one, value in values.items():
        if one not in helpers:
            free = (part for part in parts if not any(frozenset((one, other)) in pairs for other in part))
            part = next(free, None)
            if part is None:
                parts.append(part := dict(helpers))
            part[one] = value
    return parts


def _before(node: Any, values: Mapping[str, int], shape: tuple[int, ...], drawing: mrml.Drawing) -> Any:
    """The result that was corrected, with the values of the drawing; None if it is not known."""
    found = produced_of(node, shape)
    before = np.zeros_like(drawing.array)
    for labels, had in found:
        table = np.zeros(int(labels.max(initial=0)) + 1, drawing.array.dtype)
        for segment_id, value in had.items():
            if value < len(table):
                table[value] = values.get(segment_id, 0)
        mapped = table[labels]
        before[mapped > 0] = mapped[mapped > 0]
    return before if found else None


def _put(
    job: DrawingJob, request: DrawingRequest, done: Sequence[_Done], was: tuple[tuple[Any, ...], str]
) -> Operation[Any]:
    node, (stamp, mark) = request.segmentation, was
    produced = []
    for one in done:
        block = block_of(one.labels) or (slice(0, 0),) * 3
        origin = [part.start for part in block[::-1]]
        produced.append((yield from packed(one.labels[block], origin, one.labels.shape[::-1], one.layer.values)))
    images = yield from _redrawn(request, done, stamp)
    if made_mark(node) != mark:
        raise NodeError(
            _("{name} was made anew meanwhile; it was left as it is.").format(name=node.GetName()),
            _("Draw in it, then try it again."),
        )
    values = {segment_id: value for one in done for segment_id, value in one.layer.values.items()}
    helpers = [one for one, name in _names(node).items() if request.scribbles and is_background(name)]
    with request.changing(node):
        job.change(node, images)
        mrml.note_volume(node, request.nodes[0])
        for helper in helpers:
            node.GetSegmentation().RemoveSegment(helper)
        note_produced(node, "\n".join(produced) if all(produced) else "")
        if drawn := joined([part for one in done for part in one.drawn]):
            note_drawn(node, drawn.to_dict(), {value: segment_id for segment_id, value in values.items()})
    job.changed(node)
    told = [one.data for one in done if one.data]
    volumes = {int(value): float(ml) for data in told for value, ml in data["volumes_ml"].items()}
    _note_volumes(node, {one: value for one, value in values.items() if one not in helpers}, volumes)
    job.summary = DrawingSummary(
        tuple(one for data in told for one in data.get("followed", ())),
        str(told[0].get("plane", "")),
        sum(float(data.get("seconds", 0.0)) for data in told),
        tuple(str(one) for data in told for one in data.get("warnings", ())),
        tuple(one for data in told for one in data.get("changed", ())),
    )
    return node


def _redrawn(request: DrawingRequest, done: Sequence[_Done], drawn_at: tuple[Any, ...]) -> Operation[Mapping[str, Any]]:
    """What `put_redrawn` takes, of the moment that it is put there: only voxels that followed, and none of a slice
    in which anything was drawn meanwhile."""
    node, volume = request.segmentation, request.nodes[0]
    for _attempt in range(_ATTEMPTS):
        stamp = mrml.content_stamp(node)
        images: dict[str, Any] = {}
        for one in done:
            values, array = one.layer.values, one.layer.drawing.array
            kept = one.labels == array
            there = {segment_id: value for segment_id, value in values.items() if segment_id in _names(node)}
            if stamp != drawn_at:
                now = yield from mrml.drawing_steps(node, volume, values)
                drawn = now.array != np.where(np.isin(array, [*there.values()]), array, 0)
                kept |= drawn
                for axis in {part.axis for part in one.drawn}:
                    kept |= drawn.any(axis=tuple(other for other in range(3) if other != 2 - axis), keepdims=True)
            images |= yield from redrawing_steps(node, volume, one.labels, there, kept)
        if mrml.content_stamp(node) == stamp:
            return images
    raise NodeError(
        _("{name} is being edited; it was left as it is.").format(name=node.GetName()),
        _("Finish the edit, then try it again."),
    )


def _names(node: Any) -> dict[str, str]:
    return {segment.id: segment.name for segment in mrml.drawn_segments(node)}


def _note_volumes(node: Any, values: Mapping[str, int], volumes: Mapping[int, float]) -> None:
    """The volumes of a result that is shown with them."""
    summary = summary_of(node)
    if summary is not None:
        segments = {segment.id: segment for segment in mrml.drawn_segments(node)}
        labels = tuple(
            Label(value, segments[one].name, segments[one].colour, segments[one].terminology)
            for one, value in values.items()
        )
        note_summary(node, replace(summary, labels=labels, volumes_ml=dict(volumes), cleaned={}))
