"""What a fine-tuning's panel shows of a run, and what follows from where the run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ....runs import Curves, RunRequest, RunResult, RunState, RunStatus
from ....text import in_words
from ....training.loop.budget import annealing_s
from ....translation import tr as _
from ...curves import Colour, colour_of
from ...texts.learning import banner_text, change_text, dice_text, interrupted_text, run_text
from ...texts.messages import duration_text
from ..elements import Control, Option, Question
from .training_choices import ChoicesState

UNDER_WAY = (RunState.RUNNING, RunState.WAITING)
_MEAN = "mean"


@dataclass(frozen=True)
class DiceRow:
    """Dice of a label before, and now or after; `colour` is its curve's, None for the mean."""

    name: str
    before: str
    after: str
    colour: Colour | None = None


@dataclass(frozen=True)
class OutcomeRow:
    """Dice of a label in a held-out case; `case` is empty where it repeats."""

    case: str
    label: str
    change: str


@dataclass(frozen=True)
class RunView:
    """A run that is under way, or that waits for a decision. `title` says of which model, whichever is chosen now.

    `fraction` is 0..1; `steps` how many it trains in all.
    """

    title: str
    is_running: bool
    text: str
    fraction: float
    stop: Control
    discard: Control
    #: Whether to discard what is running.
    discarding: Question | None
    #: What becomes of a run that has ended.
    banner: Question | None
    curves: Curves
    steps: int
    colours: Mapping[str, Colour]
    dice_titles: tuple[str, str, str]
    dice: tuple[DiceRow, ...]
    outcome: tuple[OutcomeRow, ...]


@dataclass(frozen=True)
class FineTuneState:
    """All that is shown."""

    plan: str
    choices: ChoicesState
    start: Control
    estimate: Control
    run: RunView | None = None


def view_of(
    status: RunStatus,
    curves: Curves,
    colours: Mapping[str, Colour],
    *,
    now: datetime,
    title: str = "",
    asks: bool = False,
    is_ending: bool = False,
    request: RunRequest | None = None,
) -> RunView:
    """`asks`: the user wants to discard it and is asked whether they are sure. `is_ending`: it is being discarded.
    `request` is what the run was asked for."""
    is_running = status.state in UNDER_WAY
    nothing = "" if status.step > 0 else _("Nothing has been learned yet.")
    settings, notes = (request.settings, request.notes) if request is not None else ({}, ())
    is_timed = settings.get("minutes") is not None
    return RunView(
        title=title,
        is_running=is_running,
        text=run_text(status, now, at_latest=bool(settings.get("until_no_better")), notes=notes),
        fraction=status.fraction,
        stop=_stop(status, nothing, is_timed=is_timed, is_ending=is_ending),
        discard=Control(
            _("Discarding...") if is_ending else _("Cancel and discard"),
            _("End training now and keep nothing."),
            not is_ending,
        ),
        discarding=_discard_question() if asks and is_running else None,
        banner=_banner(status),
        curves=curves,
        steps=status.steps,
        colours=colours,
        dice_titles=(_("Dice"), _("Before"), _("Now") if status.result is None else _("After")),
        dice=_dice_rows(status.result, curves, colours),
        outcome=_outcome_rows(status.result),
    )


def _stop(status: RunStatus, nothing: str, *, is_timed: bool, is_ending: bool) -> Control:
    """A run by time lowers the learning rate to its end first, unless it is asked twice."""
    if status.stop_requested:
        hurry = _("Keep the weights as they are now: without the rest of the annealing they are less accurate.")
        text = _("Finish at once") if is_timed else _("Stopping...")
        return Control(text, hurry if is_timed else "", is_timed and not is_ending)
    tip = _("End training now and make a version of the best weights so far; it is validated as usual.")
    if is_timed and status.fold is not None:
        tip = _("End leave-one-out now: the model is trained already, and its version is made without it.")
    elif is_timed:
        tip = _(
            "Finish now: the learning rate falls to its end (annealing) within about {time}, then a version is made "
            "and validated as usual."
        ).format(time=duration_text(annealing_s(status.seconds)))
    text = _("Stop and keep") if is_timed else _("Stop and keep best")
    return Control(text, nothing or tip, not nothing and not is_ending)


def _discard_question() -> Question:
    return Question(
        _("Cancel training and discard what was learned?"),
        (
            Option("discard", _("Discard"), _("Your cases and models stay as they are.")),
            Option("keep_training", _("Keep training")),
        ),
    )


def _banner(status: RunStatus) -> Question | None:
    result = status.result
    if status.state is RunState.DONE and result is not None:
        use = Option(
            "accept",
            _("Use it"),
            _("Segment with version {v} from now on.").format(v=result.model.get("version", "?")),
        )
        keep = Option(
            "decline",
            _("Keep the old one"),
            _("Keep using version {v}; the new one stays in the list of versions.").format(
                v=result.parent.get("version", "?")
            ),
        )
        compare = Option(
            "compare",
            _("Compare"),
            _("Segment the chosen volume with both versions, and show where they differ."),
        )
        best = (keep, use) if result.is_better is False else (use, keep)
        return Question(banner_text(result), (*best, compare))
    if status.state in (RunState.INTERRUPTED, RunState.FAILED):
        return Question(
            interrupted_text(status),
            (
                Option("resume", _("Resume"), _("Continue from the last checkpoint.")),
                Option("discard", _("Discard"), _("Delete what it has learned.")),
            ),
        )
    return None


def _dice_rows(result: RunResult | None, curves: Curves, colours: Mapping[str, Colour]) -> tuple[DiceRow, ...]:
    """Before and now, label by label; in the end before and after."""
    before: Mapping[str, float | None] = curves.before or {}
    now: Mapping[str, float | None] = curves.dice[-1][1] if curves.dice else {}
    if result is not None:
        before, now = _with_mean(result.before, result.mean_before), _with_mean(result.after, result.mean_after)
    names = list(dict.fromkeys(name for name in (*now, *before) if name != _MEAN))
    rows = [DiceRow(_("Mean"), dice_text(before.get(_MEAN)), dice_text(now.get(_MEAN)))] if len(names) > 1 else []
    rows += [
        DiceRow(in_words(name), dice_text(before.get(name)), dice_text(now.get(name)), colour_of(name, names, colours))
        for name in names
    ]
    return tuple(rows)


def _with_mean(values: Mapping[str, float] | None, mean: float | None) -> dict[str, float | None]:
    return {**(values or {}), **({_MEAN: mean} if mean is not None else {})}


def _outcome_rows(result: RunResult | None) -> tuple[OutcomeRow, ...]:
    rows: list[OutcomeRow] = []
    for case in result.per_case if result is not None else ():
        rows.append(OutcomeRow(case.case, _("Mean"), change_text(case.before, case.after)))
        if len(case.after_by_label) > 1:
            for label, after in case.after_by_label.items():
                rows.append(OutcomeRow("", in_words(label), change_text(case.before_by_label.get(label), after)))
    return tuple(rows)
