"""The door for images: one complete, regular, oriented 3D volume comes in, or a clear error goes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import GeometryError, VolumeReadError
from .formats.decoding import unreadable
from .labels import Label
from .limits import check_regular_file
from .scans import is_dicom
from .volume import LabelMap, Volume

if TYPE_CHECKING:
    from .formats.dicom.series import SeriesInfo
    from .formats.dicom.structure_set import StructureSet
    from .formats.overlapping import Overlapping

_PACKED = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar")
_EXTENSIONS = ".nii, .nii.gz, .hdr with .img, .mgz, .nrrd, .nhdr, .mha, .mhd, or a DICOM folder"


def read_volume(path: str | Path, *, series_uid: str | None = None) -> Volume:
    """One scan as (1, I, J, K) on its own grid; `series_uid` picks a series where a DICOM folder has several."""
    path = _existing(Path(path))
    if _names_segments(path):
        raise VolumeReadError(f"{path.name} is a segmentation, not a scan.", "Give the scan it was drawn on.")
    decode = _decoder(path)
    if decode is None:
        from .formats.dicom.series import read_dicom

        return _with_finite_voxels(path, read_dicom(path, series_uid=series_uid))
    return _with_finite_voxels(path, decode(path))


def read_series(files: Sequence[Path], series_uid: str) -> Volume:
    """The scan `series_uid` from exactly these DICOM files, as `read_volume` gives it; damaged ones are refused."""
    from .formats.dicom.series import read_series_files

    for path in files:
        _existing(path)
    return _with_finite_voxels(files[0].parent, read_series_files(files, series_uid))


def read_volumes(paths: Sequence[str | Path]) -> Volume:
    """Channels of one case, one scan each, stacked to (C, I, J, K); their grids must be the same."""
    volumes = [read_volume(path) for path in paths]
    if not volumes:
        raise VolumeReadError("No image was given.", "Give one file per channel.")
    first = volumes[0]
    for path, volume in zip(paths[1:], volumes[1:], strict=True):
        if difference := volume.grid.difference(first.grid):
            raise GeometryError(
                f"{Path(path).name} does not lie on the same voxel grid as {Path(paths[0]).name}: {difference}.",
                "Resample all channels to the first one (in Slicer: Resample Scalar/Vector/DWI Volume).",
            )
    if len(volumes) == 1:
        return first
    notes = tuple(dict.fromkeys(note for volume in volumes for note in volume.notes))
    return replace(first, array=np.concatenate([volume.array for volume in volumes]), notes=notes)


def read_label_map(path: str | Path, scan: Volume | None = None) -> LabelMap:
    """Whole numbers from 0 to 65535 as the smallest unsigned type; `.seg.nrrd` and DICOM SEG too.

    With `scan`, on its grid; an RTSTRUCT, whose contours have no grid, is read with it alone.
    """
    if scan is None:
        return read_segments(path)[0]
    from .formats.dicom.belonging import place_on

    label_map, notes = place_on(read_drawing(path)[0], scan)
    return replace(label_map, notes=notes)


def read_segments(path: str | Path) -> tuple[LabelMap, tuple[Label, ...]]:
    """A label map, and the segments that its values stand for; () where the file gives its values no names.

    Files that name their segments (`.seg.nrrd`, DICOM SEG) number them as they like: match them by name. Where segments
    overlap, the label map has the smallest, as its `notes` say.
    """
    from .formats.overlapping import Overlapping

    drawing, labels = read_drawing(path)
    if isinstance(drawing, Overlapping):
        drawing = drawing.merged()
        return replace(drawing, array=_labels(Path(path), drawing.array)), labels
    if isinstance(drawing, LabelMap):
        return drawing, labels
    raise VolumeReadError(
        f"{drawing.name} is an RTSTRUCT: contours, which become voxels on the scan that they were drawn on.",
        "In Python, give the scan, too: read_label_map(path, read_volume(scan)).",
    )


def read_drawing(path: str | Path) -> tuple[LabelMap | StructureSet | Overlapping, tuple[Label, ...]]:
    """As `read_segments`, and RTSTRUCT and segments that overlap; `belonging.place_on` puts any on its scan."""
    path = _existing(Path(path))
    decode = _decoder(path)
    labels: tuple[Label, ...] = ()
    image: LabelMap | Overlapping
    if _names_segments(path):
        from .formats.seg_nrrd import read_seg_nrrd

        image, labels = read_seg_nrrd(path)
    elif decode is None:
        from .formats.dicom.inventory import RTSTRUCT, drawn_file
        from .formats.dicom.rtstruct_reading import read_rtstruct
        from .formats.dicom.seg_reading import read_dicom_seg

        path, modality = drawn_file(path)
        if modality == RTSTRUCT:
            structures = read_rtstruct(path)
            return structures, structures.labels
        image, labels = read_dicom_seg(path)
    else:
        volume = decode(path)
        image = LabelMap(volume.array[0], volume.ijk_to_ras)
    if not isinstance(image, LabelMap):
        return image, labels
    return replace(image, array=_labels(path, image.array)), labels


def _names_segments(path: Path) -> bool:
    """Whether it is 3D Slicer's segmentation, whose header says so also where the ending does not."""
    name = path.name.lower()
    if name.endswith(".seg.nrrd"):
        return True
    if path.is_dir() or not name.endswith((".nrrd", ".nhdr")):
        return False
    from .formats.nrrd import key_values
    from .formats.seg_nrrd import names_segments

    return names_segments(key_values(path))


