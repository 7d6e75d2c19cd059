"""The widgets of fine-tuning: what it would take, a run with its curves, and the decision about its result."""

from __future__ import annotations

from typing import Any

import ctk
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.learning.finetune import FineTunePresenter
from MAESegmentLib.app.presenters.learning.finetune_state import RunView
from MAESegmentLib.app.presenters.learning.training_choices import (
    ChoicesState,
    measured_intro,
    measured_rows,
    measured_titles,
    source_options,
    time_options,
)
from MAESegmentLib.app.presenters.next_case import FOLDER, SCENE
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .ask_bar import AskBar
from .curves_plot import CurvesPlot
from .widgets import RowTable, connect, figure_item, label_item, scroll_to, show_control, text_item


class FineTuneSection:
    """Draws the state of a `FineTunePresenter`; `place` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, place: Any) -> None:
        self._ui = ui
        self._soon = place.soon
        self._is_filling = False
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
        self._set_up_choices()
        self._show_run(None)

    def _set_up_choices(self) -> None:
        ui = self._ui
        for option in time_options():
            ui.timeComboBox.addItem(option.text, option.key)
        for option in source_options(folders=True, scene=_("The scene"), folder=_("A folder")):
            ui.moreSourceComboBox.addItem(option.text, option.key)
        ui.moreFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.measuredLabel.text = breakable(measured_intro())
        self._measured = RowTable(ui.measuredTable, "sfff", measured_titles(), soon=self._soon)
        connect(ui.timeComboBox, "currentIndexChanged(int)", lambda _index: self._on_time())
        connect(ui.validateCheckBox, "toggled(bool)", self._on_validate)
        connect(ui.moreSourceComboBox, "currentIndexChanged(int)", lambda _index: self._on_scans())
        connect(ui.moreFolderPathLineEdit, "currentPathChanged(QString)", lambda _path: self._on_scans())
        connect(ui.moreVolumesSelector, "checkedNodesChanged()", self._on_scans)
        connect(ui.measuredButton, "toggled(bool)", lambda _shown: self._show_measured())
        self._show_measured()

    def update(self, *, reason: str) -> None:
        """`reason` says why nothing can be learned now."""
        state = self.presenter.state(reason)
        self._ui.planLabel.text = breakable(state.plan)
        self._show_choices(state.choices)
        show_control(self._ui.fineTuneButton, state.start)
        show_control(self._ui.estimateButton, state.estimate)
        self._show_run(state.run)

    @property
    def ticked(self) -> list[Any]:
        """Volumes without labels that the user chose."""
        return [node for node in self._ui.moreVolumesSelector.checkedNodes() if node is not None]

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

    def _on_time(self) -> None:
        if not self._is_filling:
            self.presenter.set_time(str(self._ui.timeComboBox.currentData))

    def _on_validate(self, checked: bool) -> None:
        if not self._is_filling:
            self.presenter.set_validates(bool(checked))

    def _on_scans(self) -> None:
        if not self._is_filling:
            ui = self._ui
            self.presenter.set_scans(str(ui.moreSourceComboBox.currentData), str(ui.moreFolderPathLineEdit.currentPath))

    def _on_steps(self, text: str) -> None:
        self.presenter.set_steps(str(text))

    def _show_choices(self, state: ChoicesState) -> None:
        ui = self._ui
        self._is_filling = True
        ui.timeComboBox.setCurrentIndex(ui.timeComboBox.findData(state.time))
        ui.validateCheckBox.checked = bool(state.validates)
        self._is_filling = False
        ui.timeComboBox.enabled = not state.notice
        ui.timeComboBox.toolTip = tooltip(state.notice or state.time_tip)
        ui.validateCheckBox.visible = state.validates is not None
        ui.validateCheckBox.text = state.validation_text
        ui.validateCheckBox.toolTip = tooltip(state.validation_tip)
        for widget in (ui.moreVolumesLabel, ui.moreVolumesSelector):
            widget.visible = state.source == SCENE
        for widget in (ui.moreFolderLabel, ui.moreFolderPathLineEdit):
            widget.visible = state.source == FOLDER
        for widget, text in ((ui.timeNoteLabel, state.notice), (ui.moreNoteLabel, state.scans_note)):
            widget.visible = bool(text)
            widget.text = breakable(text)

    def _show_measured(self) -> None:
        """What times brought is shown when the user asks for it."""
        ui, rows = self._ui, measured_rows()
        ui.measuredButton.visible = bool(rows)
        is_shown = bool(rows) and ui.measuredButton.checked
        for widget in (ui.measuredLabel, ui.measuredTable):
            widget.visible = is_shown
        self._measured.show(
            rows if is_shown else (),
            lambda row: [text_item(row.structure, row.tip), *map(figure_item, (row.cases, row.time, row.dice))],
        )

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
