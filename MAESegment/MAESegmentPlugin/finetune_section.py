"""The widgets of fine-tuning: what it would take, a run with its curves, and the decision about its result."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.finetune import FineTunePresenter
from MAESegmentLib.app.presenters.finetune_state import RunView
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .ask_bar import AskBar
from .curves_plot import CurvesPlot
from .widgets import RowTable, connect, figure_item, label_item, scroll_to, show_control, text_item


class FineTuneSection:
    """Draws the state of a `FineTunePresenter`; `place` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, place: Any) -> None:
        self._ui = ui
        self._soon = place.soon
        self.presenter = FineTunePresenter(logic, place, place.update)
        self._dice = RowTable(ui.diceTable, "sff", most_rows=7)
        self._outcome = RowTable(ui.outcomeTable, "fsf", (_("Case"), _("Label"), _("Dice before \u2192 after")))
        ui.diceTable.toolTip = tooltip(
            _(
                "Agreement with your segmentations on held-out cases: 1 is perfect, 0 is no overlap. Colours match the "
                "curves; dashed lines are the model before fine-tuning."
            )
        )
        self._banner = AskBar(ui, "bannerAsk", self.presenter.act)
        self._discarding = AskBar(ui, "runAsk", self.presenter.act)
        self.plot = CurvesPlot(ui.curvesWidget)
        ui.runHintLabel.text = _("You can keep working or close Slicer: training continues in the background.")
        presenter = self.presenter
        connect(ui.estimateButton, "clicked()", presenter.estimate)
        connect(ui.fineTuneButton, "clicked()", self._on_start)
        connect(ui.stopKeepButton, "clicked()", presenter.stop)
        connect(ui.discardRunButton, "clicked()", presenter.ask_discard)
        connect(ui.stepsLineEdit, "textChanged(QString)", self._on_steps)
        connect(ui.outcomeButton, "toggled(bool)", lambda _shown: self._show_outcome())
        self._show_run(None)

    def update(self, *, reason: str) -> None:
        """`reason` says why nothing can be learned now."""
        state = self.presenter.state(reason)
        self._ui.planLabel.text = breakable(state.plan)
        show_control(self._ui.fineTuneButton, state.start)
        show_control(self._ui.estimateButton, state.estimate)
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

    def _on_start(self) -> None:
        self.presenter.start()
        if self.presenter.is_running:
            # Once the frame has its place.
            self._soon(lambda: scroll_to(self._ui.runFrame))

    def _on_steps(self, text: str) -> None:
        self.presenter.set_steps(str(text))

    def _show_run(self, run: RunView | None) -> None:
        ui = self._ui
        ui.runFrame.visible = run is not None
        if run is None:
            self.plot.clear()
        else:
            ui.runTitleLabel.text = breakable(run.title)
            ui.liveWidget.visible = ui.runLabel.visible = run.is_running
            ui.runLabel.text = breakable(run.text)
            ui.runProgressBar.value = round(1000 * run.fraction)
            show_control(ui.stopKeepButton, run.stop)
            show_control(ui.discardRunButton, run.discard)
            self.plot.show(run.curves, run.steps, run.colours)
        self._discarding.show(run.discarding if run is not None else None)
        self._banner.show(run.banner if run is not None else None)
        dice = run.dice if run is not None else ()
        ui.diceTable.visible = bool(dice)
        if run is not None:
            ui.diceTable.setHorizontalHeaderLabels([*run.dice_titles])
        self._dice.show(
            dice, lambda row: [label_item(row.name, row.colour), figure_item(row.before), figure_item(row.after)]
        )
        outcome = run.outcome if run is not None else ()
        self._outcome.show(outcome, lambda row: [text_item(row.case), text_item(row.label), figure_item(row.change)])
        self._show_outcome()

    def _show_outcome(self) -> None:
        """The results of each case are shown when the user asks for them."""
        has_rows = bool(self._ui.outcomeTable.rowCount)
        self._ui.outcomeButton.visible = has_rows
        self._ui.outcomeTable.visible = has_rows and self._ui.outcomeButton.checked
