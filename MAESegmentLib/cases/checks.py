"""Read a case and refuse it, by name, when it cannot be trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DatasetError, MAESegmentError
from ..images.formats.dicom.belonging import place_on
from ..images.labels import Label, same_names
from ..images.reading import read_drawing, read_volumes
from ..images.volume import LabelMap, Volume
from ..text import listed
from .case import IGNORED, Case

#: Label maps have fewer unnamed values than this, scans have more.
VALUES_OF_A_SCAN = 20


def read_image(case: Case, channels: int | None = None) -> Volume:
    """The case's image, all channels; raises `DatasetError` naming the case."""
    try:
        volume = read_volumes(case.image)
    except MAESegmentError as error:
        raise DatasetError(f"Case {case.id}: {error.message}", error.hint) from error
    if channels is not None and len(volume.array) != channels:
        raise DatasetError(
            f"Case {case.id}: the image has {len(volume.array)} channels, the other cases have {channels}.",
            'List one file per channel: {"image": ["t1.nii.gz", "t2.nii.gz"]}.',
        )
    if np.issubdtype(volume.array.dtype, np.inexact):
        bad = np.count_nonzero(~np.isfinite(volume.array))
        if bad:
            raise DatasetError(
                f"Case {case.id}: {bad} voxels of the image are NaN or infinite.",
                "Export the image again, or replace these voxels.",
            )
    return volume


def read_labels(
    case: Case, volume: Volume, labels: Mapping[str, int], wanted: Collection[str], ignore: int | None = None
) -> LabelMap:
    """The case's label map, checked against its image and against what its values may be.

    `labels` are all labels of the dataset, `wanted` those to be learnt, of which the map must hold at least one.
    Voxels of value `ignore` were not annotated.
    """
    label_map = read_reference(case, labels, ignore, volume)
    found = {int(value) for value in np.unique(label_map.array)}
    if not found & {labels[name] for name in wanted}:
        raise DatasetError(
            f"Case {case.id}: the label map has no voxel of {', '.join(wanted)}.",
            "Segment the case first, or leave it out.",
        )
    return label_map


def read_reference(
    case: Case, labels: Mapping[str, int], ignore: int | None = None, volume: Volume | None = None
) -> LabelMap:
    """The case's label map in the values of the dataset, on the grid of its image (None: read only if it matters).

    Raises `DatasetError` naming the case for values or segments that are no label of the dataset, and for a DICOM SEG
    or an RTSTRUCT that was drawn on another scan.
    """
    if case.label is None:
        raise DatasetError(f"Case {case.id}: there is no label map.", "Put it in labels/ under the image's name.")
    notes: tuple[str, ...] = ()
    try:
        drawing, segments = read_drawing(case.label)
        if isinstance(drawing, LabelMap) and not segments:
            label_map = drawing
        else:
            # Such files often hold only the part around the segments, or contours.
            volume = read_image(case) if volume is None else volume
            label_map, notes = place_on(drawing, volume)
    except DatasetError:
        raise
    except MAESegmentError as error:
        raise DatasetError(f"Case {case.id}: {error.message}", error.hint) from error
    if volume is not None:
        tolerance = label_map.tolerance_on(volume.grid, is_of_slices=volume.source is not None)
        if difference := label_map.grid.difference(volume.grid, tolerance):
            raise DatasetError(
                f"Case {case.id}: the label map does not lie on its image's grid: {difference}.",
                "Resample the label map to the image, or pair it with the image it was drawn on.",
            )
        label_map = replace(label_map, ijk_to_ras=volume.ijk_to_ras)
    try:
        meanings = meanings_of(label_map, segments, labels, ignore)
    except DatasetError as error:
        raise DatasetError(f"Case {case.id}: {error.message}", error.hint) from error
    if meanings.unclear:
        raise DatasetError(
            f"Case {case.id}: the label map has {meanings.unclear}.",
            f'Name them in "labels" of dataset.json, or remove them. Named: {dict(labels)}.{meanings.suspicion}',
        )
    return replace(label_map.with_values(meanings.values), notes=notes) if segments else label_map


@dataclass(frozen=True)
class Meanings:
    """`values` of a label map -> of the dataset; `unclear` says, in words, what has voxels and no label there.

    `missing` are labels of the dataset that the label map does not name (or, without names, has no voxel of).
    `suspicion` is a sentence, with a space before it, about what else may be the matter.
    """

    values: dict[int, int]
    unclear: str
    missing: tuple[str, ...]
    are_names: bool
    suspicion: str = ""


def perhaps_a_scan(values: int) -> str:
    """A sentence, with a space before it, if a label map has so many unnamed values that it may be none; else ""."""
    return " With so many values, it may be a scan, not a label map." if values > VALUES_OF_A_SCAN else ""


def meanings_of(
    label_map: LabelMap, segments: Sequence[Label], labels: Mapping[str, int], ignore: int | None = None
) -> Meanings:
    """What its values mean in a dataset of `labels`: by the segments' names where it has any, else by value.

    `DatasetError` for a segment that may be either of two labels, and for two that may be the same.
    """
    found = {int(value) for value in np.unique(label_map.array)} - {0}
    known = {**labels, "background": 0, **({} if ignore is None else {IGNORED: ignore})}
    if not segments:
        strangers = sorted(found - set(known.values()))
        unclear = f"values that the dataset does not name: {listed(strangers)}" if strangers else ""
        missing = tuple(name for name, value in labels.items() if value not in found)
        values = {value: value for value in found}
        return Meanings(values, unclear, missing, are_names=False, suspicion=perhaps_a_scan(len(strangers)))
    values = {}
    named: dict[str, list[str]] = {}
    unknown = {value: f"value {value}, which has no name" for value in sorted(found)}
    for segment in segments:
        alike = same_names(segment.name, known)
        if len(alike) > 1:
            raise DatasetError(
                f"Segment {segment.name!r} may be any of {', '.join(map(repr, alike))} of the dataset.",
                "Give the segment the label's exact name.",
            )
        has_voxels = unknown.pop(segment.value, None) is not None
        if alike:
            values[segment.value] = known[alike[0]]
            named.setdefault(alike[0], []).extend([segment.name] if has_voxels else [])
        elif has_voxels:
            unknown[segment.value] = repr(segment.name)
    twice = next((label for label, names in named.items() if len(names) > 1), None)
    if twice is not None:
        raise DatasetError(
            f"Segments {' and '.join(map(repr, named[twice]))} may both be {twice!r} of the dataset.",
            "Merge them, or give one of them another name.",
        )
    missing = tuple(name for name in labels if name not in named)
    unclear = f"segments that are not labels of the dataset: {listed([*unknown.values()])}" if unknown else ""
    return Meanings(values, unclear, missing, are_names=True)
