"""The calls of a console with which the rest of a scan follows from what was drawn."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..bundle.library import ModelChoice
from ..bundle.spec import check_channels
from ..errors import ConfigurationError
from ..images.formats.dicom.belonging import place_on
from ..images.labels import Label, is_background
from ..images.roi import Roi
from ..images.volume import LabelMap, Volume
from ..worker.client.requests import Drawing as DrawnMaps
from ..worker.client.requests import submit_drawing
from ..worker.job_folder import JobFolder, full_label_array
from .calls import several
from .handles import ConsoleJob
from .learning import Box, Host, Scan


@dataclass(frozen=True, eq=False)
class UpdatedVolume:
    """`label_map` has what was drawn exactly as it was; `followed` says how the rest of each structure was made."""

    label_map: LabelMap = field(repr=False)
    labels: tuple[Label, ...]
    followed: tuple[Mapping[str, Any], ...]
    plane: str
    volumes_ml: Mapping[int, float]
    seconds: float
    warnings: tuple[str, ...] = ()
    source: Volume | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `.seg.nrrd`, `.nii.gz`, or (of a DICOM scan) `.dcm` or `.rtstruct.dcm`; returns the file's path."""
        from ..images.writing import write_label_map

        return write_label_map(Path(path), self.label_map, self.labels, source=self.source)


class Drawing:
    """Part of `Console`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def update_scan(
        self,
        scan: Scan,
        label_map: LabelMap,
        model: ModelChoice = None,
        *,
        before: LabelMap | None = None,
        labels: Sequence[Label] | None = None,
        roi: Box | None = None,
        plane: str = "",
        device: str = "auto",
        out: str | os.PathLike[str] | None = None,
        wait: bool = True,
        callback: Callable[[ConsoleJob[UpdatedVolume]], None] | None = None,
    ) -> UpdatedVolume | ConsoleJob[UpdatedVolume]:
        """Let the rest of a scan follow from slices that were corrected, or on which a structure was drawn.

        `before` is the result that `label_map` was corrected from. Structures drawn on some slices only are found by
        themselves. `plane` ("axial", "coronal", "sagittal") is needed where it is ambiguous, which a `DrawingError`
        says. `labels` say what the values mean (default: those of `model`, if one is given). Nothing changes outside
        `roi`.
        """
        return self._submit(scan, label_map, model, before, labels, roi, device, out, wait, callback, plane=plane)

    def grow_scribbles(
        self,
        scan: Scan,
        label_map: LabelMap,
        model: ModelChoice = None,
        *,
        before: LabelMap | None = None,
        labels: Sequence[Label] | None = None,
        roi: Box | None = None,
        device: str = "auto",
        out: str | os.PathLike[str] | None = None,
        wait: bool = True,
        callback: Callable[[ConsoleJob[UpdatedVolume]], None] | None = None,
    ) -> UpdatedVolume | ConsoleJob[UpdatedVolume]:
        """Grow scribbles within a box about them (or `roi`): where `label_map` differs from the result `before`, else
        all of it. A label called "background" is what none of the others is to be. What `model` says guides them. The
        rest as in `update_scan`."""
        return self._submit(scan, label_map, model, before, labels, roi, device, out, wait, callback, scribbles=True)

    def _submit(
        self,
        scan: Scan,
        label_map: LabelMap,
        model: ModelChoice,
        before: LabelMap | None,
        labels: Sequence[Label] | None,
        roi: Box | None,
        device: str,
        out: str | os.PathLike[str] | None,
        wait: bool,
        callback: Callable[[ConsoleJob[UpdatedVolume]], None] | None,
        *,
        plane: str = "",
        scribbles: bool = False,
    ) -> UpdatedVolume | ConsoleJob[UpdatedVolume]:
        bundle = None if model is None else self._host.library.find(model)
        volume = self._host.read(scan)
        volume.grid.check()
        if bundle is not None:
            check_channels(len(volume.array), bundle.channels)
        maps = [placed_on(one, volume) for one in (label_map, before) if one is not None]
        known = _labels(maps, bundle if labels is None else None, labels)
        if out is not None:
            from ..images.writing import check_label_map_destination

            check_label_map_destination(Path(out), source=volume, labels=known)
        arrays = [_unsigned(one.array.T) for one in maps]
        names = {label.value: label.name for label in known}
        job = submit_drawing(
            self._host.client,
            [channel.T for channel in volume.array],
            volume.ijk_to_ras,
            DrawnMaps(arrays[0], names, arrays[1] if before is not None else None, plane),
            scribbles=scribbles,
            model=bundle,
            settings={"device": device} if bundle is not None else {},
            roi=None if roi is None else Roi.of(roi).bounds,
            working_folder=self._host.working_folder,
            finish=lambda data, folder: _result(data, folder, volume, known, out),
        )
        return self._host.handles.outcome(job, wait, callback)


def placed_on(label_map: LabelMap, volume: Volume) -> LabelMap:
    if not isinstance(label_map, LabelMap):
        raise ConfigurationError(
            f"A label map is not given as {type(label_map).__name__}.",
            "Give `read_label_map(file)`, or the `label_map` of what `process` returned.",
        )
    placed, notes = place_on(label_map, volume)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return placed


def _labels(maps: Sequence[LabelMap], bundle: Bundle | None, labels: Sequence[Label] | None) -> tuple[Label, ...]:
    """What was given or the model's, and a name for every other value that is drawn."""
    given = several(labels, (Label,), "Give `Label`s.") or (bundle.labels if bundle is not None else ())
    known = {label.value: label for label in given}
    for value in sorted({int(value) for one in maps for value in np.unique(one.array)} - {0, *known}):
        known[value] = Label(value, f"label {value}")
    return tuple(known.values())


def _unsigned(array: np.ndarray) -> np.ndarray:
    if array.dtype in (np.uint8, np.uint16):
        return array
    return array.astype(np.uint8 if array.max(initial=0) < 256 else np.uint16)


def _result(
    data: Mapping[str, Any],
    folder: JobFolder,
    volume: Volume,
    labels: tuple[Label, ...],
    out: str | os.PathLike[str] | None,
) -> Generator[float, None, UpdatedVolume]:
    block, origin = folder.read_labels(data["labels"])
    array = full_label_array(block, origin, volume.grid.shape)
    yield 0.5
    result = UpdatedVolume(
        label_map=LabelMap(array.T, volume.ijk_to_ras),
        labels=tuple(label for label in labels if not is_background(label.name)),
        followed=tuple(data.get("followed", ())),
        plane=str(data.get("plane", "")),
        volumes_ml={int(value): float(ml) for value, ml in data["volumes_ml"].items()},
        seconds=float(data["seconds"]),
        warnings=(*volume.notes, *map(str, data.get("warnings", ()))),
        source=volume,
    )
    if out is not None:
        result.save(out)
    return result
