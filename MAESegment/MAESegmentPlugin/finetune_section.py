"""The widgets of fine-tuning: what it would take, a run with its curves, and the decision about its result."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.elements import Control
from MAESegmentLib.app.presenters.finetune import FineTunePresenter
from MAESegmentLib.app.presenters.finetune_state import DiceRow, OutcomeRow, RunView
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .ask_bar import AskBar
from .curves_plot import CurvesPlot
from .qt_connection import connect
from .table_rows import figure_item, fill, label_item, text_item

_MOST_DICE_ROWS = 7
_MOST_OUTCOME_ROWS = 8


class FineTuneSection:
    """Draws the state of a `FineTunePresenter`; `place` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, place: Any) -> None:
        self._ui = ui
        self.presenter = FineTunePresenter(logic, place, place.update)
        self._dice: tuple[DiceRow, ...] = ()
        self._outcome: tuple[OutcomeRow, ...] = ()
        self._banner = AskBar(ui, "bannerAsk", self.presenter.act)
        self._discarding = AskBar(ui, "runAsk", self.presenter.act)
        self.plot = CurvesPlot(ui.curvesWidget)
        self._set_up_tables()
        ui.runHintLabel.text = _("You can keep working or close Slicer: training continues in the background.")
        presenter = self.presenter
        connect(ui.estimateButton, "clicked()", presenter.estimate)
        connect(ui.fineTuneButton, "clicked()", presenter.start)
        connect(ui.stopKeepButton, "clicked()", presenter.stop)
        connect(ui.discardRunButton, "clicked()", presenter.ask_discard)
        connect(ui.stepsLineEdit, "textChanged(QString)", self._on_steps)
        connect(ui.outcomeButton, "toggled(bool)", lambda _shown: self._show_outcome())
        self._show_run(None)

    def update(self, *, reason: str) -> None:
        """`reason` says why nothing can be learned now."""
        state = self.presenter.state(reason)
        self._ui.planLabel.text = breakable(state.plan)
        _show(self._ui.fineTuneButton, state.start)
        _show(self._ui.estimateButton, state.estimate)
        self._show_run(state.run)

    @property
    def summary(self) -> str:
        """For the header of the section, which may be closed."""
        return self.presenter.summary

    def scene_start_close(self) -> None:
        """The nodes of the plots go; they are made again with the next scene."""
        self.plot.clear()

    def cleanup(self) -> None:
        self.presenter.close()
        self.plot.clear()

    def _on_steps(self, text: str) -> None:
        self.presenter.set_steps(str(text))

    def _show_run(self, run: RunView | None) -> None:
        ui = self._ui
        ui.runFrame.visible = run is not None
        if run is None:
            self.plot.clear()
        else:
            ui.liveWidget.visible = ui.runLabel.visible = run.is_running
            ui.runLabel.text = breakable(run.text)
            ui.runProgressBar.value = round(1000 * run.fraction)
            _show(ui.stopKeepButton, run.stop)
            _show(ui.discardRunButton, run.discard)
            self.plot.show(run.curves, run.steps, run.colours)
        self._discarding.show(run.discarding if run is not None else None)
        self._banner.show(run.banner if run is not None else None)
        self._show_dice(run)
        outcome = run.outcome if run is not None else ()
        if outcome != self._outcome:
            self._outcome = outcome
            items = [[text_item(row.case), text_item(row.label), figure_item(row.change)] for row in outcome]
            fill(ui.outcomeTable, items, _MOST_OUTCOME_ROWS)
        self._show_outcome()

    def _show_dice(self, run: RunView | None) -> None:
        table, rows = self._ui.diceTable, run.dice if run is not None else ()
        table.visible = bool(rows)
        if run is not None:
            table.setHorizontalHeaderLabels([*run.dice_titles])
        if rows != self._dice:
            self._dice = rows
            items = [
                [label_item(row.name, row.colour), figure_item(row.before), figure_item(row.after)] for row in rows
            ]
            fill(table, items, _MOST_DICE_ROWS)

    def _show_outcome(self) -> None:
        """The results of each case are shown when the user asks for them."""
        self._ui.outcomeButton.visible = bool(self._outcome)
        self._ui.outcomeTable.visible = bool(self._outcome) and self._ui.outcomeButton.checked

    def _set_up_tables(self) -> None:
        stretch, fit = qt.QHeaderView.Stretch, qt.QHeaderView.ResizeToContents
        for table, modes in ((self._ui.diceTable, (stretch, fit, fit)), (self._ui.outcomeTable, (fit, stretch, fit))):
            table.setColumnCount(3)
            for column, mode in enumerate(modes):
                table.horizontalHeader().setSectionResizeMode(column, mode)
        self._ui.outcomeTable.setHorizontalHeaderLabels([_("Case"), _("Label"), _("Dice before \u2192 after")])
        self._ui.diceTable.toolTip = tooltip(
            _(
                "Agreement with your segmentations on held-out cases: 1 is perfect, 0 is no overlap. Colours match the "
                "curves; dashed lines are the model before fine-tuning."
            )
        )


def _show(button: Any, control: Control) -> None:
    button.text = control.text
    button.enabled = control.is_enabled
    button.toolTip = tooltip(control.tip)
