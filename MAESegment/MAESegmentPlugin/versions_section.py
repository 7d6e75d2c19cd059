"""The view of `VersionsPresenter`: a table of versions, and what can be done with the chosen one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.elements import Option, Question
from MAESegmentLib.app.presenters.versions import VersionsPresenter
from MAESegmentLib.app.texts.messages import tooltip

from .ask_bar import AskBar
from .compare_part import ComparePart
from .qt_connection import connect
from .table_rows import fill, fit_rows, text_item

_MOST_ROWS = 6


class VersionsSection:
    """`host` is the section Improve. Lists the versions again whenever models or the choice of one change."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self._host = host
        self._filled: tuple[Any, ...] = ()
        self.presenter = presenter = VersionsPresenter(logic, host, self._show)
        self._ask = AskBar(ui, "versionAsk", lambda key: getattr(presenter, key)())
        self.compare = ComparePart(ui, logic, host)
        table = ui.versionsTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Version"), _("Accuracy")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        connect(table, "itemSelectionChanged()", self._show_buttons)
        connect(ui.useVersionButton, "clicked()", lambda: presenter.use(self.selected))
        connect(ui.previousVersionButton, "clicked()", presenter.go_back)
        connect(ui.exportVersionButton, "clicked()", self._on_export)
        connect(ui.deleteVersionButton, "clicked()", lambda: presenter.ask_to_delete(self.selected))
        connect(ui.versionsCollapsibleButton, "contentsCollapsed(bool)", lambda _collapsed: self.update())
        self._show()

    @property
    def selected(self) -> str:
        """The version (name@version) of the chosen row, or ""."""
        table, rows = self._ui.versionsTable, self.presenter.state.rows
        row = table.currentRow()
        return rows[row].name if 0 <= row < len(rows) and table.selectedItems() else ""

    def update(self) -> None:
        """Nothing while the section is closed: the models are read for it."""
        presenter = self.presenter
        if self._ui.versionsCollapsibleButton.collapsed or not self._host.is_unfolded:
            presenter.forget()
            return
        presenter.update()
        self.compare.presenter.update(presenter.versions, presenter.state.previous)

    def compare_versions(self, first: str, second: str) -> None:
        """As if the user had asked for it here; both are name@version."""
        self._ui.versionsCollapsibleButton.collapsed = False
        self.compare.presenter.start(first, second)

    def cleanup(self) -> None:
        self.presenter.close()
        self.compare.presenter.close()

    def _show(self) -> None:
        presenter = self.presenter
        state = presenter.state
        self._show_rows()
        notice = Question(state.notice, (Option("forget", _("Close")),)) if state.notice else None
        self._ask.show(state.asks or notice)
        self._show_buttons()

    def _show_rows(self) -> None:
        rows, table = self.presenter.state.rows, self._ui.versionsTable
        if rows == self._filled:
            return
        chosen = next((row.name for number, row in enumerate(self._filled) if number == table.currentRow()), "")
        chosen = chosen if table.selectedItems() else ""
        self._filled = rows
        fill(table, [[text_item(row.title, row.card), text_item(row.accuracy, row.card)] for row in rows], _MOST_ROWS)
        self._host.soon(lambda: fit_rows(table, _MOST_ROWS))
        for number, row in enumerate(rows):
            if row.name == chosen:
                table.selectRow(number)

    def _show_buttons(self) -> None:
        ui, state = self._ui, self.presenter.state
        row = state.row(self.selected)
        nothing = "" if row is not None else _("Choose a version in the table.")
        busy = _("A version is being written.") if state.is_exporting else ""
        tips = (
            (
                ui.useVersionButton,
                row.why_not_use if row is not None else nothing,
                _("Segment with this version from now on, also next time."),
            ),
            (ui.previousVersionButton, "" if state.previous else state.previous_tip, state.previous_tip),
            (ui.exportVersionButton, nothing or busy, _("Write this version to a zip file, for another computer.")),
            (
                ui.deleteVersionButton,
                row.why_kept if row is not None else nothing,
                _("Delete this version from your models."),
            ),
        )
        for button, reason, tip in tips:
            button.enabled = not reason
            button.toolTip = tooltip(reason or tip)

    def _on_export(self) -> None:
        version = self.selected
        if not version:
            return
        name, kind = f"{version.replace('@', '-')}.zip", _("Model (*.zip)")
        path = qt.QFileDialog.getSaveFileName(self._ui.exportVersionButton, _("Export a model"), name, kind)
        if path:
            self.presenter.export(version, Path(str(path)))
