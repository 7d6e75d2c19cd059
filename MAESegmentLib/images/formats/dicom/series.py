"""A DICOM series as one volume, in rescaled units (CT: HU)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from ....errors import MAESegmentError, VolumeReadError
from ...volume import Volume
from .headers import EXPORT_AGAIN, Identity, Instance, read_instance
from .inventory import Inventory, files_below, files_beside, series_name, take_inventory
from .pixels import read_frames
from .rescale import Rescale, rescale_notes
from .stack import SliceStack, stack_slices


@dataclass(frozen=True)
class DicomSource:
    """What a volume was read from, slice by slice: a DICOM SEG or an RTSTRUCT refers to it.

    `series_uid` names the series (also one without a UID); `identity` is what its headers say. `files`, `instances`
    (SOPInstanceUID), `classes` (SOPClassUID) and `frames` (number in a file of several, from 1; 0 for a file of one)
    are in slice order.
    """

    series_uid: str
    identity: Identity
    files: tuple[Path, ...]
    instances: tuple[str, ...]
    classes: tuple[str, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder; `problem` says why it cannot be used, "" if it can. `folder` is its first file's."""

    uid: str
    description: str
    modality: str
    n_files: int
    problem: str = ""
    folder: str = ""


def list_dicom_series(folder: Path) -> list[SeriesInfo]:
    """The scans below `folder`, largest first, each checked for completeness without reading pixels."""
    return _infos(take_inventory(files_below(folder)))


def read_dicom(path: Path, *, series_uid: str | None = None) -> Volume:
    """The series `series_uid`, or the only usable one, of a folder; or the series that a file belongs to."""
    if path.is_dir():
        inventory = take_inventory(files_below(path))
        uid = _choose(path, inventory, series_uid)
    else:
        inventory = take_inventory(files_beside(path))
        uid = _series_of(path, inventory)
    others = len(inventory.series) - 1 if series_uid is None and path.is_dir() else 0
    return _read_series(inventory, uid, (f"{others} other series in {path.name} not used.",) if others else ())


def read_series_files(files: Sequence[Path], series_uid: str) -> Volume:
    """The series `series_uid` from exactly these files, which were found earlier, perhaps in several folders."""
    inventory = take_inventory(files)
    if series_uid not in inventory.series:
        if inventory.damaged:
            _refuse_damaged(inventory.damaged)
        raise VolumeReadError(
            f"The series {series_uid} is no longer in {files[0].parent.name}.",
            "Was it moved or replaced? List the folder again.",
        )
    return _read_series(inventory, series_uid)


def _read_series(inventory: Inventory, uid: str, notes: tuple[str, ...] = ()) -> Volume:
    instances = inventory.series[uid]
    _check_damaged(inventory, uid)
    name = _name(instances)
    stack = stack_slices(name, instances)
    array, rescales = _read_slices(name, stack)
    said = (*stack.notes, *_said_of(inventory, instances), *rescale_notes(rescales))
    notes += tuple(f"{name}: {note}" for note in said)
    files = [one.instance for one in stack.slices]
    source = DicomSource(
        uid,
        files[0].identity,
        tuple(file.path for file in files),
        tuple(file.uid for file in files),
        tuple(file.sop_class for file in files),
        tuple(one.index + 1 if one.instance.frames > 1 else 0 for one in stack.slices),
    )
    return Volume(array[None], stack.grid.ijk_to_ras, source=source, notes=notes)


def _name(instances: Sequence[Instance]) -> str:
    first = instances[0]
    return f'DICOM series "{first.description or first.path.parent.name}"'


def _infos(inventory: Inventory) -> list[SeriesInfo]:
    infos = [_info(inventory, uid) for uid in inventory.series]
    return sorted(infos, key=lambda info: (-info.n_files, info.uid))


def _info(inventory: Inventory, uid: str) -> SeriesInfo:
    instances = inventory.series[uid]
    problem = ""
    try:
        _check_damaged(inventory, uid)
        _check_promises(_name(instances), stack_slices(_name(instances), instances))
    except MAESegmentError as error:
        problem = error.message
    first = instances[0]
    return SeriesInfo(uid, first.description, first.identity.modality, len(instances), problem, first.path.parent.name)


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
            raise VolumeReadError(f"{folder.name} has no series {series_uid}.", _listing(_infos(inventory)))
        return series_uid
    if len(inventory.series) == 1:
        return next(iter(inventory.series))
    infos = _infos(inventory)
    usable = [info for info in infos if not info.problem]
    # A larger series that is broken may be the one that was meant: then do not guess.
    if len(usable) == 1 and usable[0] is infos[0]:
        return usable[0].uid
    error = VolumeReadError(
        f"The folder {folder.name} contains {len(infos)} series{_unlike(inventory)}; say which one is meant.",
        _listing(infos),
    )
    error.details = {"series": infos}
    raise error


