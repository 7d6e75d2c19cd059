"""Where models are found: those that ship with MAESegment and those of the user, by name, version or folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import BundleError, MAESegmentError
from .folder import METADATA, Bundle, open_bundle
from .spec import is_version, version_key

#: `list` names a method below.
Bundles = list[Bundle]
Problems = list[tuple[Path, MAESegmentError]]

_PACKAGE = Path(__file__).resolve().parents[1]


class ModelStore:
    """Shipped models (`<shipped>/<name>/`, read only) and the user's (`<user>/<name>/<version>/`).

    Versions form a tree through each bundle's parent; a name without a version means its highest version.
    """

    def __init__(
        self,
        user_folder: str | os.PathLike[str] | None = None,
        *,
        shipped_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.user_folder = Path(user_folder) if user_folder is not None else default_user_folder()
        self.shipped_folder = Path(shipped_folder) if shipped_folder is not None else default_shipped_folder()

    def scan(self) -> tuple[Bundles, Problems]:
        """Every model that opens (files not hashed), sorted by name and version, and what is wrong with the rest."""
        bundles: dict[str, Bundle] = {}
        problems: Problems = []
        for folder in self._folders():
            opened = _try_open(folder)
            if isinstance(opened, Bundle):
                bundles.setdefault(opened.content_hash, opened)
            else:
                problems.append((folder, opened))
        return sorted(bundles.values(), key=_order), problems

    def list(self) -> Bundles:
        """Every model that opens, sorted by name and version."""
        return self.scan()[0]

    def find(self, what: str | os.PathLike[str], *, kind: str | None = None, verify: bool = True) -> Bundle:
        """The bundle called `what`: a name, a unique prefix of one, `name@version`, or a folder.

        Every file is hashed unless `verify` is False, for callers that leave it to the process that loads it.
        """
        text = os.fspath(what)
        if not isinstance(what, str) or _looks_like_path(text):
            return open_bundle(text, verify=verify)
        known, problems = self.scan()
        if kind is not None:
            known = [bundle for bundle in known if bundle.kind == kind]
        name, _, version = text.partition("@")
        names = sorted({bundle.name for bundle in known})
        matches = [name] if name in names else [candidate for candidate in names if name and candidate.startswith(name)]
        if not matches:
            if (Path(text) / METADATA).is_file():
                return open_bundle(text, verify=verify)
            damaged = [error for folder, error in problems if name and name in folder.parts[-2:]]
            if damaged:
                raise damaged[0]
            raise BundleError(f"There is no model called {name!r}.", _available(known))
        if len(matches) > 1:
            raise BundleError(f"{name!r} could mean any of {', '.join(matches)}.", "Write more of the name.")
        versions = [bundle for bundle in known if bundle.name == matches[0]]
        if version:
            versions = self._at_version(versions, version)
        return open_bundle(versions[-1].path, verify=verify)

    def children(self, bundle: Bundle) -> Bundles:
        """Versions trained directly from `bundle`."""
        return [other for other in self.list() if other.parent and other.parent["hash"] == bundle.content_hash]

    def ancestors(self, bundle: Bundle) -> Bundles:
        """The parent of `bundle`, its parent, and so on, as far as they are in the store."""
        by_hash = {other.content_hash: other for other in self.list()}
        line: Bundles = []
        while bundle.parent and bundle.parent["hash"] in by_hash:
            bundle = by_hash.pop(bundle.parent["hash"])
            line.append(bundle)
        return line

    def next_version(self, name: str) -> str:
        """A version of `name` that is not taken, above all that are: 1.2.3 -> 1.3.0; 1.0.0 for a new name."""
        taken = [version_key(bundle.version) for bundle in self.list() if bundle.name == name]
        # A damaged version does not open, but its folder is taken all the same.
        taken += [version_key(folder.name) for folder in (self.user_folder / name).glob("*") if is_version(folder.name)]
        major, minor, _ = max(taken, default=(1, -1, 0))
        return f"{major}.{minor + 1}.0"

    def folder_for(self, name: str, version: str) -> Path:
        """Where the user's model `name`, `version` belongs."""
        return self.user_folder / name / version

    def _folders(self) -> Iterator[Path]:
        if self.shipped_folder.is_dir():
            yield from (f for f in sorted(self.shipped_folder.iterdir()) if _is_visible_folder(f))
        if self.user_folder.is_dir():
            for family in filter(_is_visible_folder, sorted(self.user_folder.iterdir())):
                yield from (f for f in sorted(family.iterdir()) if _is_visible_folder(f))

    @staticmethod
    def _at_version(bundles: Bundles, version: str) -> Bundles:
        found = [bundle for bundle in bundles if bundle.version == version]
        if not found:
            raise BundleError(
                f"Model {bundles[0].name!r} has no version {version}.",
                f"It has {', '.join(bundle.version for bundle in bundles)}.",
            )
        return found


def default_user_folder() -> Path:
    """`MAESEGMENT_MODELS`, or the operating system's folder for a user's application data."""
    chosen = os.environ.get("MAESEGMENT_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    return user_data_folder() / "models"


def user_data_folder() -> Path:
    """What platformdirs calls the user's data folder; without platformdirs, which Slicer's process may not have."""
    try:
        import platformdirs
    except ImportError:
        return _user_data_folder()
    return platformdirs.user_data_path("maesegment", appauthor=False)


def _user_data_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME", "").strip() or Path.home() / ".local" / "share"
    return Path(base) / "maesegment"


def default_shipped_folder() -> Path:
    """Inside the package in a wheel and in the Slicer extension, beside it in a source tree."""
    inside = _PACKAGE / "Resources" / "Models"
    return inside if inside.is_dir() else _PACKAGE.parent / "Resources" / "Models"


def _try_open(folder: Path) -> Bundle | MAESegmentError:
    try:
        return open_bundle(folder, verify=False)
    except MAESegmentError as error:
        return error


def _order(bundle: Bundle) -> tuple[str, tuple[int, ...], str]:
    return bundle.name, version_key(bundle.version), bundle.content_hash


def _looks_like_path(text: str) -> bool:
    return text.startswith(("~", ".")) or "/" in text or "\\" in text or text.endswith(".zip")


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _available(known: list[Bundle]) -> str:
    if not known:
        return "No model is installed: import one with `maesegment models import ZIP`."
    return f"Available: {', '.join(sorted({bundle.name for bundle in known}))}."
