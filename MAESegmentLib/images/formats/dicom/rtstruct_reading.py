"""DICOM RT Structure Sets of any origin: the contours of each structure, and the series that they were drawn on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from ....errors import MAESegmentError, VolumeReadError
from ...labels import Label, distinct_colour
from ...limits import memory_problem
from .belonging import SegReferences
from .codes import read_codes
from .headers import open_dicom, quiet_pydicom
from .structure_set import StructureSet

_HINT = "Export it again."
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_FEWEST_POINTS = 3
_MOST_STRUCTURES = 65535
_CONTOUR_DATA = Tag("ContourData")
#: Bytes in memory for each of a file's: of a coordinate, two characters at least become eight bytes, twice.
_WIDER = 8


def read_rtstruct(path: Path) -> StructureSet:
    """Values are the places of the structures in the file's list, from 1."""
    try:
        if problem := memory_problem(_WIDER * path.stat().st_size):
            raise VolumeReadError(
                f"{path.name} is too large for this computer: {problem}.",
                "Close other programs, or export fewer structures.",
            )
        with quiet_pydicom():
            return _structure_set(path, open_dicom(path, end=None))
    except MAESegmentError:
        raise
    except Exception as error:  # pydicom reports by ValueError, AttributeError, TypeError, ...
        raise _refused(path, f"is not a readable RTSTRUCT: {error or type(error).__name__}") from error


def _refused(path: Path, what: str) -> VolumeReadError:
    return VolumeReadError(f"{path.name} {what}", _HINT)


def _structure_set(path: Path, dataset: Dataset) -> StructureSet:
    rois = _items([dataset], "StructureSetROISequence")
    if not rois:
        raise _refused(path, "lists no structure (StructureSetROISequence).")
    if len(rois) > _MOST_STRUCTURES:
        raise _refused(path, f"lists {len(rois):,} structures; at most {_MOST_STRUCTURES:,} are read.")
    values = {int(roi.ROINumber): value for value, roi in enumerate(rois, 1)}
    if len(values) < len(rois):
        raise _refused(path, "contradicts itself: two of its structures have the same number (ROINumber).")
    structures: dict[int, list[Dataset]] = {}
    for structure in _items([dataset], "ROIContourSequence"):
        number = int(structure.ReferencedROINumber)
        if number not in values:
            raise _refused(path, f"contradicts itself: it has contours of structure {number}, which it does not list.")
        structures.setdefault(values[number], []).append(structure)
    labels, contours, notes = [], {}, []
    observed = {int(one.get("ReferencedROINumber") or 0): one for one in _items([dataset], "RTROIObservationsSequence")}
    for value, roi in enumerate(rois, 1):
        name = str(roi.get("ROIName") or "").strip(" \0") or f"ROI {roi.ROINumber}"
        own = structures.get(value, [])
        terminology = read_codes(observed.get(int(roi.ROINumber), Dataset()), "RTROIIdentificationCodeSequence")
        labels.append(Label(value, name, _colour(own, value), terminology))
        contours[value], said = _contours(path, name, _items(own, "ContourSequence"))
        notes += said
    drawn = {value for value, of_it in contours.items() if of_it}
    references = _references(path, dataset, [roi for value, roi in enumerate(rois, 1) if value in drawn])
    return StructureSet(path.name, tuple(labels), contours, references, tuple(notes))


def _items(holders: Iterable[Dataset], name: str) -> list[Dataset]:
    return [item for holder in holders for item in holder.get(name) or []]


def _colour(structures: Sequence[Dataset], value: int) -> tuple[int, int, int]:
    stored = [int(part) for part in next((one.get("ROIDisplayColor") for one in structures), None) or ()]
    if len(stored) != 3 or not all(0 <= part <= 255 for part in stored):
        return distinct_colour(value)
    return stored[0], stored[1], stored[2]


def _contours(path: Path, name: str, items: Sequence[Dataset]) -> tuple[list[np.ndarray], list[str]]:
    """The closed ones (N, 3), and what to say of others."""
    contours = []
    others: dict[str, int] = {}
    for item in items:
        kind = str(item.get("ContourGeometricType") or "").strip(" \0")
        if kind not in _CLOSED:
            what = f"of the type {kind or 'that it does not say'}"
        elif len(points := _points(path, name, item)) < _FEWEST_POINTS:
            what = f"of fewer than {_FEWEST_POINTS} points"
        else:
            contours.append(points)
            continue
        others[what] = others.get(what, 0) + 1
    notes = [f"{path.name}: {name!r}: {count} contours {what} enclose nothing." for what, count in others.items()]
    return contours, notes


def _points(path: Path, name: str, item: Dataset) -> np.ndarray:
    # As they are in the file, where they can be had: an object for every number would take minutes for a body.
    stored = item.get_item(_CONTOUR_DATA)
    values = stored.value if stored is not None else None
    if isinstance(values, bytes):
        values = values.strip(b" \0").split(b"\\")
    try:
        numbers = np.array(values if values is not None else [], dtype="S" if isinstance(values, list) else None)
        points = numbers.astype(float).reshape(-1, 3)
    except ValueError as error:
        raise _refused(path, f"is damaged: a contour of {name!r} is not a list of points.") from error
    promised = int(item.get("NumberOfContourPoints") or len(points))
    if promised != len(points) or not np.all(np.isfinite(points)):
        raise _refused(
            path, f"is damaged: a contour of {name!r} has {len(points)} points where {promised} are promised."
        )
    return points


def _references(path: Path, dataset: Dataset, drawn: Sequence[Dataset]) -> SegReferences:
    frames = _items([dataset], "ReferencedFrameOfReferenceSequence")
    named = {str(roi.get("ReferencedFrameOfReferenceUID") or "") for roi in drawn} - {""}
    named = named or {str(frame.get("FrameOfReferenceUID") or "") for frame in frames} - {""}
    if len(named) > 1:
        raise VolumeReadError(
            f"{path.name} has structures in {len(named)} frames of reference (FrameOfReferenceUID): which of them lie "
            "on the scan is not said.",
            "Export the structures of each scan by themselves.",
        )
    series = _items(_items(frames, "RTReferencedStudySequence"), "RTReferencedSeriesSequence")
    contours = _items(_items([dataset], "ROIContourSequence"), "ContourSequence")
    images = [*_items(series, "ContourImageSequence"), *_items(contours, "ContourImageSequence")]
    return SegReferences(
        path.name,
        next(iter(named), ""),
        frozenset(str(one.get("SeriesInstanceUID") or "") for one in series) - {""},
        frozenset(str(image.get("ReferencedSOPInstanceUID") or "") for image in images) - {""},
        str(dataset.get("PatientID") or "").strip(" \0"),
    )
