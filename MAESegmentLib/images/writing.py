"""Results to disk: each file is complete or absent, and lies on exactly the grid it was computed for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import OutputError
from ..storage.atomic_file import check_writable, replacing
from .labels import Label
from .volume import LabelMap, Volume

_DICOM_NAME = "segmentation.dcm"


def check_label_map_destination(
    path: str | Path, *, source: Volume | None = None, labels: Sequence[Label] = ()
) -> None:
    """Raise now what `write_label_map` would raise about `path`, `source` and `labels` after minutes of work.

    Writes nothing that stays.
    """
    path = Path(path)
    target = _label_map_target(path)
    if _is_rtstruct(target):
        from .formats.dicom.rtstruct_writing import check_rtstruct_source

        check_rtstruct_source(source, labels)
    elif target.name.lower().endswith(".dcm"):
        from .formats.dicom.seg_writing import check_seg_source

        check_seg_source(source, labels)
    check_writable(target)


def write_label_map(
    path: str | Path,
    label_map: LabelMap,
    labels: Sequence[Label],
    *,
    source: Volume | None = None,
    volume_name: str = "",
) -> Path:
    """Write by extension: `.nii`, `.nii.gz`, `.seg.nrrd`; `.rtstruct.dcm` for RTSTRUCT, any other `.dcm` or an existing
    folder for DICOM SEG (both need `source`).

    Every label becomes a segment, also one without voxels. Returns the file written.
    """
    target = _label_map_target(Path(path))
    _check_values(target, label_map, labels)
    compact = LabelMap(_smallest(label_map.array), label_map.ijk_to_ras)
    with replacing(target) as temporary:
        if _is_rtstruct(target):
            from .formats.dicom.rtstruct_writing import write_rtstruct

            write_rtstruct(temporary, compact, labels, source, volume_name)
        elif target.name.lower().endswith(".dcm"):
            from .formats.dicom.seg_writing import write_dicom_seg

            write_dicom_seg(temporary, compact, labels, source, volume_name)
        elif target.name.lower().endswith(".seg.nrrd"):
            from .formats.seg_nrrd import write_seg_nrrd

            write_seg_nrrd(temporary, compact, labels)
        else:
            from .formats.nifti import write_nifti

            write_nifti(temporary, compact.array, compact.ijk_to_ras)
    return target


def _label_map_target(path: Path) -> Path:
    if path.is_dir():
        return path / _DICOM_NAME
    if not path.name.lower().endswith((".nii", ".nii.gz", ".seg.nrrd", ".dcm")):
        raise OutputError(
            f"{path.name}: a segmentation is not written in this format.",
            "Name the file .seg.nrrd (3D Slicer), .nii.gz, or, for DICOM input, .dcm (DICOM SEG) or .rtstruct.dcm.",
        )
    return path


def _is_rtstruct(target: Path) -> bool:
    """Also what is called `rtstruct.dcm` or `patient_RTSTRUCT.dcm`: nobody who names it so wants a DICOM SEG."""
    return target.name.lower().endswith("rtstruct.dcm")


def write_volume(path: str | Path, volume: Volume) -> Path:
    """Write maps (probability, entropy): NIfTI with the channels last, or NRRD with a vector per voxel."""
    path = Path(path)
    name = path.name.lower()
    array = volume.array[0] if volume.array.shape[0] == 1 else np.moveaxis(volume.array, 0, -1)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if name.endswith((".nii", ".nii.gz")):
        from .formats.nifti import write_nifti

        with replacing(path) as temporary:
            write_nifti(temporary, array, volume.ijk_to_ras)
        return path
    if name.endswith(".nrrd") and not name.endswith(".seg.nrrd"):
        from .formats.nrrd import write_nrrd

        with replacing(path) as temporary:
            write_nrrd(temporary, array, volume.ijk_to_ras)
        return path
    raise OutputError(f"{path.name}: an image is not written in this format.", "Name the file .nii.gz or .nrrd.")


def _check_values(path: Path, label_map: LabelMap, labels: Sequence[Label]) -> None:
    values = [label.value for label in labels]
    if len(set(values)) != len(values):
        raise OutputError(f"{path.name}: two labels have the same value ({sorted(values)}).", "Give each its own.")
    unknown = sorted(set(np.unique(label_map.array).tolist()) - {0, *values})
    if unknown:
        raise OutputError(
            f"{path.name}: the label map has values without a label: {unknown}.", "Give a label for each value."
        )


def _smallest(array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8 if array.max(initial=0) <= np.iinfo(np.uint8).max else np.uint16, copy=False)
