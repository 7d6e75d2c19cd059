"""The view of `NextCasePresenter`: which scans are ranked, and the ranked ones."""

from __future__ import annotations

from typing import Any

import ctk
import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.next_case import FOLDER, SCENE, NextCasePresenter, intro
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .qt_connection import connect
from .table_rows import figure_item, fill, fit_rows, text_item

_MOST_ROWS = 8


class NextCaseSection:
    """`host` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self._host = host
        self._filled: tuple[Any, ...] = ()
        self.presenter = presenter = NextCasePresenter(logic, host, self._show)
        ui.nextIntroLabel.text = intro()
        ui.nextSourceComboBox.addItem(_("The scene"), SCENE)
        ui.nextSourceComboBox.addItem(_("A folder"), FOLDER)
        ui.nextFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        table = ui.rankTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels(["#", _("Scan"), _("Why")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(2, qt.QHeaderView.Stretch)
        connect(ui.nextSourceComboBox, "currentIndexChanged(int)", lambda _index: self._on_source())
        connect(ui.nextFolderPathLineEdit, "currentPathChanged(QString)", lambda path: presenter.set_folder(str(path)))
        connect(ui.nextVolumesSelector, "checkedNodesChanged()", presenter.update)
        connect(ui.rankButton, "clicked()", presenter.press)
        connect(ui.showSliceButton, "clicked()", lambda: presenter.show(presenter.state.chosen))
        connect(table, "itemSelectionChanged()", self._on_selection)
        connect(table, "cellDoubleClicked(int,int)", lambda row, _column: presenter.show(row))
        self._show()

    @property
    def ticked(self) -> list[Any]:
        """Volumes that the user chose."""
        return [node for node in self._ui.nextVolumesSelector.checkedNodes() if node is not None]

    def _on_source(self) -> None:
        self.presenter.set_source(str(self._ui.nextSourceComboBox.currentData))

    def _on_selection(self) -> None:
        table = self._ui.rankTable
        self.presenter.choose(table.currentRow() if table.selectedItems() else -1)

    def _show(self) -> None:
        ui, state = self._ui, self.presenter.state
        for widget in (ui.nextFolderLabel, ui.nextFolderPathLineEdit):
            widget.visible = state.source == FOLDER
        for widget in (ui.nextVolumesLabel, ui.nextVolumesSelector):
            widget.visible = state.source == SCENE
        ui.rankButton.enabled = state.is_running or not state.blocked
        ui.rankButton.text = state.button_text
        ui.rankButton.toolTip = tooltip(state.tip)
        ui.rankProgressBar.visible = ui.rankLabel.visible = state.is_running
        ui.rankProgressBar.value = round(1000 * state.fraction)
        ui.rankLabel.text = breakable(state.stage)
        ui.rankTable.visible = ui.showSliceButton.visible = bool(state.rows)
        self._show_rows()
        ui.showSliceButton.enabled = state.can_show
        ui.showSliceButton.toolTip = tooltip(state.show_tip)

    def _show_rows(self) -> None:
        state, table = self.presenter.state, self._ui.rankTable
        if state.rows == self._filled:
            return
        self._filled = state.rows
        fill(
            table,
            [[figure_item(row.place), text_item(row.name), text_item(row.why, row.tip)] for row in state.rows],
            _MOST_ROWS,
        )
        self._host.soon(lambda: fit_rows(table, _MOST_ROWS))
        if state.chosen >= 0:
            table.selectRow(state.chosen)