def _unlike(inventory: Inventory) -> str:
    """That the series are not all of one patient and study, if so."""
    firsts = [instances[0].identity for instances in inventory.series.values()]
    compared = {
        "PatientID": {one.patient_id for one in firsts},
        "StudyInstanceUID": {one.study_uid for one in firsts},
    }
    unlike = [name for name, values in compared.items() if len(values) > 1]
    return f", which differ in {' and '.join(unlike)}" if unlike else ""


def _listing(infos: Iterable[SeriesInfo]) -> str:
    lines = ["Choose a series by its UID:"]
    for info in infos:
        state = f" - not usable: {info.problem}" if info.problem else ""
        lines.append(
            f"  {info.uid}  {info.modality} {info.description!r}, {info.n_files} file(s) in {info.folder}{state}"
        )
    return "\n".join(lines)


def _series_of(path: Path, inventory: Inventory) -> str:
    if path in inventory.damaged:
        _refuse_damaged({path: inventory.damaged[path]})
    instance = read_instance(path)
    if instance is None:
        raise VolumeReadError(f"{path.name} is a DICOM file, but not a scan.", "Give the scan's folder.")
    return series_name(instance)


def _check_damaged(inventory: Inventory, uid: str) -> None:
    """A broken file beside the series may be one of its slices."""
    instances = inventory.series[uid]
    if damaged := inventory.damaged_of(uid):
        _refuse_damaged(damaged, f"{_name(instances)}: ")
    lost = [path for path, is_named_alike in inventory.empty_beside(instances).items() if is_named_alike]
    if lost:
        raise VolumeReadError(
            f"{len(lost)} file(s) called like the slices have no content: {_names(lost)}.",
            "Export or copy the series again; remove files that are not slices.",
        )


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


def _refuse_damaged(damaged: Mapping[Path, str], whose: str = "") -> None:
    names = _names(list(damaged))
    reason = next((f" {reason}" for reason in damaged.values() if reason), "")
    raise VolumeReadError(f"{whose}{len(damaged)} DICOM file(s) cannot be read: {names}.{reason}", EXPORT_AGAIN)


def _said_of(inventory: Inventory, instances: Sequence[Instance]) -> list[str]:
    """What had to be assumed about the images, for the user."""
    notes = []
    named = [instance.uid for instance in instances if instance.uid]
    repeated = len(named) - len(set(named))
    if repeated:
        notes.append(
            f"{repeated} images have the SOPInstanceUID of another but lie elsewhere: each was taken as its own slice."
        )
    if any(instance.is_negative for instance in instances):
        notes.append(
            "the images are meant to be shown as negatives (MONOCHROME1); the values are read as stored and rescaled, "
            "not inverted."
        )
    if empty := list(inventory.empty_beside(instances)):
        notes.append(f"{len(empty)} file(s) beside the slices have no content and were passed over: {_names(empty)}.")
    if apart := inventory.damaged_apart:
        notes.append(
            f"{len(apart)} DICOM file(s) in other folders cannot be read and were passed over: {_names(apart)}."
        )
    return notes


def _check_promises(name: str, stack: SliceStack) -> None:
    """No file is shorter than the voxels that its header promises; before memory is taken for them."""
    for path, instance in {one.instance.path: one.instance for one in stack.slices}.items():
        try:
            present = path.stat().st_size
        except OSError as error:
            raise VolumeReadError(f"{name}: {path.name} is gone.", "List the folder again.") from error
        if present < instance.native_bytes:
            raise VolumeReadError(
                f"{name}: {path.name} is incomplete: its header promises {instance.native_bytes:,} bytes of voxels, "
                f"the file has {present:,}.",
                EXPORT_AGAIN,
            )


def _read_slices(name: str, stack: SliceStack) -> tuple[np.ndarray, list[Rescale]]:
    """(I, J, K), int16 where that loses nothing, else float32; and how each slice was rescaled."""
    _check_promises(name, stack)
    i, j, k = stack.grid.shape
    voxels = np.empty((k, j, i), dtype=np.float32)
    rescales: list[Rescale] = []
    places = enumerate(stack.slices)
    # Frames of one file that follow each other are decoded together.
    for path, group in groupby(places, key=lambda place: place[1].instance.path):
        wanted = list(group)
        frames, given = read_frames(path, [one.index for _, one in wanted])
        rescales += given
        for (index, _), frame in zip(wanted, frames, strict=True):
            voxels[index] = frame
    return _compact(voxels).T, rescales


def _compact(voxels: np.ndarray) -> np.ndarray:
    """int16 if that loses nothing."""
    limits = np.iinfo(np.int16)
    if not (voxels.min() >= limits.min and voxels.max() <= limits.max):  # also if there are NaN
        return voxels
    whole = voxels.astype(np.int16)
    return whole if np.array_equal(whole, voxels) else voxels
