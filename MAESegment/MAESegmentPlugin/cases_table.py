"""The view of `CasesPresenter`: a table of the stored cases."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.cases import CaseRow, CasesPresenter
from MAESegmentLib.app.texts.messages import breakable, tooltip
from MAESegmentLib.cases.records import CHECK, TRAIN

from .ask_bar import AskBar
from .widgets import connect, fit_height, show_button

_PICTURE = 72
_MOST_HEIGHT = 250
_PICTURE_COLUMN, _TEXT_COLUMN, _ROLE_COLUMN = range(3)


class CasesTable:
    """`host` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self._host = host
        self.presenter = CasesPresenter(logic, host, self._show)
        self._ask = AskBar(ui, "caseAsk", self.presenter.act)
        self._filled: tuple[Any, ...] = ()
        self._combos: list[Any] = []
        table = ui.casesTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Picture"), _("Case"), _("Use")])
        table.setIconSize(qt.QSize(_PICTURE, _PICTURE))
        table.setColumnWidth(_PICTURE_COLUMN, _PICTURE + 12)
        table.horizontalHeader().setSectionResizeMode(_TEXT_COLUMN, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(_ROLE_COLUMN, qt.QHeaderView.ResizeToContents)
        connect(table, "itemSelectionChanged()", self._show_buttons)
        connect(table, "cellDoubleClicked(int,int)", lambda row, _column: self.presenter.open(self._case(row)))
        connect(ui.openCaseButton, "clicked()", lambda: self.presenter.open(self.selected))
        connect(ui.removeCaseButton, "clicked()", lambda: self.presenter.ask_to_remove(self.selected))
        self._show()

    @property
    def selected(self) -> str:
        """The case of the chosen row, or ""."""
        table = self._ui.casesTable
        return self._case(table.currentRow()) if table.selectedItems() else ""

    def _case(self, row: int) -> str:
        rows = self.presenter.state.rows
        return rows[row].id if 0 <= row < len(rows) else ""

    def _show(self) -> None:
        ui, state = self._ui, self.presenter.state
        ui.casesLabel.text = breakable(state.text)
        for widget in (ui.casesTable, ui.openCaseButton, ui.removeCaseButton):
            widget.visible = bool(state.rows)
        # The role is not among this: it changes in place, under the hand of the user.
        filled = tuple((row.id, row.revision, row.text, row.tip) for row in state.rows)
        if filled != self._filled:
            self._filled = filled
            self._fill(state.rows)
        for combo, row in zip(self._combos, state.rows, strict=True):
            combo.setCurrentIndex(combo.findData(row.role))
            combo.enabled = not state.blocked
        self._ask.show(state.asks)
        self._show_buttons()

    def _fill(self, rows: tuple[CaseRow, ...]) -> None:
        table, chosen = self._ui.casesTable, self.selected
        self._combos = []
        table.setRowCount(0)
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            picture = qt.QTableWidgetItem()
            pixmap = qt.QPixmap(str(row.picture))
            if not pixmap.isNull():
                picture.setIcon(qt.QIcon(pixmap))
            picture.setToolTip(_("The slice with most in it, with the contours of the labels."))
            text = qt.QTableWidgetItem(row.text)
            text.setToolTip(tooltip(row.tip))
            table.setItem(number, _PICTURE_COLUMN, picture)
            table.setItem(number, _TEXT_COLUMN, text)
            table.setCellWidget(number, _ROLE_COLUMN, self._role_cell(row))
            if row.id == chosen:
                table.selectRow(number)
        self._fit_rows()
        # Once more when the columns have their widths.
        self._host.soon(self._fit_rows)

    def _fit_rows(self) -> None:
        table = self._ui.casesTable
        table.resizeRowsToContents()
        for number in range(table.rowCount):
            table.setRowHeight(number, max(table.rowHeight(number), _PICTURE + 6))
        fit_height(table, table.rowCount, _MOST_HEIGHT)

    def _role_cell(self, row: CaseRow) -> Any:
        """A box in the middle of the cell, which would else be as high as the picture."""
        cell, combo = qt.QWidget(), qt.QComboBox()
        layout = qt.QVBoxLayout(cell)
        layout.setContentsMargins(3, 0, 3, 0)
        layout.addWidget(combo)
        combo.addItem(_("Training"), TRAIN)
        combo.addItem(_("Validation"), CHECK)
        combo.setCurrentIndex(combo.findData(row.role))
        combo.toolTip = tooltip(
            _(
                "Training: the model learns from it. Validation: it is never trained on, so that it shows how good a "
                "new version is."
            )
        )
        connect(combo, "currentIndexChanged(int)", lambda _index: self._on_role(row.id, str(combo.currentData)))
        self._combos.append(combo)
        return cell

    def _on_role(self, case: str, role: str) -> None:
        self.presenter.set_role(case, role)
        # As it was, if that was refused.
        self._show()

    def _show_buttons(self) -> None:
        nothing = self.presenter.state.blocked or ("" if self.selected else _("Choose a case in the table."))
        for button, tip in (
            (self._ui.openCaseButton, _("Put the case's scan and segmentation into the scene, to look or to correct.")),
            (self._ui.removeCaseButton, _("Delete the case from the folder of cases; nothing in the scene changes.")),
        ):
            show_button(button, nothing, tip)
