"""Where models are found: those that ship with MAESegment and those of the user, by name, version or folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import BundleError, MAESegmentError, ModelNotFound, OutputError
from ..storage.user_folders import default_models_folder, default_shipped_folder
from .changing import VersionTaken, changing, copy_in, move_in, take_out
from .folder import METADATA, Bundle, open_bundle
from .names import PREFERRED, candidates, no_longer_enough, read_selection, with_selected, write_selection
from .spec import is_version, version_key

#: `list` names a method below.
Bundles = list[Bundle]
Problems = list[tuple[Path, MAESegmentError]]


class NameInUse(BundleError):
    """Another model is called by the beginning of its name, which would then mean the new one."""

    code = "name_in_use"


class ModelStore:
    """Shipped models (`<shipped>/<name>/`, read only) and the user's (`<user>/<name>/<version>/`).

    Versions form a tree through each bundle's parent. A name without a version means the one that the user selected,
    else the highest. Several programs may use the same folder.
    """

    def __init__(
        self,
        user_folder: str | os.PathLike[str] | None = None,
        *,
        shipped_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.user_folder = Path(user_folder) if user_folder is not None else default_models_folder()
        self.shipped_folder = Path(shipped_folder) if shipped_folder is not None else default_shipped_folder()

    def scan(self) -> tuple[Bundles, Problems]:
        """Every model that opens (files not hashed), sorted by name and version, and what is wrong with the rest."""
        bundles: dict[str, Bundle] = {}
        problems: Problems = []
        for folder in self._folders():
            try:
                bundle = open_bundle(folder, verify=False)
                bundles.setdefault(bundle.content_hash, bundle)
            except MAESegmentError as error:
                problems.append((folder, error))
        return sorted(
            bundles.values(), key=lambda one: (one.name, version_key(one.version), one.content_hash)
        ), problems

    def list(self) -> Bundles:
        """Every model that opens, sorted by name and version."""
        return self.scan()[0]

    def find(self, what: str | os.PathLike[str], *, kind: str | None = None, verify: bool = True) -> Bundle:
        """The bundle called `what`: a name, a unique prefix of one, `name@version`, or a folder.

        A prefix of just one shipped model means that, whatever else begins so. Every file is hashed
        unless `verify` is False, for callers that leave it to the process that loads it.
        """
        text = os.fspath(what)
        if not isinstance(what, str) or _looks_like_path(text):
            return open_bundle(text, verify=verify)
        known, problems = self.scan()
        if kind is not None:
            known = [bundle for bundle in known if bundle.kind == kind]
        name, _, version = text.partition("@")
        broken = {folder.name for folder, _ in problems if folder.parent == self.shipped_folder}
        matches = candidates(name, {bundle.name for bundle in known} | broken, self._shipped())
        damaged = [error for folder, error in problems if name and {name, *matches} & set(folder.parts[-2:])]
        versions = [bundle for bundle in known if bundle.name in matches]
        if not versions:
            if (Path(text) / METADATA).is_file():
                return open_bundle(text, verify=verify)
            if damaged:
                raise damaged[0]
            raise ModelNotFound(f"There is no model called {name!r}.", _available(known))
        if len(matches) > 1:
            raise BundleError(f"{name!r} could mean any of {', '.join(matches)}.", "Write more of the name.")
        if not version:
            return open_bundle(self._meant(versions).path, verify=verify)
        found = [bundle for bundle in versions if bundle.version == version]
        if not found:
            has = ", ".join(bundle.version for bundle in versions)
            raise BundleError(f"Model {matches[0]!r} has no version {version}.", f"It has {has}.")
        return open_bundle(found[-1].path, verify=verify)

    def selected(self, name: str) -> Bundle | None:
        """The version of `name` that was chosen by `select`, if it is still there."""
        version = read_selection(self.user_folder).get(name)
        if version is None:
            return None
        return next((b for b in reversed(self.list()) if (b.name, b.version) == (name, version)), None)

    def meant(self, *, kind: str | None = None) -> dict[str, Bundle]:
        """What every name alone means, of models of `kind` (any if None): its selected version, else its highest.

        Where the selected one is gone, perhaps with an update of MAESegment, the shipped one comes before the others.
        """
        families: dict[str, Bundles] = {}
        for bundle in self.list():
            if kind in (None, bundle.kind):
                families.setdefault(bundle.name, []).append(bundle)
        return {name: self._meant(versions) for name, versions in families.items()}

    def select(self, bundle: Bundle) -> None:
        """From now on, `bundle`, which is in the store, is what its name alone means."""
        if all(other.content_hash != bundle.content_hash for other in self.list()):
            raise BundleError(
                f"{bundle.name} {bundle.version} is not among your models.", f"Import {bundle.path} first."
            )
        with changing(self.user_folder):
            self._note_selected(bundle.name, bundle.version)

    def preferred(self, kind: str) -> str:
        """The name of the model that the user chose last for a scan of this kind ("CT", "MR"); "" if none."""
        return read_selection(self.user_folder, PREFERRED).get(kind, "")

    def prefer(self, name: str, kind: str) -> None:
        """From now on, the model called `name` is proposed for scans of this kind."""
        with changing(self.user_folder):
            chosen = read_selection(self.user_folder, PREFERRED)
            write_selection(self.user_folder, with_selected(chosen, kind, name), PREFERRED)

    def add(self, folder: str | os.PathLike[str]) -> Bundle:
        """Copy the finished bundle in `folder` to the user's models, verified; if it is there already, do nothing.

        What its name means stays as it was: only the user selects a new version. Raises `VersionTaken` if
        name and version are those of another model.
        """
        return self._put(open_bundle(folder), copy_in, allow_name=True)

    def take_in(self, staged: Bundle, *, allow_name: bool = False) -> Bundle:
        """As `add`, but move the verified bundle `staged` from a hidden folder of the user's folder to its place.

        `NameInUse` if others are called by its name for short, unless `allow_name`.
        """
        return self._put(staged, move_in, allow_name=allow_name)

    def _put(self, bundle: Bundle, put: Callable[[Bundle, Path], None], *, allow_name: bool) -> Bundle:
        target = self.folder_for(bundle.name, bundle.version)
        with changing(self.user_folder):
            known = self._same(bundle)
            if known is None:
                if not allow_name:
                    self._refuse_short_name(bundle.name)
                self._keep_meaning(bundle.name)
                put(bundle, target)
        return open_bundle(known.path if known else target)

    def needing_more(self, new: str) -> dict[str, str]:
        """Which names must be written further than now once a model is called `new`: the name -> what was enough."""
        known, found = self.list(), {}
        for kind in {bundle.kind for bundle in known}:  # some callers want one kind, others any
            names = {bundle.name for bundle in known if bundle.kind == kind}
            found.update(no_longer_enough(new, names, self._shipped()))
        return found if all(bundle.name != new for bundle in known) else {}

    def is_shipped(self, name: str) -> bool:
        """Whether a model of that name comes with MAESegment; the user may have other versions of it."""
        return name in self._shipped()

    def removable(self, bundle: Bundle) -> str:
        """Why `bundle` cannot be removed, in one sentence; "" if it can."""
        if bundle.path.parent.parent != self.user_folder.resolve():
            shipped = bundle.path.is_relative_to(self.shipped_folder.resolve())
            return "It comes with MAESegment." if shipped else "It is not among your models."
        children = ", ".join(f"{child.name}@{child.version}" for child in self.children(bundle))
        return f"Other versions were made from it: {children}." if children else ""

    def remove(self, bundle: Bundle) -> None:
        """Delete `bundle` from the user's models; if it was what its name means, then its parent is from now on."""
        with changing(self.user_folder):
            reason = self.removable(bundle)
            if reason:
                raise BundleError(
                    f"{bundle.name} {bundle.version} cannot be removed. {reason}", _why_not_removed(reason)
                )
            before = read_selection(self.user_folder)
            current = self.meant().get(bundle.name)
            if current is not None and current.path == bundle.path:
                parent = next((p for p in self.ancestors(bundle)[:1] if p.name == bundle.name), None)
                try:
                    self._note_selected(bundle.name, parent.version if parent else None)
                except OutputError as error:
                    raise OutputError(
                        f"Model {bundle.name} {bundle.version} could not be removed: the folder of your models, "
                        f"{self.user_folder}, cannot be written to.",
                        error.hint,
                    ) from error
            try:
                take_out(bundle)
            except OutputError:
                write_selection(self.user_folder, before)
                raise

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

    def root_of(self, bundle: Bundle) -> str:
        """The name of the family: that of the first segmentation model that `bundle` descends from."""
        known = self.list()
        line = [other for other in [bundle, *self.ancestors(bundle)] if other.kind == "segmentation"] or [bundle]
        oldest = line[-1]
        # The version it was made from may be gone, but not the others of its name.
        names = {other.name for other in known if other.kind == "segmentation"}
        return oldest.parent["name"] if oldest.parent and oldest.parent["name"] in names else oldest.name

    def next_version(self, name: str, *, major: bool = False) -> str:
        """A version of `name` that is not taken, above all that are: 1.2.3 -> 1.3.0, or 2.0.0 if it is a `major` one.

        1.0.0 for a new name.
        """
        taken = [version_key(bundle.version) for bundle in self.list() if bundle.name == name]
        # A damaged version does not open, but its folder is taken all the same.
        taken += [version_key(folder.name) for folder in (self.user_folder / name).glob("*") if is_version(folder.name)]
        if not taken:
            return "1.0.0"
        highest = max(taken)
        return f"{highest[0] + 1}.0.0" if major else f"{highest[0]}.{highest[1] + 1}.0"

    def folder_for(self, name: str, version: str) -> Path:
        """Where the user's model `name`, `version` belongs."""
        return self.user_folder / name / version

    def _shipped(self) -> set[str]:
        return {folder.name for folder in _visible_folders(self.shipped_folder)}

    def _refuse_short_name(self, name: str) -> None:
        names = {bundle.name for bundle in self.list()} | self._shipped()
        meant = [other for other in candidates(name, names, self._shipped()) if other != name]
        if meant:
            raise NameInUse(
                f"The model is called {name!r}, which is short for {' or '.join(meant)}: it would be used in its "
                "place from now on.",
                "Ask for it under another name.",
            )

    def _folders(self) -> Iterator[Path]:
        yield from _visible_folders(self.shipped_folder)
        for family in _visible_folders(self.user_folder):
            yield from _visible_folders(family)

    def _meant(self, versions: Bundles) -> Bundle:
        """Which of `versions`, sorted and of one name, that name means."""
        chosen = read_selection(self.user_folder).get(versions[0].name)
        if chosen is None:
            return versions[-1]
        shipped = [bundle for bundle in versions if bundle.path.is_relative_to(self.shipped_folder.resolve())]
        return next((one for one in reversed(versions) if one.version == chosen), (shipped or versions)[-1])

    def _same(self, bundle: Bundle) -> Bundle | None:
        """The model of that name and version, if it has the same content; `VersionTaken` if it has not."""
        for known in self.list():
            if known.content_hash == bundle.content_hash:
                return known
        for known in self.list():
            if (known.name, known.version) == (bundle.name, bundle.version):
                raise VersionTaken(
                    f"You have another model {bundle.name} {bundle.version} ({known.path}).",
                    "Ask for the model under another version or name; a version never changes.",
                )
        return None

    def _keep_meaning(self, name: str) -> None:
        """Select what `name` means now, if it means anything, so that a higher version does not change it."""
        current = self.meant().get(name)
        if current is not None and read_selection(self.user_folder).get(name) != current.version:
            self._note_selected(name, current.version)

    def _note_selected(self, name: str, version: str | None) -> None:
        write_selection(self.user_folder, with_selected(read_selection(self.user_folder), name, version))


def _looks_like_path(text: str) -> bool:
    return text.startswith(("~", ".")) or "/" in text or "\\" in text or text.endswith(".zip")


def _visible_folders(folder: Path) -> list[Path]:
    """Those in `folder`, by name; `folder` itself if it may not be read, so that this is reported."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return [folder]


def _available(known: list[Bundle]) -> str:
    if not known:
        return "No model is installed: import one."
    return f"Available: {', '.join(sorted({bundle.name for bundle in known}))}."


def _why_not_removed(reason: str) -> str:
    return "Remove those first." if reason.startswith("Other versions") else "Only your own versions can be removed."
