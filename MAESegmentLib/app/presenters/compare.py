"""Two versions on the chosen volume: where they differ, and how much of each label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...bundle import Bundle
from ...errors import NodeError
from ...text import in_words
from ...translation import tr as _
from ..texts.learning import dice_text
from ..texts.messages import volume_text
from ..texts.model_cards import name_of
from .elements import Option
from .presenter import CaseHost, JobPresenter
from .versions import listed_model, shown_name


@dataclass(frozen=True)
class ComparedLabel:
    """Volumes in ml, and the Dice between both, as texts; a dash for what a version does not know."""

    label: str
    first: str
    second: str
    agreement: str


@dataclass(frozen=True)
class CompareState:
    """`others` can be compared with the version in use, `chosen` is one of them; `blocked` says why none can."""

    others: tuple[Option, ...] = ()
    chosen: str = ""
    blocked: str = ""
    is_running: bool = False
    fraction: float = 0.0
    text: str = ""
    titles: tuple[str, str, str, str] = ("", "", "", "")
    rows: tuple[ComparedLabel, ...] = ()

    @property
    def button_text(self) -> str:
        return _("Cancel") if self.is_running else _("Compare on this volume")

    @property
    def tip(self) -> str:
        if self.is_running:
            return _("Stop it; nothing is kept.")
        return self.blocked or _(
            "Makes three segmentations: one with each version, and one of where they differ. Yours is not changed."
        )


class ComparePresenter(JobPresenter[CompareState]):
    """Starts `logic.compare`, whose nodes are the scene's. Versions are named name@version."""

    def __init__(self, logic: Any, host: CaseHost, changed: Callable[[], None]) -> None:
        super().__init__(logic, host, CompareState(), changed)
        #: The volume, the region and the versions that text and rows are about, or will be.
        self._about: tuple[Any, ...] = ()
        self._listed: set[str] = set()

    def update(self, versions: Sequence[Bundle], previous: str) -> None:
        """`previous` is proposed for the comparison. What was compared on another volume or region, or with a version
        that is gone, is shown no more."""
        self._listed = {name_of(one) for one in versions}
        if self._job is None and not self._is_current():
            self._forget()
        bundle = self._host.bundle
        others = [one for one in versions if bundle is not None and one.content_hash != bundle.content_hash]
        names = [name_of(one) for one in others]
        wanted = [name for name in (self.state.chosen, previous, *names) if name in names]
        blocked = ""
        if not others:
            blocked = _("There is no other version to compare with.")
        elif self._host.volume is None:
            blocked = _("Choose a scan.")
        self._put(
            others=tuple(Option(name, shown_name(name)) for name in names),
            chosen=wanted[0] if wanted else "",
            blocked=blocked,
        )

    def clear(self) -> None:
        """The scene goes, and what was compared in it."""
        self.cancel()
        self._forget()

    # What the user does -----------------------------------------------------------------------------------------------

    def choose(self, name: str) -> None:
        if any(option.key == name for option in self.state.others):
            self._put(chosen=name)

    def press(self) -> None:
        """The one button: compare the chosen version with the one in use, or cancel."""
        if self._job is not None:
            self.press_cancel()
        elif self._host.bundle is not None and self.state.chosen:
            self.start(self.state.chosen, name_of(self._host.bundle))

    def start(self, first: str, second: str) -> None:
        """Segment the chosen volume with both and compare."""
        host = self._host
        if self._job is not None:
            return
        if host.volume is None:
            host.failed(NodeError(_("Choose a scan to compare on.")))
            return
        versions = [name.partition("@")[2] or name for name in (first, second)]
        titles = (_("Label"), *(_("{version} (ml)").format(version=version) for version in versions), _("Agreement"))
        self._put(titles=titles, text="", rows=())
        self._about = (host.volume, host.roi, first, second)

        def begin() -> Any:
            models = [listed_model(self._logic, name) for name in (first, second)]
            return self._logic.compare(host.scan, *models, roi=host.roi, device=host.device, wait=False)

        self._follow(begin)

    # ------------------------------------------------------------------------------------------------------------------

    def _is_current(self) -> bool:
        """Whether the volume is shown still, and the versions are there."""
        volume, region, *compared = self._about or (None, None)
        is_same = volume is self._host.volume and region is self._host.roi
        return is_same and self._listed.issuperset(compared)

    def _forget(self) -> None:
        self._about = ()
        self._put(text="", rows=())

    def _progressed(self, job: Any) -> None:
        self._put(fraction=job.fraction)

    def _succeeded(self, job: Any) -> None:
        found = job.result()
        text = _("Where they differ ({volume} ml) is shown as {name}.").format(
            volume=volume_text(found.disagreement_ml, fine=True), name=found.disagreement.GetName()
        )
        rows = [
            ComparedLabel(
                in_words(row.label), _millilitres(row.first_ml), _millilitres(row.second_ml), dice_text(row.dice)
            )
            for row in found.rows
        ]
        if not self._is_current():
            # Only where it is found: the table would be taken for one of what is shown now.
            self._about, rows = (self._host.volume, self._host.roi), []
        self._put(text=text, rows=tuple(rows))
        self._host.show_comparison(found.disagreement)


def _millilitres(volume: float | None) -> str:
    return "\u2013" if volume is None else volume_text(volume, fine=True)
