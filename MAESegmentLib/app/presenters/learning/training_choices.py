"""What a user chooses before a fine-tuning: the time it has, whether its accuracy is estimated, and more scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ....cases.records import CaseRecord
from ....errors import ConfigurationError
from ....runs.durations import DURATIONS, Duration
from ....runs.measured import measured
from ....training.settings import FineTuneSettings
from ....translation import tr as _
from ...texts.learning import ENOUGH_CASES, dice_text, validation_count
from ...texts.messages import duration_text
from ..elements import Option
from ..next_case import FOLDER, SCENE

#: No scans but the cases.
NO_MORE = ""
#: What the user chose last is kept under this name.
TIME = "FineTuneTime"
_STANDARD = "standard"
_MOST_NAMES = 4


class ScansHost(Protocol):
    """The panel around."""

    def more_scans(self, source: str, folder: str) -> Any:
        """Scans without labels, as `fineTune` takes them: volumes of the scene, those that the user chose or that are
        not stored as cases; or a folder, or the scans of one. Empty if there are none."""


@dataclass(frozen=True)
class MeasuredRow:
    """What a time brought on a structure of ours."""

    structure: str
    cases: str
    time: str
    dice: str
    tip: str


@dataclass(frozen=True)
class ChoicesState:
    """`notice` says what takes the place of the time, which then cannot be chosen; `validates` is None where there is
    nothing to choose about the accuracy. `source` is where more scans come from, `scans_note` which and what for."""

    time: str
    time_tip: str
    notice: str
    validates: bool | None
    validation_text: str
    validation_tip: str
    source: str
    folder: str
    scans_note: str


class TrainingChoices:
    """`session` keeps the time from one day to the next; the number of steps, if there is one, takes its place."""

    def __init__(self, session: Any, host: ScansHost) -> None:
        self._session = session
        self._host = host
        self.steps = ""
        self.validates = True
        self.source = NO_MORE
        self.folder = ""

    @property
    def duration(self) -> Duration:
        by_key = {one.key: one for one in DURATIONS}
        return by_key.get(self._session.chosen(TIME), by_key[_STANDARD])

    def set_time(self, key: str) -> bool:
        """Whether it is another one now. A page may send anything."""
        if key == self.duration.key or key not in {one.key for one in DURATIONS}:
            return False
        self._session.choose(TIME, key)
        return True

    def state(self, records: Sequence[CaseRecord]) -> ChoicesState:
        is_timed = not self.steps.strip()
        rounds = _rounds(records)
        notice = _("A number of training steps is set under Advanced: it takes the place of the time.")
        text, tip = _validation(rounds, is_timed=is_timed)
        return ChoicesState(
            time=self.duration.key,
            time_tip=_("How long fine-tuning may take in all, on this computer. It can be stopped at any moment."),
            notice="" if is_timed else notice,
            validates=self.validates if rounds else None,
            validation_text=text,
            validation_tip=tip,
            source=self.source,
            folder=self.folder,
            scans_note=self._scans_note(),
        )

    def missing(self) -> str:
        """Why nothing can be learned with these choices; "" if it can."""
        if not self.source or self._scans():
            return ""
        if self.source == FOLDER:
            return _("Choose a folder of more scans, or learn from the cases alone.")
        return _("There is no open scan without a corrected case: learn from the cases alone.")

    def scans(self) -> dict[str, Any]:
        """Arguments of `fineTune` for scans without labels."""
        return {"unlabelled": self._scans()} if self.source else {}

    def is_validated(self, records: Sequence[CaseRecord]) -> bool:
        """Unless leave-one-out, the only way to validate, is not wanted."""
        return self.validates or not _rounds(records)

    def settings(self, records: Sequence[CaseRecord]) -> dict[str, Any]:
        """Arguments of `fineTune`; raises `ConfigurationError` for what is not a number of steps."""
        chosen = _of_steps(self.steps) if self.steps.strip() else self.duration.settings()
        return chosen if self.is_validated(records) else {**chosen, "validation": "none"}

    def _scans(self) -> Any:
        return self._host.more_scans(self.source, self.folder)

    def _scans_note(self) -> str:
        """Which they are, and what they are used for."""
        if not self.source or self.missing():
            return self.missing()
        scans = self._scans()
        if isinstance(scans, str):
            return scans_use()
        names = [scan.name if isinstance(scan, Path) else scan.GetName() for scan in scans]
        more = [_("{n} more").format(n=len(names) - _MOST_NAMES)] if len(names) > _MOST_NAMES else []
        return f"{', '.join([*names[:_MOST_NAMES], *more])}. {scans_use()}"


def scans_use() -> str:
    """What scans without labels are used for, unless the user chooses another method in a script."""
    use = {
        "self_training": _("The model also learns from its own confident predictions on these scans."),
        "mean_teacher": _("On these scans the model also learns to agree with the average of its recent selves."),
        "masked": _("On these scans the model also learns to fill in what is hidden from it."),
    }[FineTuneSettings.unlabelled_method]
    price = _(
        "Fewer steps fit into the time: where it was measured, two minutes brought less with such scans than without. "
        "Give it longer, and compare with a version made without them. One that cannot be used is named."
    )
    return f"{use} {price}"


def source_options(*, folders: bool, scene: str, folder: str) -> list[Option]:
    """Where more scans come from; `scene` and `folder` are what the panel calls them, if it has folders."""
    found = [Option(NO_MORE, _("None: the cases alone")), Option(SCENE, scene)]
    return [*found, Option(FOLDER, folder)] if folders else found


def time_options() -> list[Option]:
    names = {
        "quick": _("Quick ({time})"),
        "standard": _("Standard ({time})"),
        "thorough": _("Thorough ({time})"),
        "overnight": _("Overnight ({time})"),
    }
    return [Option(one.key, names[one.key].format(time=_time_text(one))) for one in DURATIONS]


def measured_rows() -> tuple[MeasuredRow, ...]:
    return tuple(
        MeasuredRow(
            one.structure,
            str(one.cases),
            duration_text(60 * one.minutes),
            dice_text(one.dice),
            _("Measured in model_training/studies/{study}: {what}").format(study=one.source, what=one.what),
        )
        for one in measured()
    )


def measured_titles() -> tuple[str, str, str, str]:
    return (_("Structure"), _("Cases"), _("Time"), _("Dice"))


def measured_intro() -> str:
    return _(
        "Structures that the model did not know, learned on one processor thread for so long; mean Dice on other cases."
    )


def _time_text(duration: Duration) -> str:
    if duration.until_no_better:
        return _("until it stops getting better")
    hours = duration.minutes / 60
    return _("{n} h").format(n=f"{hours:g}") if hours >= 1 else _("{n} min").format(n=f"{duration.minutes:g}")


def _rounds(records: Sequence[CaseRecord]) -> int:
    """Of leave-one-out; 0 where other cases are held out, or a single one cannot be."""
    is_used = not validation_count(records) and 1 < len(records) < ENOUGH_CASES
    return len(records) if is_used else 0


def _validation(rounds: int, *, is_timed: bool) -> tuple[str, str]:
    tip = _("Each case is left out of a training of its own, and measured. Indicative only: there are few cases.")
    if is_timed:
        text = _("Estimate accuracy by leave-one-out, within this time")
        more = _("The trainings for it are shorter. Without it, the whole time goes to the model.")
    else:
        text = _("Estimate accuracy by leave-one-out ({n} times as long)").format(n=rounds + 1)
        more = _("It takes {n} more trainings of as many steps.").format(n=rounds)
    return text, f"{tip} {more}"


def _of_steps(steps: str) -> dict[str, Any]:
    number = steps.strip()
    if not number.isdecimal() or int(number) < 1:
        raise ConfigurationError(
            _("{steps!r} is not a number of steps.").format(steps=number),
            _("Enter a whole number, or leave the field empty."),
        )
    return {"steps": int(number), "validate_every": max(1, int(number) // 4)}
