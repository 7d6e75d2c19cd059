"""What there is to segment below some folders: every image file and every DICOM series, found once and remembered."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .formats.dicom.headers import Instance
from .formats.dicom.inventory import take_inventory
from .reading import read_series, read_volume
from .scans import folders_below, is_dicom, is_image, is_named_dicom, without_ending
from .volume import Volume


@dataclass(frozen=True)
class ArchivedScan:
    """One scan: an image file, or the `files` of one DICOM series.

    `name` tells it apart for the user: its path below the folder that was searched, without ending.
    """

    name: str
    path: Path
    series_uid: str = ""
    files: tuple[Path, ...] = ()
    modality: str = ""

    @property
    def key(self) -> str:
        """The same for the same scan in every run: 16 hexadecimal digits of its place and series."""
        return hashlib.sha256(os.fsencode(f"{self.path}\0{self.series_uid}")).hexdigest()[:16]

    def stamp(self) -> str:
        """Changes when the scan's files do: number, bytes and latest change of them; "" if they are gone."""
        try:
            found = [file.stat() for file in self.files or (self.path,)]
        except OSError:
            return ""
        latest = max(one.st_mtime_ns for one in found)
        return f"{len(found)}:{sum(one.st_size for one in found)}:{latest}"

    def read(self) -> Volume:
        """The scan; raises what `read_volume` raises."""
        return read_series(self.files, self.series_uid) if self.files else read_volume(self.path)


#: Of the lines in the file: folders noted by another version are looked into again.
_VERSION = 4


@dataclass
class _Folder:
    """What one folder holds itself. `changed` is its time of change (ns) when it was looked into."""

    changed: int
    images: list[str] = field(default_factory=list)
    series: dict[str, dict[str, Any]] = field(default_factory=dict)  # UID -> description, modality, identity, files
    damaged: list[str] = field(default_factory=list)
    version: int = 0


