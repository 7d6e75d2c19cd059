"""The stored cases of the chosen model: a picture, what is drawn in each, and whether the model learns from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cases.layout import THUMBNAIL
from ...cases.records import CHECK, TRAIN, CaseRecord
from ...images.labels import Label
from ...translation import tr as _
from ..texts.learning import case_text, cases_text, record_text
from ..texts.messages import error_text
from .elements import Option, Question, attempt
from .presenter import CaseHost, Presenter, in_background


@dataclass(frozen=True)
class CaseRow:
    """A stored case. `revision` is of what is drawn in `picture`, a file that need not be there."""

    id: str
    text: str
    tip: str
    role: str
    picture: Path
    revision: int

    @property
    def use_text(self) -> str:
        return _("for validation") if self.role == CHECK else _("for training")

    @property
    def other_role(self) -> str:
        return TRAIN if self.role == CHECK else CHECK

    @property
    def swap_text(self) -> str:
        return _("Use for training") if self.role == CHECK else _("Use for validation")


@dataclass(frozen=True)
class CasesState:
    """`text` says how many there are and what is damaged; `blocked` why none can be changed now.

    `removing` is the case that the user is asked about, whether it is to be deleted.
    """

    text: str = ""
    rows: tuple[CaseRow, ...] = ()
    blocked: str = ""
    removing: str = ""

    @property
    def asks(self) -> Question | None:
        if not self.removing:
            return None
        text = _("Remove {case}? Its files are deleted; versions that learned from it stay.")
        options = Option("remove", _("Remove")), Option("keep", _("Keep it"))
        return Question(text.format(case=self.removing), options)


class CasesPresenter(Presenter[CasesState]):
    """`records` and `labels` are those of the store that was read last."""

    def __init__(self, logic: Any, host: CaseHost, changed: Callable[[], None]) -> None:
        super().__init__(logic, host, CasesState(), changed)
        self._read_for: tuple[Any, ...] | None = None
        self._looked_for: tuple[Any, ...] | None = None
        self.records: tuple[CaseRecord, ...] = ()
        self.labels: tuple[Label, ...] = ()

    def outdate(self) -> None:
        """The folder may have changed: read it with the next `update`."""
        self._read_for = None

    def set_storing(self, is_storing: bool) -> None:
        """While a case is being stored, none can be changed, and no removal stays asked."""
        self._put(blocked=_("A case is being stored.") if is_storing else "", removing="")

    def update(self) -> None:
        """Show the cases of the chosen model. The folder is read only when it may have changed."""
        bundle = self._host.bundle
        names = self._logic.scanNames()
        wanted = (bundle.content_hash if bundle is not None else "", names)
        if wanted == self._read_for:
            self._look_for_scan()
            return
        self._read_for = wanted
        self.records, self.labels = (), ()
        found: dict[str, Any] = {"rows": (), "text": cases_text(())}
        if bundle is not None:
            attempt(lambda: found.update(self._read(names)), self._host.failed)
        self._put(removing="", **found)
        self._look_for_scan()

    # What the user does -----------------------------------------------------------------------------------------------

    def open(self, case: str) -> None:
        """Put a case's scan and segmentation into the scene, to look or to correct."""
        if self._find(case) is not None and not self.state.blocked:
            attempt(lambda: self._host.show_case(*self._logic.openCase(case, self._host.bundle)), self._host.failed)

    def set_role(self, case: str, role: str) -> None:
        record = self._find(case)
        if record is not None and record.role != role and not self.state.blocked:
            attempt(lambda: self._logic.setCaseRole(case, role, self._host.bundle), self._host.failed)
            self._host.refresh()

    def ask_to_remove(self, case: str) -> None:
        """It cannot be undone: `remove` follows, or `keep`."""
        if self._find(case) is not None and not self.state.blocked:
            self._put(removing=case)

    def keep(self) -> None:
        self._put(removing="")

    def remove(self) -> None:
        """Delete the case that was asked about."""
        case = self.state.removing
        self._put(removing="")
        if case and not self.state.blocked:
            if attempt(lambda: self._logic.removeCase(case, self._host.bundle), self._host.failed):
                self._host.case_removed(case)
            self._host.refresh()

    def _look_for_scan(self) -> None:
        """A program that was started again does not know of which case the chosen scan is: in a thread, for that reads
        all its voxels."""
        bundle, scan = self._host.bundle, self._host.scan
        wanted = (bundle.content_hash if bundle is not None else "", scan)
        if scan is None or (isinstance(scan, list) and None in scan) or not self.records or wanted == self._looked_for:
            return
        self._looked_for = wanted
        look = self._logic.identifyScan(scan, self._host.segmentation, bundle)
        in_background(self._logic.session.loop, look, lambda _looking: None if self._is_closed else self.update())

    def _read(self, names: Mapping[str, str]) -> dict[str, Any]:
        """`names` are those of the scans that are in the scene."""
        store = self._logic.caseStore(self._host.bundle)
        records, damaged = store.scan()
        self.records, self.labels = tuple(records), store.labels()
        lines = [cases_text(records), *(f"\u26a0 {error_text(error)}" for _path, error in damaged)]
        name = lambda one: names.get(f"{store.folder.name}/{one.id}") or names.get(one.image_hash, "")  # noqa: E731
        rows = tuple(_row(record, store.folder, name(record)) for record in records)
        return {"rows": rows, "text": "\n".join(lines)}

    def _find(self, case: str) -> CaseRecord | None:
        return next((record for record in self.records if record.id == case), None)


def _row(record: CaseRecord, folder: Path, scan: str) -> CaseRow:
    picture = folder / record.id / THUMBNAIL
    return CaseRow(record.id, case_text(record, scan), record_text(record), record.role, picture, record.revision)
