"""A DICOM series as one volume, in rescaled units (CT: HU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.pixels import apply_rescale, get_decoder

from ..errors import MAESegmentError, VolumeReadError
from .decoded import LPS_TO_RAS, check_grid
from .dicom_headers import Instance, Inventory, files_below, quiet_pydicom, read_instance, take_inventory
from .dicom_stack import SliceStack, stack_slices
from .volume import Volume

_DAMAGED = "Export the series again from the archive (PACS)."


@dataclass(frozen=True)
class DicomSource:
    """The instances a volume was read from, in slice order (one file if multi-frame); a DICOM SEG refers to them."""

    series_uid: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder; `problem` says why it cannot be used, "" if it can."""

    uid: str
    description: str
    modality: str
    n_files: int
    problem: str = ""


def list_dicom_series(folder: Path) -> list[SeriesInfo]:
    """The scans below `folder`, largest first, each checked for completeness without reading pixels."""
    inventory = take_inventory(files_below(folder))
    infos = [_info(inventory, uid) for uid in inventory.series]
    return sorted(infos, key=lambda info: (-info.n_files, info.uid))


def read_dicom(path: Path, *, series_uid: str | None = None) -> Volume:
    """The series `series_uid`, or the only usable one, of a folder; or the series that a file belongs to."""
    if path.is_dir():
        inventory = take_inventory(files_below(path))
        uid = _choose(path, inventory, series_uid)
    else:
        inventory = take_inventory(sorted(item for item in path.parent.iterdir() if item.is_file()))
        uid = _series_of(path, inventory)
    others = len(inventory.series) - 1
    notes = (
        (f"{others} other series in {path.name} not used.",) if others and series_uid is None and path.is_dir() else ()
    )
    return _read_series(inventory, uid, notes)


def read_series_files(files: Sequence[Path], series_uid: str) -> Volume:
    """The series `series_uid` from exactly these files, which were found earlier, perhaps in several folders."""
    inventory = take_inventory(files)
    if series_uid not in inventory.series:
        if inventory.damaged:
            _refuse_damaged(inventory.damaged)
        raise VolumeReadError(
            f"The series {series_uid or '(no UID)'} is no longer in {files[0].parent.name}.",
            "Was it moved or replaced? List the folder again.",
        )
    return _read_series(inventory, series_uid)


def _read_series(inventory: Inventory, uid: str, notes: tuple[str, ...] = ()) -> Volume:
    instances = inventory.series[uid]
    _check_damaged(inventory, instances)
    if len(instances) == 1 and instances[0].frames > 1:
        return _read_multiframe(instances[0], notes)
    stack = stack_slices(_name(instances), instances)
    array = _read_slices(stack)
    return Volume(array[None], stack.grid.ijk_to_ras, source=DicomSource(uid, stack.files), notes=notes)


def _name(instances: Sequence[Instance]) -> str:
    first = instances[0]
    return f'DICOM series "{first.description or first.path.parent.name}"'


def _info(inventory: Inventory, uid: str) -> SeriesInfo:
    instances = inventory.series[uid]
    problem = ""
    try:
        _check_damaged(inventory, instances)
        if not (len(instances) == 1 and instances[0].frames > 1):
            stack_slices(_name(instances), instances)
    except MAESegmentError as error:
        problem = error.message
    first = instances[0]
    return SeriesInfo(uid, first.description, first.modality, len(instances), problem)


def _choose(folder: Path, inventory: Inventory, series_uid: str | None) -> str:
    if not inventory.series:
        if inventory.damaged:
            _refuse_damaged(inventory.damaged)
        raise VolumeReadError(
            f"The folder {folder.name} contains no DICOM images.",
            "Give a DICOM folder; any other image (.nii.gz, .nrrd, .mha) by its file name.",
        )
    if series_uid is not None:
        if series_uid not in inventory.series:
            raise VolumeReadError(f"{folder.name} has no series {series_uid}.", _listing(inventory))
        return series_uid
    if len(inventory.series) == 1:
        return next(iter(inventory.series))
    infos = sorted((_info(inventory, uid) for uid in inventory.series), key=lambda info: -info.n_files)
    usable = [info for info in infos if not info.problem]
    # A larger series that is broken may be the one that was meant: then do not guess.
    if len(usable) == 1 and usable[0] is infos[0]:
        return usable[0].uid
    raise VolumeReadError(
        f"The folder {folder.name} contains {len(infos)} series; say which one is meant.", _listing(inventory)
    )