def _existing(path: Path) -> Path:
    try:
        path.stat()
        if path.is_dir():
            next(path.iterdir(), None)
            return path
        check_regular_file(path)
        with path.open("rb"):
            return path
    except OSError as error:
        raise unreadable(path, error) from error


def _decoder(path: Path) -> Callable[[Path], Volume] | None:
    """The reader for a file's extension; None means DICOM. Imports wait until a format is met."""
    name = path.name.lower()
    if path.is_dir():
        return None
    if name.endswith((".nii", ".nii.gz", ".hdr", ".hdr.gz")) or _is_of_pair(path):
        from .formats.nifti import read_nifti

        return read_nifti
    if name.endswith((".mgz", ".mgh")):
        from .formats.nifti import read_mgh

        return read_mgh
    if name.endswith((".nrrd", ".nhdr")):
        from .formats.nrrd import read_nrrd

        return read_nrrd
    if name.endswith((".mha", ".mhd")):
        from .formats.metaimage import read_metaimage

        return read_metaimage
    if is_dicom(path):
        return None
    if name.endswith(_PACKED):
        raise VolumeReadError(f"{path.name} is an archive.", "Unpack it and give the folder or the scan in it.")
    raise VolumeReadError(f"{path.name} is of an unknown kind.", f"Give {_EXTENSIONS}.")


def _is_of_pair(path: Path) -> bool:
    """Whether an `.img` has its NIfTI header beside it; without one it may be DICOM."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(".img") and any(
        path.with_name(f"{path.name[: len(name) - 4]}.hdr{packed}").is_file() for packed in ("", ".gz")
    )


def _with_finite_voxels(path: Path, volume: Volume) -> Volume:
    """NaN marks "no data" in resampled images and becomes the lowest value; infinity is a computation gone wrong."""
    array = volume.array
    if array.dtype.kind == "f":
        if np.any(np.isinf(array)):
            raise VolumeReadError(
                f"{path.name} has infinite voxel values: a computation that made it went wrong.",
                "Repair or export the scan again.",
            )
        missing = np.isnan(array)
        count = int(np.count_nonzero(missing))
        if count == array.size:
            raise VolumeReadError(f"{path.name} holds no image: every voxel is NaN (not a number).", "Export it again.")
        if count:
            array = np.where(missing, np.nanmin(array), array)
            share = 100 * count / array.size
            note = (
                f"{path.name}: {count:,} voxels without a value (NaN, {share:.2g} %) were set to the image's minimum."
            )
            volume = replace(volume, array=array, notes=(*volume.notes, note))
    if array.min() == array.max():
        raise VolumeReadError(f"{path.name} is blank: every voxel has the value {array.flat[0]}.", "Export it again.")
    return volume


def _labels(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        if not np.all(np.abs(array - rounded) < 1e-3):  # also false for NaN
            raise VolumeReadError(
                f"{path.name} is not a label map: it has values that are not whole numbers.",
                "Give the segmentation, not the scan or a probability map.",
            )
        array = rounded
    lowest, highest = array.min(), array.max()
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise VolumeReadError(
            f"{path.name} is not a label map: its values run from {lowest} to {highest}; labels run from 0 to 65535.",
            "Give the segmentation, not the scan.",
        )
    return array.astype(np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16, copy=False)


def list_series(folder: str | Path) -> list[SeriesInfo]:
    """The scans in a DICOM folder, largest first, each with the reason why it cannot be used, if any."""
    from .formats.dicom.series import list_dicom_series

    return list_dicom_series(_existing(Path(folder)))
