"""The versions of the chosen model: which is used, the way back, export, and deleting what nothing depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundle import Bundle, export_bundle
from ...bundle.library import family_of, parent_of
from ...errors import BundleError
from ...jobs import Job
from ...translation import tr as _
from ..texts.model_cards import accuracy_beside, card_tooltip, name_of
from .elements import Option, Question, attempt
from .presenter import CaseHost, Presenter, in_background


@dataclass(frozen=True)
class VersionRow:
    """A version, `name` is name@version. `why_not_use` and `why_kept` say why it cannot be used, or deleted."""

    name: str
    title: str
    accuracy: str
    card: str
    is_used: bool
    why_not_use: str
    why_kept: str


@dataclass(frozen=True)
class VersionsState:
    """`previous` (name@version) is what the version in use was made from, `notice` a quiet line about what was done.

    `deleting` (name@version) is the version that the user is asked about, whether it is to be deleted.
    """

    rows: tuple[VersionRow, ...] = ()
    previous: str = ""
    notice: str = ""
    deleting: str = ""
    is_exporting: bool = False

    @property
    def asks(self) -> Question | None:
        if not self.deleting:
            return None
        text = _("Delete {version}? That cannot be undone.").format(version=shown_name(self.deleting))
        return Question(text, (Option("delete", _("Delete")), Option("keep", _("Keep it"))))

    @property
    def previous_title(self) -> str:
        return shown_name(self.previous)

    @property
    def previous_tip(self) -> str:
        if not self.previous:
            return _("There is no version before the one in use.")
        text = _("Go back to {version}, from which the one in use was made.")
        return text.format(version=shown_name(self.previous))

    def row(self, name: str) -> VersionRow | None:
        return next((row for row in self.rows if row.name == name), None)


class VersionsPresenter(Presenter[VersionsState]):
    """Versions are named name@version; one that is not in the list is refused."""

    def __init__(self, logic: Any, host: CaseHost, changed: Callable[[], None]) -> None:
        super().__init__(logic, host, VersionsState(), changed)
        self.versions: list[Bundle] = []

    def update(self) -> None:
        """List the versions that belong together with the chosen one, the newest first."""
        bundle = self._host.bundle
        self.versions = family_of(bundle, self._logic.models()) if bundle is not None else []
        previous = parent_of(bundle, self.versions)
        names = {one.name for one in self.versions}
        self._put(
            rows=tuple(self._row(one, bundle, is_alone=len(names) == 1) for one in self.versions),
            previous=name_of(previous) if previous is not None else "",
        )
        if self.state.row(self.state.deleting) is None:
            self._put(deleting="")

    # What the user does -----------------------------------------------------------------------------------------------

    def use(self, name: str) -> None:
        """From now on, here and in every other program of this user."""
        if name:
            attempt(lambda: self._use(name), self._host.failed)

    def go_back(self) -> None:
        """Use what the version in use was made from."""
        self.use(self.state.previous)

    def ask_to_delete(self, name: str) -> None:
        """It cannot be undone: `delete` follows, or `keep`."""
        row = self.state.row(name)
        if row is not None and not row.why_kept:
            self._put(deleting=name, notice="")

    def keep(self) -> None:
        self._put(deleting="")

    def delete(self) -> None:
        """Delete the version that was asked about; if it was in use, the one that it was made from is."""
        name = self.state.deleting
        self._put(deleting="")
        if name:
            attempt(lambda: self._delete(name), self._host.failed)

    def export(self, name: str, path: Path, done: Callable[[Path], None] = lambda _path: None) -> None:
        """Write a version to a zip file; `done(path)` when it is there."""

        def over(job: Job[Path]) -> None:
            if self._is_closed:
                return
            self._put(is_exporting=False)
            if job.error is not None:
                self._host.failed(job.error)
                return
            text = _("{version} was written to {path}.")
            self._put(notice=text.format(version=shown_name(name), path=path))
            done(path)

        def begin() -> None:
            bundle = listed_model(self._logic, name)
            self._put(is_exporting=True, notice="", deleting="")
            in_background(self._logic.session.loop, lambda: export_bundle(bundle, path), over)

        if not self.state.is_exporting:
            attempt(begin, self._host.failed)

    def forget(self) -> None:
        """The notice was read, or the section is closed."""
        self._put(notice="", deleting="")

    # ------------------------------------------------------------------------------------------------------------------

    def _row(self, version: Bundle, in_use: Bundle, *, is_alone: bool) -> VersionRow:
        """The one that is chosen is in use here; the default is what the name means elsewhere and next time."""
        is_used = version.content_hash == in_use.content_hash
        meant = self._logic.selectedModel(version.name)
        is_default = meant is not None and meant.content_hash == version.content_hash
        title = version.version if is_alone else f"{version.name} {version.version}"
        if is_used:
            title += " " + _("(in use)")
        elif is_default:
            title += " " + _("(default)")
        return VersionRow(
            name_of(version),
            title,
            accuracy_beside(version, in_use),
            card_tooltip(version),
            is_used,
            _("It is in use.") if is_used and is_default else "",
            str(self._logic.removableReason(version)),
        )

    def _use(self, name: str) -> None:
        self._put(notice="")  # the same notice is shown once more
        self._logic.useVersion(listed_model(self._logic, name))
        self._host.use_model(name)
        self.update()
        self._put(notice=_("{version} is used from now on.").format(version=shown_name(name)), deleting="")

    def _delete(self, name: str) -> None:
        bundle, in_use = listed_model(self._logic, name), self._host.bundle
        parent = parent_of(bundle, self.versions)
        self._logic.removeVersion(bundle)
        if in_use is not None and in_use.content_hash == bundle.content_hash and parent is not None:
            self._host.use_model(name_of(parent))
        self._host.models_changed()
        self.update()
        self._put(notice=_("{version} was deleted.").format(version=shown_name(name)))


def listed_model(logic: Any, name: str) -> Bundle:
    """The model listed as name@version. A page sends names; a path, which the logic would also take, is refused."""
    found: Bundle | None = next((one for one in logic.models() if name_of(one) == name), None)
    if found is None:
        raise BundleError(_("This version is no longer in the list."), _("Choose another one."))
    return found


def shown_name(name: str) -> str:
    """Of name@version, as panels write it."""
    return name.replace("@", " ")
