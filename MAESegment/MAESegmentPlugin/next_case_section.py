"""The view of `NextCasePresenter`: which scans are ranked, and the ranked ones."""

from __future__ import annotations

from typing import Any

import ctk
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.next_case import FOLDER, SCENE, NextCasePresenter, intro
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .widgets import RowTable, connect, figure_item, show_button, text_item


class NextCaseSection:
    """`host` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self._is_filling = False
        self.presenter = presenter = NextCasePresenter(logic, host, self._show)
        ui.nextIntroLabel.text = intro()
        ui.nextSourceComboBox.addItem(_("The scene"), SCENE)
        ui.nextSourceComboBox.addItem(_("A folder"), FOLDER)
        ui.nextFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        self._table = RowTable(ui.rankTable, "fss", ("#", _("Scan"), _("Why")), soon=host.soon)
        connect(ui.nextSourceComboBox, "currentIndexChanged(int)", lambda _index: self._on_source())
        connect(ui.nextFolderPathLineEdit, "currentPathChanged(QString)", lambda path: presenter.set_folder(str(path)))
        connect(ui.nextVolumesSelector, "checkedNodesChanged()", presenter.update)
        connect(ui.rankButton, "clicked()", presenter.press)
        connect(ui.showSliceButton, "clicked()", lambda: presenter.show(presenter.state.chosen))
        connect(ui.rankTable, "itemSelectionChanged()", self._on_selection)
        connect(ui.rankTable, "cellDoubleClicked(int,int)", lambda row, _column: presenter.show(row))
        self._show()

    @property
    def ticked(self) -> list[Any]:
        """Volumes that the user chose."""
        return [node for node in self._ui.nextVolumesSelector.checkedNodes() if node is not None]

    def _on_source(self) -> None:
        self.presenter.set_source(str(self._ui.nextSourceComboBox.currentData))

    def _on_selection(self) -> None:
        if not self._is_filling:
            self.presenter.choose(self._table.selected)

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
        self._is_filling = True
        self._table.show(
            state.rows, lambda row: [figure_item(row.place), text_item(row.name), text_item(row.why, row.tip)]
        )
        if state.chosen not in (-1, self._table.selected):
            ui.rankTable.selectRow(state.chosen)
        self._is_filling = False
        show_button(ui.showSliceButton, "" if state.can_show else state.show_tip, state.show_tip)
