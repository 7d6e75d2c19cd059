"""What a user drew into a segmentation, as it is understood before anything follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import mrml
from ..errors import DrawingError
from ..jobs import Job, in_thread
from ..jobs.runner import Operation
from ..propagation.drawn import CHOOSE_PLANE, Drawn, axis_of_plane, plane_of
from ..propagation.planes import find_all, unused
from ..translation import tr as _
from ..worker.client.requests import Drawing
from .drawing_job import DrawingRequest, read_layers, values_of
from .session import SceneSession


@dataclass(frozen=True)
class Understood:
    """Slices of a `plane` ("axial"): so many of a result were `corrected`, where structures called `names` changed, and
    `structures` (name, slices) were drawn on some slices only. `also` is what was drawn in other planes, `notes` say
    what cannot be used.

    `problem` says why the rest of the scan cannot follow; `is_ambiguous`: because the plane is not clear.
    `has_strokes`: whether anything was drawn that could grow.
    """

    plane: str = ""
    corrected: int = 0
    names: tuple[str, ...] = ()
    structures: tuple[tuple[str, int], ...] = ()
    also: tuple[Understood, ...] = ()
    notes: tuple[str, ...] = ()
    problem: DrawingError | None = None
    is_ambiguous: bool = False
    has_strokes: bool = False


def start_looking(
    session: SceneSession, request: DrawingRequest, callback: Callable[[Job[Understood]], object] | None = None
) -> Job[Understood]:
    """Find out what `start_drawing` of the same request would take for drawn."""
    job: Job[Understood] = Job(session.loop, mrml.distinct_name(request.nodes[0]))
    return job.run(_look(request), callback)


def _look(request: DrawingRequest) -> Operation[Understood]:
    yield 0.0
    image = mrml.image_of(request.nodes)
    values = values_of(mrml.drawn_segments(request.segmentation), request)
    layers = yield from read_layers(request, values, image.grid.shape)
    found = yield from in_thread(lambda: [_understood(one.told, one.drawing.ijk_to_world) for one in layers])
    return _together(found)


def _together(found: Sequence[Understood]) -> Understood:
    """Of segments that overlap."""
    for is_wanted in (lambda one: one.is_ambiguous, lambda one: one.problem is None, lambda _one: True):
        chosen = [one for one in found if is_wanted(one)]
        if chosen:
            break
    first, *others = chosen
    others = others if first.problem is None else []
    return replace(
        first,
        also=(*first.also, *(part for one in others for part in (replace(one, also=(), notes=()), *one.also))),
        notes=tuple(note for one in (first, *others) for note in one.notes),
        has_strokes=any(one.has_strokes for one in found),
    )


def _understood(made: Drawing, ijk_to_world: Any) -> Understood:
    now = made.array.transpose(2, 1, 0)
    before = None if made.before is None else made.before.transpose(2, 1, 0)
    changed = now != (0 if before is None else before)
    found = Understood(has_strokes=bool(changed.any()))
    if before is not None and not found.has_strokes:
        advice = _("Correct one to three slices of it, or draw a new structure on every fourth slice or so.")
        return replace(found, problem=DrawingError(_("Nothing was drawn since this result was made."), advice))
    axis = axis_of_plane(made.plane, ijk_to_world) if made.plane else None
    earlier = Drawn.from_dict(made.earlier) if made.earlier else None
    try:
        drawn = find_all(now, before, made.names, axis=axis, earlier=earlier)
    except DrawingError as error:
        return replace(found, problem=error, is_ambiguous=error.hint == CHOOSE_PLANE)
    first, *others = (
        _part(part, changed, now, before, made.names, ijk_to_world)
        for part in (drawn, *(drawn.also if earlier is None else ()))
    )
    notes = tuple(unused(now, before, made.names, drawn, ijk_to_world))
    return replace(first, has_strokes=found.has_strokes, also=tuple(others), notes=notes)


def _part(
    part: Drawn,
    changed: np.ndarray,
    now: np.ndarray,
    before: np.ndarray | None,
    names: Mapping[int, str],
    ijk_to_world: Any,
) -> Understood:
    """What was drawn in one plane."""
    there = np.moveaxis(changed, part.axis, 0)[list(part.corrected)]
    touched = {
        int(value)
        for labels in (now, before)
        if labels is not None and before is not None
        for value in np.unique(np.moveaxis(labels, part.axis, 0)[list(part.corrected)][there])
    }
    return Understood(
        plane=plane_of(part.axis, ijk_to_world),
        corrected=len(part.corrected),
        names=tuple(names[value] for value in sorted(touched - set(part.structures)) if value in names),
        structures=tuple((names[value], len(slices)) for value, slices in part.structures.items()),
    )