class ArchiveIndex:
    """Remembers in `file`, a JSON line per folder, what was found: reading a million DICOM headers takes hours.

    Each folder is noted as soon as it has been read, so that a search that was stopped resumes there. A folder is read
    again when files were added to it or taken away. One process at a time may use `file`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._folders = _load(file)

    def scans(
        self,
        sources: Iterable[Path],
        *,
        leave_out: Sequence[Path] = (),
        on_folder: Callable[[int, Path], None] = lambda _number, _folder: None,
    ) -> list[ArchivedScan]:
        """Every scan in `sources` (folders at any depth, or image files), by place; nothing in `leave_out`.

        A DICOM series whose slices lie in several folders is one scan, if they are of one patient, study and frame of
        reference. `on_folder` is told how many folders were looked into, and the next one.
        """
        skipped = {place.resolve() for place in leave_out}
        files: dict[Path, ArchivedScan] = {}
        slices: dict[tuple[str, str], _Series] = {}
        number = 0
        for source in sources:
            root = source.resolve()
            if not root.is_dir():
                files.setdefault(root, ArchivedScan(without_ending(root.name), root))
                continue
            closed: list[Path] = []
            for folder in folders_below(root, leave_out=skipped, closed=closed):
                on_folder(number, folder)
                number += 1
                self._collect(root, folder, files, slices)
            # As a scan: whoever reads it says why it cannot be.
            files.update({folder: ArchivedScan(_below(root, folder), folder) for folder in closed})
        return sorted([*files.values(), *(s.scan() for s in slices.values())], key=lambda one: (one.path, one.name))

    def _collect(
        self, root: Path, folder: Path, files: dict[Path, ArchivedScan], slices: dict[tuple[str, str], _Series]
    ) -> None:
        entry = self._entry(folder)
        for name in entry.images:
            path = folder / name
            files.setdefault(
                path, ArchivedScan((path.parent / without_ending(name)).relative_to(root).as_posix(), path)
            )
        for uid, about in entry.series.items():
            # A UID that other folders use for somebody else is not the same series.
            same = (uid, about["identity"])
            series = slices.setdefault(same, _Series(uid, root, folder, about["description"], about["modality"]))
            series.files += [folder / name for name in about["files"]]
            series.alone &= len(entry.series) == 1
        if entry.damaged and not entry.series:
            # Nothing else would tell that these files were meant to be a scan.
            damaged = tuple(folder / name for name in entry.damaged)
            files.setdefault(folder, ArchivedScan(_below(root, folder), folder, files=damaged))

    def _entry(self, folder: Path) -> _Folder:
        known = self._folders.get(str(folder))
        changed = folder.stat().st_mtime_ns
        if known is None or known.changed != changed:
            known = _look_into(folder, changed)
            self._note(folder, known)
        return known

    def _note(self, folder: Path, entry: _Folder) -> None:
        self._folders[str(folder)] = entry
        line = json.dumps({"folder": str(folder), **vars(entry)}) + "\n"
        try:
            with self._file.open("ab") as stream:
                stream.write(line.encode())
        except OSError as error:
            raise OutputError(
                f"{self._file} cannot be written: {error.strerror or error}.",
                "Free some space, or choose another place.",
            ) from error


@dataclass
class _Series:
    """A series as it is put together from the folders that hold its slices."""

    uid: str
    root: Path
    folder: Path
    description: str
    modality: str
    files: list[Path] = field(default_factory=list)
    alone: bool = True

    def scan(self) -> ArchivedScan:
        name = self.folder.relative_to(self.root).as_posix()
        parts = [] if name == "." else [name]
        if not self.alone or not parts:
            parts.append(_word(self.description) or _word(self.modality) or "series")
        return ArchivedScan("/".join(parts), self.folder, self.uid, tuple(self.files), self.modality)


def _load(file: Path) -> dict[str, _Folder]:
    """A line that was cut off, or is not ours, is a folder that is read again."""
    folders: dict[str, _Folder] = {}
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError:
        return folders
    for line in lines:
        try:
            values = json.loads(line)
            folder = values.pop("folder")
            entry = _Folder(**values)
            if entry.version == _VERSION:
                folders[folder] = entry
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    if lines[-1]:  # cut off in the middle: what is added must begin on a line of its own
        with file.open("ab") as stream:
            stream.write(b"\n")
    return folders


def _below(root: Path, folder: Path) -> str:
    name = folder.relative_to(root).as_posix()
    return root.name if name == "." else name


def _look_into(folder: Path, changed: int) -> _Folder:
    entry = _Folder(changed, version=_VERSION)
    # Pipes, devices and links to nothing, too: they are not passed over, and whoever reads them says what they are.
    files = sorted(item for item in folder.iterdir() if not item.name.startswith(".") and not item.is_dir())
    entry.images = [file.name for file in files if is_image(file) or (is_named_dicom(file) and _is_pipe(file))]
    inventory = take_inventory(file for file in files if not is_image(file) and _is_slice(file))
    for uid, instances in inventory.series.items():
        first = instances[0]
        entry.series[uid] = {
            "description": first.description,
            "modality": first.identity.modality,
            "identity": _hashed_identity(first),
            # With the damaged ones among them: whoever reads the series refuses it.
            "files": [path.name for path in (*(one.path for one in instances), *inventory.damaged_of(uid))],
        }
    entry.damaged = [path.name for path in inventory.damaged]
    return entry


def _hashed_identity(instance: Instance) -> str:
    """Tells patients, studies and frames of reference apart without noting who they are."""
    identity = instance.identity
    values = (identity.patient_id, identity.patient_name, identity.study_uid, identity.frame_of_reference)
    return hashlib.sha256("\0".join(values).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _is_slice(file: Path) -> bool:
    return file.name.upper() != "DICOMDIR" and is_dicom(file)


def _is_pipe(file: Path) -> bool:
    """Or a device: not a slice of a series, but not passed over either."""
    return file.exists() and not file.is_file()


def _word(text: str) -> str:
    """Letters and digits of `text`, fit for a file name."""
    return "".join(c if c.isalnum() else " " for c in text).strip().replace(" ", "_")[:40]
