"""The stored cases: a picture with contours, what is drawn in each, and whether it is learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.texts.cases import case_text, cases_text
from MAESegmentLib.app.texts.messages import breakable, error_text, tooltip
from MAESegmentLib.cases.records import CHECK, TRAIN, CaseRecord
from MAESegmentLib.errors import MAESegmentError

from .ask_bar import Answer, AskBar
from .qt_connection import connect

_PICTURE = 72
_HEIGHT = 250
_PICTURE_COLUMN, _TEXT_COLUMN, _ROLE_COLUMN = range(3)


class CasesTable:
    """Shows records; `open_case(record)`, `remove(record)` and `set_role(record, role)` do what a person asks for."""

    def __init__(
        self,
        ui: Any,
        open_case: Callable[[CaseRecord], None],
        remove: Callable[[CaseRecord], None],
        set_role: Callable[[CaseRecord, str], None],
    ) -> None:
        self._ui = ui
        self._open, self._remove, self._set_role = open_case, remove, set_role
        self._ask = AskBar(ui, "caseAsk")
        self._records: tuple[CaseRecord, ...] = ()
        self._combos: list[Any] = []
        self._is_filling = False
        self._reason = ""
        table = ui.casesTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Picture"), _("Case"), _("Use")])
        table.setIconSize(qt.QSize(_PICTURE, _PICTURE))
        table.setColumnWidth(_PICTURE_COLUMN, _PICTURE + 12)
        table.horizontalHeader().setSectionResizeMode(_TEXT_COLUMN, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(_ROLE_COLUMN, qt.QHeaderView.ResizeToContents)
        table.setFixedHeight(_HEIGHT)
        connect(table, "itemSelectionChanged()", self._update_buttons)
        connect(table, "cellDoubleClicked(int,int)", self._on_double_click)
        connect(ui.openCaseButton, "clicked()", self._on_open)
        connect(ui.removeCaseButton, "clicked()", self._on_remove)
        self.show((), None)

    @property
    def selected(self) -> CaseRecord | None:
        """The case of the chosen row."""
        row = self._ui.casesTable.currentRow()
        return self._records[row] if 0 <= row < len(self._records) and self._ui.casesTable.selectedItems() else None

    def show(
        self, records: Sequence[CaseRecord], folder: Path | None, problems: Sequence[MAESegmentError] = ()
    ) -> None:
        """List `records`, whose pictures lie below `folder`, and say what is damaged; the choice of a row stays."""
        lines = [cases_text(records), *(f"\u26a0 {error_text(problem)}" for problem in problems)]
        self._ui.casesLabel.text = breakable("\n".join(lines))
        self._ui.casesTable.visible = bool(records)
        self._ui.openCaseButton.visible = self._ui.removeCaseButton.visible = bool(records)
        if _without_role(records) != _without_role(self._records):
            self._fill(tuple(records), folder)
        self._records = tuple(records)
        self._show_roles()
        self._update_buttons()

    def update(self, *, reason: str) -> None:
        """`reason` says why no case can be changed now."""
        self._reason = reason
        for combo in self._combos:
            combo.enabled = not reason
        self._update_buttons()

    def _fill(self, records: tuple[CaseRecord, ...], folder: Path | None) -> None:
        chosen = self.selected.id if self.selected is not None else ""
        table = self._ui.casesTable
        self._ask.clear()
        self._combos = []
        table.setRowCount(0)
        table.setRowCount(len(records))
        for row, record in enumerate(records):
            picture = qt.QTableWidgetItem()
            pixmap = qt.QPixmap(str(folder / record.id / "thumbnail.png")) if folder is not None else qt.QPixmap()
            if not pixmap.isNull():
                picture.setIcon(qt.QIcon(pixmap))
            picture.setToolTip(_("The slice with most in it, with the contours of the labels."))
            text = qt.QTableWidgetItem(case_text(record))
            text.setToolTip(tooltip(_details(record)))
            table.setItem(row, _PICTURE_COLUMN, picture)
            table.setItem(row, _TEXT_COLUMN, text)
            table.setCellWidget(row, _ROLE_COLUMN, self._role_cell(row))
        table.resizeRowsToContents()
        for row, record in enumerate(records):
            table.setRowHeight(row, max(table.rowHeight(row), _PICTURE + 6))
            if record.id == chosen:
                table.selectRow(row)

    def _role_cell(self, row: int) -> Any:
        """A box in the middle of the cell, which would else be as high as the picture."""
        cell, combo = qt.QWidget(), qt.QComboBox()
        layout = qt.QVBoxLayout(cell)
        layout.setContentsMargins(3, 0, 3, 0)
        layout.addWidget(combo)
        combo.addItem(_("Learn"), TRAIN)
        combo.addItem(_("Check"), CHECK)
        combo.toolTip = tooltip(
            _(
                "Learn: the model is trained on it. Check: it is never trained on, so that it tells how good a new "
                "version is."
            )
        )
        connect(combo, "currentIndexChanged(int)", lambda _index: self._on_role(row, str(combo.currentData)))
        self._combos.append(combo)
        return cell

    def _show_roles(self) -> None:
        self._is_filling = True
        for combo, record in zip(self._combos, self._records, strict=True):
            combo.setCurrentIndex(combo.findData(record.role))
        self._is_filling = False

    def _update_buttons(self) -> None:
        nothing = self._reason or ("" if self.selected is not None else _("Choose a case in the table."))
        for button, tip in (
            (self._ui.openCaseButton, _("Put the case's scan and segmentation into the scene, to look or to correct.")),
            (self._ui.removeCaseButton, _("Delete the case from the folder of cases; nothing in the scene changes.")),
        ):
            button.enabled = not nothing
            button.toolTip = tooltip(nothing or tip)

    def _on_role(self, row: int, role: str) -> None:
        if not self._is_filling and self._records[row].role != role:
            self._set_role(self._records[row], role)

    def _on_open(self) -> None:
        if self.selected is not None:
            self._open(self.selected)

    def _on_double_click(self, row: int, _column: int) -> None:
        if row < len(self._records) and not self._reason:
            self._open(self._records[row])

    def _on_remove(self) -> None:
        record = self.selected
        if record is None:
            return
        self._ask.show(
            _("Remove {case}? Its files are deleted; versions that learned from it stay.").format(case=record.id),
            Answer(_("Remove"), lambda: self._remove(record)),
            Answer(_("Keep it"), lambda: None),
        )


def _without_role(records: Sequence[CaseRecord]) -> list[tuple[object, ...]]:
    """What the cells show, but for the role: that changes in place, under the hand of a person."""
    return [(r.id, r.revision, r.label_hash, r.labels, r.unknown, r.partial) for r in records]


def _details(record: CaseRecord) -> str:
    size = " x ".join(str(n) for n in record.shape)
    spacing = " x ".join(f"{mm:g}" for mm in record.spacing)
    lines = [_("{size} voxels of {spacing} mm").format(size=size, spacing=spacing)]
    if record.model:
        lines.append(
            _("Corrected from {name} {version}").format(
                name=record.model.get("name", "?"), version=record.model.get("version", "?")
            )
        )
    if record.added:
        lines.append(_("Stored on {date}").format(date=record.added))
    return "\n".join(lines)