def _listing(inventory: Inventory) -> str:
    lines = ["Choose a series by its UID:"]
    for info in sorted((_info(inventory, uid) for uid in inventory.series), key=lambda info: -info.n_files):
        state = f" - not usable: {info.problem}" if info.problem else ""
        lines.append(f"  {info.uid or '(no UID)'}  {info.modality} {info.description!r}, {info.n_files} file(s){state}")
    return "\n".join(lines)


def _series_of(path: Path, inventory: Inventory) -> str:
    for uid, instances in inventory.series.items():
        if any(instance.path == path for instance in instances):
            return uid
    if path in inventory.damaged:
        _refuse_damaged([path])
    instance = read_instance(path)
    if instance is None:
        raise VolumeReadError(f"{path.name} is a DICOM file, but not a scan.", "Give the scan's folder.")
    return instance.series_uid  # a copy of another file in the folder


def _check_damaged(inventory: Inventory, instances: Sequence[Instance]) -> None:
    """A broken file beside the series may be one of its slices."""
    folders = {instance.path.parent for instance in instances}
    beside = [path for path in inventory.damaged if path.parent in folders]
    if beside:
        _refuse_damaged(beside)


def _refuse_damaged(paths: Sequence[Path]) -> None:
    names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    raise VolumeReadError(f"{len(paths)} DICOM file(s) cannot be read: {names}.", _DAMAGED)


def _read_slices(stack: SliceStack) -> np.ndarray:
    """(I, J, K), int16 where that loses nothing, else float32."""
    i, j, k = stack.grid.shape
    voxels = np.empty((k, j, i), dtype=np.float32)
    for index, path in enumerate(stack.files):
        voxels[index] = _rescaled_pixels(path)
    return _compact(voxels).T


def _rescaled_pixels(path: Path) -> np.ndarray:
    """(J, I). What pydicom has no decoder for (lossless JPEG), ITK's GDCM decodes, and rescales."""
    try:
        with quiet_pydicom():
            dataset = pydicom.dcmread(path)
            syntax = dataset.file_meta.TransferSyntaxUID
            if syntax.is_compressed and not get_decoder(syntax).is_available:
                return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))[0]
            return apply_rescale(dataset.pixel_array, dataset)
    except Exception as error:  # decoders raise many kinds
        raise VolumeReadError(f"{path.name}: its pixels cannot be decoded; the file is damaged.", _DAMAGED) from error


def _compact(voxels: np.ndarray) -> np.ndarray:
    """int16 if that loses nothing."""
    limits = np.iinfo(np.int16)
    if voxels.min() < limits.min or voxels.max() > limits.max:
        return voxels
    whole = voxels.astype(np.int16)
    return whole if np.array_equal(whole, voxels) else voxels


def _read_multiframe(instance: Instance, notes: tuple[str, ...]) -> Volume:
    """An enhanced CT or MR file: highdicom orders its frames and insists on a regular stack."""
    name = _name([instance])
    if instance.is_colour:
        raise VolumeReadError(f"{name} is a colour image; the models need grey values.", "Choose the original scan.")
    try:
        with quiet_pydicom():
            volume = highdicom.imread(instance.path).get_volume(dtype=np.float32, apply_real_world_transform=False)
    except Exception as error:  # highdicom reports by ValueError, RuntimeError, AttributeError, ...
        raise VolumeReadError(
            f"{name} ({instance.path.name}, {instance.frames} frames) does not form one regular volume: {error}",
            "Load it in 3D Slicer, pick one volume and save it as NRRD or NIfTI.",
        ) from error
    array, ijk_to_ras = from_highdicom(volume)
    array = _compact(array)
    check_grid(instance.path, array.shape, ijk_to_ras)
    return Volume(array[None], ijk_to_ras, source=DicomSource(instance.series_uid, (instance.path,)), notes=notes)


def from_highdicom(volume: highdicom.Volume) -> tuple[np.ndarray, np.ndarray]:
    """(I, J, K) voxels and their IJK-to-RAS, slices ordered along their normal as in a series of single frames."""
    kji_to_lps = np.asarray(volume.affine)
    array = np.asarray(volume.array)
    slices, column, row = kji_to_lps[:3, :3].T
    if slices @ np.cross(row, column) < 0:
        array = array[::-1]
        kji_to_lps = kji_to_lps.copy()
        kji_to_lps[:3, 3] += (len(array) - 1) * slices
        kji_to_lps[:3, 0] = -slices
    return array.transpose(2, 1, 0), LPS_TO_RAS @ kji_to_lps[:, [2, 1, 0, 3]]
