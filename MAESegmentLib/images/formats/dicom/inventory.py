"""What is in some DICOM files: the scans, by series, each of its images once."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydicom.errors import InvalidDicomError

from ....errors import MAESegmentError, VolumeReadError
from ...scans import is_dicom, is_named_dicom
from ..decoding import unreadable
from .headers import Instance, open_dicom, quiet_pydicom, read_instance, series_uid_of_damaged
from .pixels import read_frames

NO_UID = "no-uid-"
#: Modalities of what is drawn on scans.
SEG, RTSTRUCT = "SEG", "RTSTRUCT"


@dataclass(frozen=True, eq=False)
class Inventory:
    """Scan instances by series, and files that should be DICOM but cannot be read, with the reason if it is known.

    A series is named by its UID; one without by `NO_UID` and a hash of its folder and of what else tells series apart.
    """

    series: dict[str, list[Instance]]
    damaged: dict[Path, str]

    def damaged_of(self, uid: str) -> dict[Path, str]:
        """Damaged files that are slices of the series `uid`, or may be: beside them, and nobody can say whose."""
        instances = self.series[uid] if self.damaged else ()
        folders = {instance.path.parent for instance in instances}
        # Archives may give each slice a folder of its own: beside it are then the other folders.
        around = {folder.parent for folder in folders} if len(folders) == len(instances) > 1 else set()
        return {
            path: self.damaged[path]
            for path, owner in self._owners.items()
            if owner == uid or (not owner and (path.parent in folders or path.parent.parent in around))
        }

    @cached_property
    def damaged_apart(self) -> list[Path]:
        """Damaged files that are in no `damaged_of`: in folders of their own, and nobody can say whose."""
        counted = {path for uid in self.series for path in self.damaged_of(uid)}
        return [path for path in self.damaged if path not in counted]

    def empty_beside(self, instances: Iterable[Instance]) -> dict[Path, bool]:
        """What lies beside `instances` and has no content: empty files, links to nothing, pipes, devices.

        And whether it is called like one of them but for its number: it then stands for a slice that is lost.
        """
        patterns: dict[Path, set[str]] = {}
        for instance in instances:
            patterns.setdefault(instance.path.parent, set()).add(_pattern(instance.path))
        return {
            path: _pattern(path) in known
            for folder, known in patterns.items()
            for path in self._empty_in.get(folder, ())
        }

    @cached_property
    def _empty_in(self) -> dict[Path, list[Path]]:
        """By folder: each is looked through once, however many series lie in it."""
        folders = {instance.path.parent for instances in self.series.values() for instance in instances}
        return {
            folder: sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _is_empty(path))
            for folder in folders
            if folder.is_dir()
        }

    @cached_property
    def _owners(self) -> dict[Path, str]:
        """The series of each damaged file: what is left of its header names it, or only one beside is called so; ""."""
        alike: dict[tuple[Path, str], set[str]] = {}
        for uid, instances in self.series.items() if self.damaged else ():
            for instance in instances:
                alike.setdefault((instance.path.parent, _pattern(instance.path)), set()).add(uid)
        owners = {}
        for path in self.damaged:
            named = series_uid_of_damaged(path)
            called = alike.get((path.parent, _pattern(path)), set())
            owners[path] = named if named in self.series else next(iter(called)) if len(called) == 1 else ""
        return owners


def take_inventory(files: Iterable[Path]) -> Inventory:
    """Read the headers; files that are not DICOM images are left out, and so are copies of an image."""
    series: dict[str, list[Instance]] = {}
    damaged: dict[Path, str] = {}
    for path in files:
        try:
            instance = read_instance(path)
        except InvalidDicomError:
            if is_named_dicom(path):
                damaged[path] = ""
            continue
        except MAESegmentError as error:
            damaged[path] = error.message
            continue
        except OSError as error:
            damaged[path] = unreadable(path, error).message
            continue
        except Exception:  # pydicom lets struct, value, attribute and end-of-file errors of a broken header through
            damaged[path] = ""
            continue
        if instance is not None:
            series.setdefault(series_name(instance), []).append(instance)
    return Inventory({name: _without_copies(instances) for name, instances in series.items()}, damaged)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in `folder` and its subfolders, in a fixed order, hidden ones left out; links to nothing are files.

    Raises `VolumeReadError` for a subfolder that cannot be read: slices may lie in it.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(Path(os.fsdecode(error.filename)), error) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from _visible(Path(parent) / name for name in sorted(names))


def files_beside(file: Path) -> list[Path]:
    """`file` and every other file of its folder, hidden ones left out."""
    return sorted({file, *_visible(file.parent.iterdir())})


def series_name(instance: Instance) -> str:
    """The series UID, or what stands for it (see `Inventory`)."""
    identity = instance.identity
    if identity.series_uid:
        return identity.series_uid
    told_apart = (
        str(instance.path.parent),
        identity.patient_id,
        identity.patient_name,
        identity.study_uid,
        identity.frame_of_reference,
        identity.modality,
        instance.series_number,
        instance.description,
    )
    return NO_UID + hashlib.sha256("\0".join(told_apart).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _visible(files: Iterable[Path]) -> Iterator[Path]:
    for file in files:
        if file.name.startswith(".") or file.name.upper() == "DICOMDIR" or file.is_dir():
            continue
        if file.is_file() or is_dicom(file):  # also a link to nothing: a slice would be missing without a word
            yield file


def _is_empty(path: Path) -> bool:
    try:
        return not path.is_dir() and (not path.is_file() or path.stat().st_size == 0)
    except OSError:
        return True


def _pattern(path: Path) -> str:
    return re.sub(r"\d+", "#", path.name)


def _without_copies(instances: Sequence[Instance]) -> list[Instance]:
    """Each image once. The same SOPInstanceUID does not make a copy, only the same pixels at the same place as well."""
    alike: dict[tuple[object, ...], list[Instance]] = {}
    for instance in instances:
        alike.setdefault((instance.uid, instance.rows, instance.columns, *_place(instance)), []).append(instance)
    copies: set[Path] = set()
    for same in alike.values():
        known: set[str] = set()
        for instance in same if len(same) > 1 else ():
            digest = _digest(instance)
            if digest in known:
                copies.add(instance.path)
            known.add(digest)
    return [instance for instance in instances if instance.path not in copies]


def _place(instance: Instance) -> tuple[object, ...]:
    return tuple(
        None if vector is None else tuple(vector)
        for plane in instance.planes
        for vector in (plane.position, plane.orientation, plane.pixel_spacing)
    )


def _digest(instance: Instance) -> str:
    """Of the values of its voxels; of the file if these cannot be read."""
    digest = hashlib.sha256()
    try:
        for voxels in read_frames(instance.path, range(instance.frames))[0]:
            digest.update(voxels.tobytes())
    except MAESegmentError:
        digest = hashlib.sha256(b"file")
        with instance.path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def drawn_file(path: Path) -> tuple[Path, str]:
    """The file at `path`, or the only one in that folder, that is drawn on a scan; and which of the two it is."""
    if not path.is_dir():
        if modality := _drawn_modality(path):
            return path, modality
        raise VolumeReadError(f"{path.name} is not a DICOM SEG or RTSTRUCT.", "Give the segmentation, not the scan.")
    found = []
    for file in files_below(path):
        try:
            if modality := _drawn_modality(file):
                found.append((file, modality))
        except VolumeReadError:
            continue
    if len(found) != 1:
        what = f"{len(found)} DICOM SEGs or RTSTRUCTs" if found else "no DICOM SEG or RTSTRUCT"
        raise VolumeReadError(f"The folder {path.name} contains {what}.", "Give the segmentation's file.")
    return found[0]


def _drawn_modality(path: Path) -> str:
    """ "" for what is none of them."""
    try:
        with quiet_pydicom():
            modality = str(open_dicom(path, ["Modality"]).get("Modality") or "").strip(" \0")
    except MAESegmentError:
        raise
    except Exception as error:  # of what is not DICOM, or damaged: pydicom raises many kinds
        raise VolumeReadError(
            f"{path.name} is not a readable DICOM SEG or RTSTRUCT: {error or type(error).__name__}", "Export it again."
        ) from error
    return modality if modality in (SEG, RTSTRUCT) else ""
