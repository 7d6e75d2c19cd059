"""The voxels of a case as they are stored, and its files."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..images.hashing import voxel_hash
from ..images.labels import Label, by_name, other_names
from ..images.volume import LabelMap, Volume
from ..images.volumetry import volumes_ml
from .layout import LABEL, RECORD, THUMBNAIL, LabelTable, image_names
from .records import IGNORE, CaseRecord
from .region import inside
from .submission import CaseSubmission

_EXPORT_AGAIN = "Export the scan again from its source."


def stored_image(volume: Volume) -> Volume:
    """The volume in the type in which it will be read again; voxels without a value (NaN) become the channel's lowest.

    `DatasetError` if a channel is blank or has infinite voxels: nobody could read it again.
    """
    array = volume.array
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"The scan's voxels are not plain numbers ({array.dtype}).", _EXPORT_AGAIN)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        array = array.astype(_storable_type(array), copy=False)
    for number in range(len(array)):
        which = f"Channel {number + 1} of the scan" if len(array) > 1 else "The scan"
        array = _with_finite_voxels(array, number, which)
        low, high = array[number].min(), array[number].max()
        if low == high:
            raise DatasetError(f"{which} is blank: every voxel has the value {low}.", _EXPORT_AGAIN)
    return Volume(array, np.asarray(volume.ijk_to_ras, dtype=float))


@dataclass(frozen=True, eq=False)
class StoredLabels:
    """`label_map` (uint8) in the values of the store's table, 255 where nothing was annotated.

    `volumes_ml` has the labels annotated here; `empty` are those of the submission that count as not annotated.
    """

    label_map: LabelMap
    volumes_ml: dict[str, float]
    empty: tuple[str, ...]

    @property
    def partial(self) -> bool:
        return bool(np.any(self.label_map.array == IGNORE))

    @property
    def hash(self) -> str:
        return voxel_hash(self.label_map.array)


def stored_labels(label_map: LabelMap, submission: CaseSubmission, table: LabelTable) -> StoredLabels:
    """Of a `submission` in which `check_submission` finds no error, with a `table` that has its labels."""
    named = {label.value: by_name(table.labels)[label.name] for label in submission.labels}
    array = label_map.with_values({value: label.value for value, label in named.items()}).array.astype(np.uint8)
    if submission.region:
        part = inside(submission.region, label_map.grid)
        kept = part.values(array)
        array.fill(IGNORE)
        array[part.block][part.mask] = kept
    stored = LabelMap(array, label_map.ijk_to_ras)
    labels = list(dict.fromkeys(named.values()))
    sizes = volumes_ml(stored, labels)
    not_annotated = other_names((label.name for label in labels if not sizes[label.value]), submission.absent)
    found = {label.name: sizes[label.value] for label in labels if label.name not in not_annotated}
    return StoredLabels(stored, found, not_annotated)


def packed(image: Volume) -> list[bytes]:
    """The image files' content, one a channel: compressing takes most of the time, and needs no lock."""
    from ..images.formats.nifti import pack_nifti

    return [pack_nifti(channel, image.ijk_to_ras) for channel in image.array]


def write_case(
    folder: Path, image: Volume, files: Sequence[bytes], labels: StoredLabels, record: CaseRecord, table: LabelTable
) -> None:
    """All files of a case into the empty `folder`; `files` are `packed(image)`. `OSError` as the disk has it."""
    from ..images.formats.nifti import write_nifti
    from .thumbnail import write_thumbnail

    for name, content in zip(image_names(record.channels), files, strict=True):
        (folder / name).write_bytes(content)
    write_nifti(folder / LABEL, labels.label_map.array, labels.label_map.ijk_to_ras)
    used = [label for label in table.labels if label.name in record.labels]
    write_thumbnail(folder / THUMBNAIL, image, labels.label_map, used)
    (folder / RECORD).write_text(record_text(record, used), encoding="utf-8")


def record_text(record: CaseRecord, used: Collection[Label]) -> str:
    """`case.json`: the record, and what the values in the case's label map mean."""
    content: dict[str, Any] = {**record.to_dict(), "values": [label.to_dict() for label in used]}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def _with_finite_voxels(array: np.ndarray, number: int, which: str) -> np.ndarray:
    """`array` (C, I, J, K) with the lowest value where channel `number` has none; a copy if there are such voxels."""
    channel = array[number]
    if array.dtype.kind != "f" or np.all(np.isfinite(channel)):
        return array
    if np.any(np.isinf(channel)):
        raise DatasetError(f"{which} has infinite voxel values.", _EXPORT_AGAIN)
    missing = np.isnan(channel)
    if np.all(missing):
        raise DatasetError(f"{which} holds no image: every voxel is NaN (not a number).", _EXPORT_AGAIN)
    mended = array.copy()
    mended[number][missing] = np.nanmin(channel)
    return mended


def _storable_type(array: np.ndarray) -> np.dtype:
    """The same type, but for what NIfTI lacks or no reader keeps: single precision is what everything computes in."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        lowest, highest = int(array.min(initial=0)), int(array.max(initial=0))
        fits = np.iinfo(np.int32).min <= lowest and highest <= np.iinfo(np.int32).max
        return np.dtype(np.int32 if fits else np.float32)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype
