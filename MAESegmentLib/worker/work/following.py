"""What the worker does with what a user drew: the rest of the scan follows, or scribbles grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle import Bundle, open_bundle
from ...errors import WorkerError
from ...images.labels import Label, is_background
from ...images.roi import Roi
from ...images.volume import LabelMap, Volume
from ...images.volumetry import volumes_ml, voxel_ml
from ...inference.predictor import Predictor
from ...propagation.drawn import Drawn, axis_of_plane
from ...propagation.evidence import shares_in
from ...propagation.scribbles import Block, grow_scribbles
from ...propagation.update import update_scan
from ..job_folder import JobFolder
from ..protocol import GrowScribbles, Message, Result, UpdateScan
from .stage_clock import StageClock

Send = Callable[[Message], None]
#: The loaded network of a model with the chosen settings.
PredictorOf = Callable[[Bundle, Mapping[str, Any]], Predictor]


def update(request: UpdateScan, send: Send, should_cancel: Callable[[], bool]) -> Result:
    """`data` has the labels, what was drawn, and how each structure followed."""
    clock, folder, volume, now, before = _opened(request, send)
    names = {int(value): name for value, name in request.names.items()}
    updated = update_scan(
        now,
        before,
        names,
        volume=volume,
        within=_within(request, volume),
        axis=axis_of_plane(request.plane, volume.ijk_to_ras) if request.plane else None,
        earlier=_earlier(request),
        report=lambda fraction: clock.report("segment", fraction),
        should_cancel=should_cancel,
    )
    data = {
        "drawn": updated.drawn.to_dict(),
        "plane": updated.plane,
        "followed": [one.to_dict() for one in updated.followed],
        "warnings": list(updated.notes),
    }
    return _written(request.id, clock, folder, updated.label_map, names, data)


def grow(request: GrowScribbles, send: Send, should_cancel: Callable[[], bool], predictor_of: PredictorOf) -> Result:
    """`data` has the labels, which of them the scribbles could become, and what each gained and lost beside them."""
    clock, folder, volume, now, before = _opened(request, send)
    names = {int(value): name for value, name in request.names.items()}
    clock.enter("segment")
    predictor = predictor_of(open_bundle(request.model), request.settings) if request.model else None

    def prior(box: Block) -> dict[int, np.ndarray]:
        assert predictor is not None
        return shares_in(
            predictor,
            volume,
            box,
            names,
            report=lambda fraction: clock.report("segment", fraction),
            should_cancel=should_cancel,
        )

    grown = grow_scribbles(
        volume,
        now,
        before,
        names,
        within=_within(request, volume),
        prior=prior if predictor is not None else None,
        earlier=_earlier(request),
        should_cancel=should_cancel,
    )
    _confine(request, now, grown.label_map)
    data: dict[str, Any] = {"values": list(grown.values), "warnings": []}
    data["changed"] = _changed(now, grown.label_map.array, names)
    if grown.drawn is not None:
        data["drawn"] = grown.drawn.to_dict()
    return _written(request.id, clock, folder, grown.label_map, names, data)


def _changed(now: LabelMap, grown: np.ndarray, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Of each structure that became larger or smaller than it was drawn: by how much, in ml."""
    differ = now.array != grown
    lost, gained = (np.bincount(one[differ], minlength=max(names, default=0) + 1) for one in (now.array, grown))
    ml = voxel_ml(now)
    return [
        {"name": name, "more_ml": round(gained[value] * ml, 4), "less_ml": round(lost[value] * ml, 4)}
        for value, name in names.items()
        if not is_background(name) and (gained[value] or lost[value])
    ]


def _opened(
    request: UpdateScan | GrowScribbles, send: Send
) -> tuple[StageClock, JobFolder, Volume, LabelMap, np.ndarray | None]:
    """The job's clock and folder, the scan, and the segmentation as it is and as it was produced."""
    clock = StageClock(request.id, send)
    clock.enter("load")
    folder = JobFolder(Path(request.folder))
    volume = folder.read_volume()
    volume.grid.check()
    before = folder.read_label_map(volume, before=True).array if request.has_before else None
    return clock, folder, volume, folder.read_label_map(volume), before


def _within(request: UpdateScan | GrowScribbles, volume: Volume) -> Block | None:
    return Roi.of(request.roi).voxels(volume.grid) if request.roi else None


def _confine(request: GrowScribbles, now: LabelMap, grown: LabelMap) -> None:
    """Leave voxels outside the box as they are: in an oblique scan the block around it holds some."""
    if request.roi:
        for plane, outside in Roi.of(request.roi).planes_outside(now.grid):
            grown.array[plane][outside] = now.array[plane][outside]


def _earlier(request: UpdateScan | GrowScribbles) -> Drawn | None:
    try:
        return Drawn.from_dict(request.earlier) if request.earlier else None
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise WorkerError(
            f"What an update before was told cannot be read: {error}", "Draw on a new segmentation."
        ) from error


def _written(
    request_id: str,
    clock: StageClock,
    folder: JobFolder,
    label_map: LabelMap,
    names: dict[int, str],
    data: dict[str, Any],
) -> Result:
    clock.enter("write")
    labels = folder.write_labels(label_map)
    block, _origin = folder.read_labels(labels)
    volumes = volumes_ml(LabelMap(block.T, label_map.ijk_to_ras), [Label(value, name) for value, name in names.items()])
    clock.end()
    volumes_by_value = {str(value): round(ml, 4) for value, ml in volumes.items()}
    return Result(
        request_id, {**data, "labels": labels, "volumes_ml": volumes_by_value, "seconds": round(clock.total, 4)}
    )
