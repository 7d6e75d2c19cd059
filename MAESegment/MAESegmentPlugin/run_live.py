"""A fine-tuning under way: how far it is, its curves, and how it can be ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.curves import Colour, colour_of
from MAESegmentLib.app.texts.learning import dice_text, run_text
from MAESegmentLib.app.texts.messages import breakable, tooltip
from MAESegmentLib.runs import Curves, RunResult, RunStatus

from .ask_bar import Answer, AskBar
from .curves_plot import CurvesPlot
from .qt_connection import connect
from .table_rows import figure_item, fill, label_item

_MOST_ROWS = 7
_MEAN = "mean"


class RunLive:
    """Shows a `FineTuneJob`; every change comes from it, at most once a second."""

    def __init__(self, ui: Any, do: Callable[[Callable[[], Any]], None]) -> None:
        """`do(act)` calls `act`, and says it if that cannot be done."""
        self._ui = ui
        self._do = do
        self._discarding: Any = None
        self._job: Any = None
        self._rows: tuple[Any, ...] = ()
        #: Whether the plots went with the scene.
        self.is_lost = False
        self._ask = AskBar(ui, "runAsk")
        self.plot = CurvesPlot(ui.curvesWidget)
        table = ui.diceTable
        table.setColumnCount(3)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.toolTip = tooltip(
            _(
                "How well the segmentation agrees with yours on cases that are not trained on: 1 is perfect, 0 is no "
                "overlap at all. The colours are those of the curves; dashed is the model before."
            )
        )
        ui.runHintLabel.text = _("You may go on working, or close Slicer: it goes on, and is here when you come back.")
        connect(ui.stopKeepButton, "clicked()", self._on_stop)
        connect(ui.discardRunButton, "clicked()", self._on_discard)
        self.clear()

    def clear(self) -> None:
        """There is no run to show."""
        self._job = self._discarding = None
        self._rows = ()
        self._ask.clear()
        self.plot.clear()
        self._ui.runFrame.visible = False

    def show(self, job: Any, status: RunStatus, curves: Curves, colours: Mapping[str, Colour]) -> None:
        """`status` and `curves` of `job` now; without the buttons if it is not running."""
        ui = self._ui
        self._job, self.is_lost = job, False
        is_running = status.state.name in ("WAITING", "RUNNING")
        ui.runFrame.visible = True
        ui.liveWidget.visible = is_running
        ui.runLabel.visible = is_running
        if is_running:
            ui.runLabel.text = breakable(run_text(status))
            ui.runProgressBar.value = round(1000 * status.fraction)
            self._show_buttons(status)
        else:
            self._ask.clear()
        self.plot.show(curves, status.steps, colours)
        self._show_dice(status.result, curves, colours)

    def scene_start_close(self) -> None:
        """The nodes of the plots go; they are made anew when the next scene is there."""
        self.is_lost = self._job is not None
        self.plot.clear()

    def _show_buttons(self, status: RunStatus) -> None:
        button = self._ui.stopKeepButton
        nothing = "" if status.step > 0 else _("Nothing has been learned yet.")
        is_ending = self._discarding is self._job
        self._ui.discardRunButton.enabled = not is_ending
        self._ui.discardRunButton.text = _("Discarding...") if is_ending else _("Cancel and discard")
        button.enabled = not nothing and not status.stop_requested and not is_ending
        button.text = _("Stopping...") if status.stop_requested else _("Stop and keep best")
        button.toolTip = tooltip(
            nothing or _("End the training now and make a version of the best state so far; it is checked as usual.")
        )

    def _on_stop(self) -> None:
        if self._job is not None:
            self._do(self._job.stopAndKeep)

    def _on_discard(self) -> None:
        job = self._job
        self._ask.show(
            _("Cancel it and discard what was learned?"),
            Answer(_("Discard"), lambda: self._discard(job), _("Your cases and models stay as they are.")),
            Answer(_("Go on training"), lambda: None),
        )

    def _discard(self, job: Any) -> None:
        """Its process takes a moment to end."""
        self._discarding = job
        self._show_buttons(job.status)
        self._do(job.discard)

    def _show_dice(self, result: RunResult | None, curves: Curves, colours: Mapping[str, Colour]) -> None:
        """Before and now, label by label; in the end before and after."""
        before: Mapping[str, float] = curves.before or {}
        now: Mapping[str, float] = curves.dice[-1][1] if curves.dice else {}
        if result is not None:
            before, now = _with_mean(result.before, result.mean_before), _with_mean(result.after, result.mean_after)
        names = list(dict.fromkeys(name for name in (*now, *before) if name != _MEAN))
        order = [_MEAN, *names] if len(names) > 1 else names
        rows = tuple((name, dice_text(before.get(name)), dice_text(now.get(name))) for name in order)
        table = self._ui.diceTable
        table.visible = bool(rows)
        table.setHorizontalHeaderLabels([_("Dice"), _("Before"), _("Now") if result is None else _("After")])
        if rows == self._rows:
            return
        self._rows = rows
        items = []
        for name, old, new in rows:
            text = _("Mean") if name == _MEAN else name
            colour = None if name == _MEAN else colour_of(name, names, colours)
            items.append([label_item(text, colour), figure_item(old), figure_item(new)])
        fill(table, items, _MOST_ROWS)


def _with_mean(values: Mapping[str, float] | None, mean: float | None) -> dict[str, float]:
    return {**(values or {}), **({_MEAN: mean} if mean is not None else {})}
