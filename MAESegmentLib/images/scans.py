"""Which files and folders are scans, by their names alone: nothing is read but the first bytes of files without one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

_IMAGES = (".nii", ".nii.gz", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd")
_DICOM = (".dcm", ".ima")
#: The longest first, where one ends like another.
_ENDINGS = tuple(sorted((*_IMAGES, *_DICOM), key=len, reverse=True))
#: So many files of a folder are looked into: a series may lie beside a note about it.
_LOOKED_AT = 8
#: Segmentations, not scans.
_SEGMENTATION = ".seg.nrrd"
_LABEL_FOLDERS = frozenset({"labels", "labelstr"})


def find_scans(places: Iterable[Path]) -> list[Path]:
    """Files as given, and every image file and DICOM folder in folders, at any depth; each once, by name.

    Folders called "labels" (or "labelsTr") and hidden ones are left out.
    """
    found: dict[Path, Path] = {}
    for place in places:
        for path in _in_folder(place) if place.is_dir() else (place,):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _in_folder(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        yield folder  # whoever reads it says why it cannot be
        return
    files = [entry for entry in entries if not entry.is_dir()]
    yield from (file for file in files if is_image(file))
    if not any(file.name.lower().endswith(_IMAGES) for file in files) and any(
        is_dicom(file) for file in files[:_LOOKED_AT]
    ):
        yield folder
        return
    for entry in entries:
        if entry.is_dir() and may_hold_scans(entry):
            yield from _in_folder(entry)


def is_image(file: Path) -> bool:
    """Whether its name is that of a scan in one file, not of a segmentation."""
    name = file.name.lower()
    return name.endswith(_IMAGES) and not name.endswith(_SEGMENTATION)


def without_ending(name: str) -> str:
    """A scan's file name without the ending of its format."""
    ending = next((e for e in _ENDINGS if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def may_hold_scans(folder: Path) -> bool:
    """Whether folders of this name are looked into: not hidden ones, nor those of label maps."""
    return not folder.name.startswith(".") and folder.name.lower() not in _LABEL_FOLDERS


def is_dicom(file: Path) -> bool:
    """By its ending, or by its first bytes if it has none."""
    if file.name.lower().endswith(_DICOM):
        return True
    if file.suffix and not file.suffix[1:].isdigit():
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False
