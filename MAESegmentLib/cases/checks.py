"""Read a case and refuse it, by name, when it cannot be trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import numpy as np

from ..errors import DatasetError, MAESegmentError
from ..images.reading import read_label_map, read_volumes
from ..images.volume import LabelMap, Volume
from .dataset import Case


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
    if case.label is None:
        raise DatasetError(f"Case {case.id}: there is no label map.", "Put it in labels/ under the image's name.")
    try:
        label_map = read_label_map(case.label)
    except MAESegmentError as error:
        raise DatasetError(f"Case {case.id}: {error.message}", error.hint) from error
    if difference := label_map.grid.difference(volume.grid):
        raise DatasetError(
            f"Case {case.id}: the label map does not lie on its image's grid: {difference}.",
            "Resample the label map to the image, or pair it with the image it was drawn on.",
        )
    found = {int(value) for value in np.unique(label_map.array)}
    unknown = sorted(found - {0, *labels.values(), *(() if ignore is None else (ignore,))})
    if unknown:
        raise DatasetError(
            f"Case {case.id}: the label map has values that the dataset does not name: {', '.join(map(str, unknown))}.",
            f'Name them in "labels" of dataset.json, or remove them. Named: {dict(labels)}.',
        )
    if not found & {labels[name] for name in wanted}:
        raise DatasetError(
            f"Case {case.id}: the label map has no voxel of {', '.join(wanted)}.",
            "Segment the case first, or leave it out.",
        )
    return label_map


def voxel_hash(array: np.ndarray) -> str:
    """sha256 of shape, type and voxels: recognises a case without telling what or whose it is."""
    digest = hashlib.sha256(f"{array.shape}{array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
