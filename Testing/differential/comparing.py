"""One subject, read here and by the field's readers: equal, refused, or different, for an agreed reason or not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.images import Grid, read_label_map, read_volume
from MAESegmentLib.images.reading import read_drawing
from MAESegmentLib.images.volume import Volume

from .agreed import reason_for
from .references import CannotRead, Segment, centres, reference_image, reference_segments, reference_slices
from .subjects import DICOM, DICOM_SEG, SEG_NRRD, Subject

EQUAL, REFUSED, AGREED, DISAGREE = "equal", "refused", "agreed", "DISAGREE"
#: Headers round; nobody sees a fiftieth of a millimetre.
_MM = 0.02


@dataclass(frozen=True)
class Outcome:
    """`text` is our refusal, the reason agreed upon, or the difference."""

    kind: str
    text: str = ""


def compare(subject: Subject) -> Outcome:
    """Read `subject` twice; anything but a clear error or the reference's image, or a known difference, is DISAGREE."""
    try:
        difference, notes = _difference(subject)
    except MAESegmentError as refusal:
        return Outcome(REFUSED, refusal.message) if refusal.message else Outcome(DISAGREE, "refused without a reason")
    except CannotRead as error:
        difference, notes = f"read here, but not by others ({error})", ()
    except Exception as error:  # whatever it is, it should have been a clear refusal
        return Outcome(DISAGREE, f"{type(error).__name__}: {error}")
    if not difference:
        return Outcome(EQUAL)
    agreed = reason_for(subject, difference, notes)
    return Outcome(AGREED, agreed) if agreed else Outcome(DISAGREE, difference)


def _difference(subject: Subject) -> tuple[str, tuple[str, ...]]:
    """What is different, "" if nothing is, and the notes of our reader."""
    if subject.kind == SEG_NRRD:
        return _of_segments(subject), ()
    if subject.kind == DICOM:
        volume = read_volume(subject.path, series_uid=subject.series_uid)
        return _of_slices(subject, volume), volume.notes
    if subject.kind == DICOM_SEG:
        label_map = read_label_map(subject.path)
        volume = Volume(label_map.array[None], label_map.ijk_to_ras)
    else:
        volume = read_volume(subject.path)
    reference = reference_image(subject)
    difference = image_difference(volume.array[0], volume.ijk_to_ras, reference.array, reference.ijk_to_ras)
    return difference and f"{reference.reader}: {difference}", volume.notes


def image_difference(array: np.ndarray, ijk_to_ras: np.ndarray, other: np.ndarray, other_ijk_to_ras: np.ndarray) -> str:
    """Of two images (I, J, K): where voxels lie, then what they hold; the slices may be stored the other way round."""
    if array.shape != other.shape:
        return f"{array.shape} voxels instead of {other.shape}"
    if np.sign(np.linalg.det(ijk_to_ras)) != np.sign(np.linalg.det(other_ijk_to_ras)):
        turn = np.diag([1.0, 1.0, -1.0, 1.0])
        turn[2, 3] = other.shape[2] - 1
        other, other_ijk_to_ras = other[:, :, ::-1], other_ijk_to_ras @ turn
    i, j, k = array.shape
    if place := Grid((i, j, k), ijk_to_ras).difference(Grid((i, j, k), other_ijk_to_ras), _MM):
        return f"place: {place}"
    return values_difference(array, other)


def values_difference(array: np.ndarray, other: np.ndarray) -> str:
    """Of two arrays of one shape; single precision, and NaN as the minimum of the others, are our reader's own."""
    expected = np.asarray(other, dtype=float)
    if np.isnan(expected).any():
        expected = np.where(np.isnan(expected), np.nanmin(expected), expected)
    largest = float(np.abs(expected).max(initial=0.0))
    apart = np.abs(np.asarray(array, dtype=float) - expected)
    worst = float(apart.max(initial=0.0))
    if math.isfinite(worst) and worst <= 1e-5 * largest:
        return ""
    at = tuple(int(n) for n in np.unravel_index(int(np.argmax(apart)), apart.shape))
    return f"values: {np.asarray(array)[at]:g} instead of {expected[at]:g} at {at}, {np.mean(apart > 0):.0%} differ"


def _of_slices(subject: Subject, volume: Volume) -> str:
    """Every file of the series lies in our volume, where GDCM says, with GDCM's values."""
    to_ijk = np.linalg.inv(volume.ijk_to_ras)
    seen = set()
    for path, slices, ijk_to_ras in reference_slices(subject.path, volume.source.files):
        first = to_ijk @ ijk_to_ras[:, 3]
        k = round(float(first[2]))
        depth = slices.shape[2] if slices.ndim == 3 else 1
        if not 0 <= k <= volume.array.shape[3] - depth:
            return f"{path.name} lies outside of the volume (slice {first[2]:.2f} of {volume.array.shape[3]})"
        here = volume.ijk_to_ras.copy()
        here[:3, 3] = (volume.ijk_to_ras @ [0, 0, k, 1])[:3]
        part = volume.array[0, :, :, k : k + depth]
        corner = np.array(ijk_to_ras)
        if depth == 1:
            corner[:3, 2] = here[:3, 2]  # one slice does not know the distance to the next
        if difference := image_difference(part, here, slices.reshape(*slices.shape[:2], depth), corner):
            return f"{path.name}: {difference}"
        seen.update(range(k, k + depth))
    missing = volume.array.shape[3] - len(seen)
    return f"{missing} slices of the volume are in none of its files" if missing else ""


def _of_segments(subject: Subject) -> str:
    drawing, labels = read_drawing(subject.path)
    layers: Any = getattr(drawing, "layers", (drawing,))  # several where segments overlap
    here = [
        Segment(
            label.name,
            np.concatenate([centres(np.argwhere(one.array == label.value), one.ijk_to_ras) for one in layers]),
        )
        for label in labels
    ]
    there = reference_segments(subject.path)
    return segments_difference(here, there)


def segments_difference(here: list[Segment], there: list[Segment]) -> str:
    """Of two lists of segments, by name and place."""
    names, others = [segment.name for segment in here], [segment.name for segment in there]
    if names != others:
        return f"segments {names} instead of {others}"
    for one, other in zip(here, there, strict=True):
        if one.points.shape != other.points.shape or not np.allclose(one.points, other.points, atol=_MM):
            return f"segment {one.name!r} has {len(one.points)} voxels, {len(other.points)} in 3D Slicer"
    return ""
