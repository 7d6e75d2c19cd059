"""Which scan to correct next: those that the model is least certain about come first, with the slice to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...translation import tr as _
from ..texts.learning import ranked_text, ranked_tip
from .presenter import CaseHost, JobPresenter

SCENE, FOLDER = "scene", "folder"


@dataclass(frozen=True)
class RankedRow:
    """A scan; `place` is its rank, a dash if it has none, and `can_show` whether a slice of it can be shown."""

    place: str
    name: str
    why: str
    tip: str
    can_show: bool


@dataclass(frozen=True)
class NextCaseState:
    """`source` is the scene or a folder; `blocked` says why nothing can be ranked now."""

    source: str = SCENE
    folder: str = ""
    blocked: str = ""
    is_running: bool = False
    fraction: float = 0.0
    stage: str = ""
    rows: tuple[RankedRow, ...] = ()
    chosen: int = -1

    @property
    def can_show(self) -> bool:
        return 0 <= self.chosen < len(self.rows) and self.rows[self.chosen].can_show

    @property
    def button_text(self) -> str:
        return _("Cancel") if self.is_running else _("Rank scans")

    @property
    def tip(self) -> str:
        if self.is_running:
            return _("Stop after the scan under way.")
        return self.blocked or _("Segment all of them and put the least certain first.")

    @property
    def show_tip(self) -> str:
        if self.chosen < 0:
            return _("Choose a scan in the table.")
        return _("Go to the slice where the model is least certain, and choose the scan above.")


class NextCasePresenter(JobPresenter[NextCaseState]):
    """Starts `logic.nextCases`."""

    def __init__(self, logic: Any, host: CaseHost, changed: Callable[[], None]) -> None:
        super().__init__(logic, host, NextCaseState(), changed)
        self._reason = ""
        self._ranked: tuple[Any, ...] = ()
        #: The scan that the user chose in the table.
        self._picked: Any = None

    def update(self, reason: str | None = None) -> None:
        """`reason` says why no scan can be looked at now; None: as before."""
        self._reason = self._reason if reason is None else reason
        self._put(blocked=self._reason or self._missing())

    def clear(self) -> None:
        """The scene goes."""
        self.cancel()
        self._ranked = ()
        self._put(rows=(), chosen=-1)
        self.update()

    # What the user does -----------------------------------------------------------------------------------------------

    def set_source(self, source: str) -> None:
        self._put(source=source)
        self.update()

    def set_folder(self, folder: str) -> None:
        self._put(folder=folder)
        self.update()

    def choose(self, number: int) -> None:
        """As the user does; without it the first scan is chosen."""
        is_row = 0 <= number < len(self._ranked)
        self._picked = self._ranked[number].source if is_row else None
        self._put(chosen=number if is_row else -1)

    def press(self) -> None:
        """The one button: rank, or cancel."""
        if self._job is not None:
            self.press_cancel()
            return
        host = self._host
        self.update()
        if self.state.blocked:
            return

        self._picked = None

        def begin() -> Any:
            scans = host.scans(self.state.source, self.state.folder)
            return self._logic.nextCases(scans, host.bundle, wait=False, roi=host.roi, device=host.device)

        self._follow(begin, stage=_("Starting ..."))

    def show(self, number: int) -> None:
        """The least certain slice of a row."""
        if 0 <= number < len(self._ranked) and self.state.rows[number].can_show:
            row = self._ranked[number]
            try:
                self._host.show_scan(row.source, row.position)
            except Exception as error:
                self._host.failed(error)

    # ------------------------------------------------------------------------------------------------------------------

    def _missing(self) -> str:
        if self._host.bundle is None:
            return _("Choose a model.")
        if self._host.scans(self.state.source, self.state.folder):
            return ""
        if self.state.source == FOLDER:
            return _("Choose a folder of scans.")
        return _("There is no open scan without a corrected case.")

    def _progressed(self, job: Any) -> None:
        """Rows come in as scans are done; those that a cancelled job had done stay."""
        self._take(tuple(job.rows))
        if job.stage and not job.is_finished:
            self._put(fraction=job.fraction, stage=_("Segmenting {scan}").format(scan=job.stage))

    def _take(self, ranked: tuple[Any, ...]) -> None:
        """A scan that the user chose stays chosen; without one it is the first, also when another becomes that."""
        if ranked == self._ranked:
            return
        self._ranked = ranked
        measured = [number for number, row in enumerate(ranked) if row.score is not None]
        same = [number for number in measured if ranked[number].source is self._picked]
        first = [*same, *measured, -1][0]
        self._put(rows=tuple(_row(number, row) for number, row in enumerate(ranked, start=1)), chosen=first)


def intro() -> str:
    """What ranking is good for."""
    return _(
        "The model segments each scan several times, mirrored. Where it contradicts itself it is likely to be wrong: "
        "those scans come first."
    )


def _row(place: int, row: Any) -> RankedRow:
    is_measured = row.score is not None
    return RankedRow(str(place) if is_measured else "\u2013", row.name, ranked_text(row), ranked_tip(row), is_measured)
