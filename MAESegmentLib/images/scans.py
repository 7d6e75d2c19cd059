"""Which files and folders are scans: images by their endings, DICOM by its first bytes, whatever the file is called."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import VolumeReadError

_IMAGES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd")
#: Files that are meant to be DICOM, also if their content is damaged. DICOM may have any other ending, or none.
_DICOM = (".dcm", ".dicom", ".ima")
#: The longest first, where one ends like another.
_ENDINGS = tuple(sorted((*_IMAGES, *_DICOM), key=len, reverse=True))
_PREAMBLE = 128
_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
#: The first element of a file without preamble is one of these groups, and short.
_FIRST_GROUPS = (0x0002, 0x0008)
_LONGEST_FIRST_VALUE = 1024
#: Segmentations, not scans.
_SEGMENTATION = ".seg.nrrd"
_LABEL_FOLDERS = frozenset({"labels", "labelstr"})


def check_exist(places: Iterable[Path]) -> None:
    """`VolumeReadError` for what is not there, as of a path that is mistyped. A link to nothing is there."""
    missing = [str(place) for place in places if not os.path.lexists(place)]
    if missing:
        raise VolumeReadError(f"There is no {', '.join(missing)}.", "Give folders or image files that exist.")


def find_scans(places: Sequence[Path]) -> list[Path]:
    """Files as given, and every image file and DICOM folder in folders, at any depth; each once, by name.

    Folders called "labels" (or "labelsTr") and hidden ones are left out. Raises as `check_exist` does.
    """
    check_exist(places)
    found: dict[Path, Path] = {}
    for place in places:
        for path in _in_folder(place) if place.is_dir() else (place,):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _in_folder(root: Path) -> Iterator[Path]:
    """A DICOM folder stands for what is DICOM below it."""
    closed: list[Path] = []
    dicom: set[Path] = set()
    for folder in folders_below(root, closed=closed):
        # Whoever reads a pipe says why it cannot be.
        files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and not file.is_dir())
        yield from (file for file in files if is_image(file))
        if dicom.isdisjoint(folder.parents) and any(
            is_dicom(file) for file in files if not file.name.lower().endswith(_IMAGES)
        ):
            dicom.add(folder)
            yield folder
    yield from closed


def folders_below(root: Path, *, leave_out: Iterable[Path] = (), closed: list[Path]) -> Iterator[Path]:
    """`root` and every folder that may hold scans, once, also where links lead to it twice or in a circle.

    `closed` gets those that cannot be read: whoever reads them says why.
    """
    seen = set(leave_out)
    for parent, folders, _ in os.walk(
        root, followlinks=True, onerror=lambda error: closed.append(Path(os.fsdecode(error.filename)))
    ):
        folder = Path(parent)
        place = folder.resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if may_hold_scans(folder / name))
        yield folder


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
    """Whether a file is DICOM by its content, with or without preamble, or meant to be by its ending.

    So is one without ending, as slices often are, that cannot be read: whoever reads the scan says so. A pipe or a
    device is not a slice, whatever it is called.
    """
    try:
        return (is_named_dicom(file) and stat.S_ISREG(file.stat().st_mode)) or has_dicom_content(file)
    except OSError:
        return is_named_dicom(file) or not file.suffix or file.suffix[1:].isdigit()


def is_named_dicom(file: Path) -> bool:
    """Whether a file of this name that cannot be read is a damaged DICOM file rather than something else."""
    return file.name.lower().endswith(_DICOM)


def has_dicom_content(file: Path) -> bool:
    """By the first bytes of a regular file. Raises `OSError` if it cannot be read, or is a link to nothing."""
    if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for ever
        return False
    with file.open("rb") as stream:
        head = stream.read(_PREAMBLE + 4)
    return head[_PREAMBLE:] == b"DICM" or _is_first_element(head)


def _is_first_element(head: bytes) -> bool:
    """Whether `head` begins like a data set without preamble: group, element, explicit or implicit length."""
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[at : at + 2], order) for at in (0, 2))
        if group in _FIRST_GROUPS and element <= 0x0100:
            if head[4:6] in _VALUE_REPRESENTATIONS:
                return True
            # Big-endian data sets are always explicit.
            return order == "little" and int.from_bytes(head[4:8], order) <= _LONGEST_FIRST_VALUE
    return False
