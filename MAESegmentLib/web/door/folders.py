"""What of this machine's disk the browser may open: the scans that were named, and those in folders that were named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import VolumeReadError
from ...images.scans import find_scans
from .confined import only_below

#: More are not listed: nobody finds anything in a longer list.
_MOST = 500


@dataclass(frozen=True)
class Scan:
    """`title` is what is shown: never more of the path than from the chosen folder on. `root` is that folder."""

    title: str
    path: Path
    root: Path


class Folders:
    """The browser chooses by number, never by path; what a link leads to outside the folders is not there."""

    def __init__(self, volumes: Sequence[str], folders: Sequence[str]) -> None:
        paths = [Path(path).resolve() for path in volumes]
        #: Scans that were named themselves: what belongs to a file lies beside it.
        self.named = [Scan(path.name, path, path if path.is_dir() else path.parent) for path in paths]
        #: The list that was shown.
        self.scans: tuple[Scan, ...] = ()
        self._folders = [Path(path).resolve() for path in folders]

    def list(self) -> tuple[Scan, ...]:
        """Look again; slow where folders are large."""
        found = [*self.named]
        for folder in self._folders:
            with only_below(folder):
                inside = [path for path in find_scans([folder]) if path.resolve().is_relative_to(folder)]
            found += [Scan(str(Path(folder.name) / path.relative_to(folder)), path, folder) for path in inside]
        self.scans = tuple(found[:_MOST])
        return self.scans

    def get(self, number: int) -> Scan:
        """The scan with this number in the list that was shown."""
        if not 0 <= number < len(self.scans):
            raise VolumeReadError("This scan is not in the list any more.", "Look again.")
        scan = self.scans[number]
        allowed = [*(one.path for one in self.named), *self._folders]
        if not any(scan.path.resolve().is_relative_to(place) for place in allowed):
            raise VolumeReadError(f"{scan.title} lies outside the folders that were opened.", "Choose another.")
        return scan
