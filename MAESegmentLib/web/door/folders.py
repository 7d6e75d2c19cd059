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
        self._volumes = [Path(path).resolve() for path in volumes]
        self._folders = [Path(path).resolve() for path in folders]
        self._scans: list[Scan] = []

    @staticmethod
    def named(path: Path) -> Scan:
        """A scan that was named itself: what belongs to a file lies beside it."""
        path = path.resolve()
        return Scan(path.name, path, path if path.is_dir() else path.parent)

    def list(self) -> list[Scan]:
        """Look again; slow where folders are large."""
        found = [self.named(path) for path in self._volumes]
        for folder in self._folders:
            with only_below(folder):
                inside = [path for path in find_scans([folder]) if path.resolve().is_relative_to(folder)]
            found += [Scan(str(Path(folder.name) / path.relative_to(folder)), path, folder) for path in inside]
        self._scans = found[:_MOST]
        return self._scans

    @property
    def scans(self) -> tuple[Scan, ...]:
        """The list that was shown."""
        return tuple(self._scans)

    def get(self, number: int) -> Scan:
        """The scan with this number in the list that was shown."""
        if not 0 <= number < len(self._scans):
            raise VolumeReadError("This scan is not in the list any more.", "Look again.")
        scan = self._scans[number]
        allowed = [*self._volumes, *self._folders]
        if not any(scan.path.resolve() == place or scan.path.resolve().is_relative_to(place) for place in allowed):
            raise VolumeReadError(f"{scan.title} lies outside the folders that were opened.", "Choose another.")
        return scan
