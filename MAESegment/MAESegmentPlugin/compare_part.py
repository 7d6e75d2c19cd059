"""The view of `ComparePresenter`: which version to compare with, how far it is, and the table."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.compare import ComparePresenter
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .qt_connection import connect
from .table_rows import figure_item, fill, text_item

_MOST_ROWS = 8


class ComparePart:
    """`host` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self._others: tuple[Any, ...] = ()
        self._filled: tuple[Any, ...] = ()
        self.presenter = ComparePresenter(logic, host, self._show)
        table = ui.comparisonTable
        table.setColumnCount(4)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        connect(ui.compareComboBox, "currentIndexChanged(int)", lambda _index: self._on_choice())
        connect(ui.compareButton, "clicked()", self.presenter.press)
        self._show()

    def _on_choice(self) -> None:
        if self._others == self.presenter.state.others:
            self.presenter.choose(str(self._ui.compareComboBox.currentData))

    def _show(self) -> None:
        ui, state = self._ui, self.presenter.state
        if state.others != self._others:
            self._others = ()
            ui.compareComboBox.clear()
            for option in state.others:
                ui.compareComboBox.addItem(option.text, option.key)
            self._others = state.others
        ui.compareComboBox.setCurrentIndex(ui.compareComboBox.findData(state.chosen))
        ui.compareComboBox.enabled = bool(state.others) and not state.is_running
        ui.compareButton.enabled = state.is_running or not state.blocked
        ui.compareButton.text = state.button_text
        ui.compareButton.toolTip = tooltip(state.tip)
        ui.compareProgressBar.visible = state.is_running
        ui.compareProgressBar.value = round(1000 * state.fraction)
        ui.comparisonLabel.text = breakable(state.text)
        ui.comparisonLabel.visible = bool(state.text)
        ui.comparisonTable.visible = bool(state.rows)
        if state.rows != self._filled:
            self._filled = state.rows
            tip = _("Dice between both: 1 if they are the same.")
            ui.comparisonTable.setHorizontalHeaderLabels(list(state.titles))
            rows = [
                [text_item(row.label), figure_item(row.first), figure_item(row.second), figure_item(row.agreement, tip)]
                for row in state.rows
            ]
            fill(ui.comparisonTable, rows, _MOST_ROWS)
