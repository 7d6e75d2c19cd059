"""The view of `VersionsPresenter` and `ComparePresenter`: the versions, and how two of them differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.compare import ComparePresenter
from MAESegmentLib.app.presenters.elements import Option, Question
from MAESegmentLib.app.presenters.versions import VersionsPresenter
from MAESegmentLib.app.texts.messages import breakable, tooltip

from .ask_bar import AskBar
from .widgets import RowTable, connect, figure_item, show_button, text_item


class VersionsSection:
    """`host` is the section Improve. Lists the versions again whenever models or the choice of one change."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self._host = host
        self._chosen = ""
        self.presenter = presenter = VersionsPresenter(logic, host, self._show)
        self._ask = AskBar(ui, "versionAsk", lambda key: getattr(presenter, key)())
        self.compare = ComparePart(ui, logic, host)
        titles = (_("Version"), _("Accuracy"))
        self._table = RowTable(ui.versionsTable, "fs", titles, most_rows=6, soon=host.soon)
        connect(ui.versionsTable, "itemSelectionChanged()", self._show_buttons)
        connect(ui.useVersionButton, "clicked()", lambda: presenter.use(self.selected))
        connect(ui.previousVersionButton, "clicked()", presenter.go_back)
        connect(ui.exportVersionButton, "clicked()", self._on_export)
        connect(ui.deleteVersionButton, "clicked()", lambda: presenter.ask_to_delete(self.selected))
        connect(ui.versionsCollapsibleButton, "contentsCollapsed(bool)", lambda _collapsed: self.update())
        self._show()

    @property
    def selected(self) -> str:
        """The version (name@version) of the chosen row, or ""."""
        rows, row = self.presenter.state.rows, self._table.selected
        return rows[row].name if 0 <= row < len(rows) else ""

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
        state, chosen = self.presenter.state, self._chosen
        if self._table.show(
            state.rows, lambda row: [text_item(row.title, row.card), text_item(row.accuracy, row.card)]
        ):
            for number, row in enumerate(state.rows):
                if row.name == chosen:
                    self._ui.versionsTable.selectRow(number)
        notice = Question(state.notice, (Option("forget", _("Close")),)) if state.notice else None
        self._ask.show(state.asks or notice)
        self._show_buttons()

    def _show_buttons(self) -> None:
        ui, state = self._ui, self.presenter.state
        self._chosen = self.selected
        row = state.row(self._chosen)
        nothing = "" if row is not None else _("Choose a version in the table.")
        busy = _("A version is being written.") if state.is_exporting else ""
        show_button(
            ui.useVersionButton,
            row.why_not_use if row is not None else nothing,
            _("Segment with this version from now on, also next time."),
        )
        show_button(ui.previousVersionButton, "" if state.previous else state.previous_tip, state.previous_tip)
        tip = _("Write this version to a zip file, for another computer.")
        show_button(ui.exportVersionButton, nothing or busy, tip)
        reason = row.why_kept if row is not None else nothing
        show_button(ui.deleteVersionButton, reason, _("Delete this version from your models."))

    def _on_export(self) -> None:
        version = self.selected
        if not version:
            return
        name, kind = f"{version.replace('@', '-')}.zip", _("Model (*.zip)")
        path = qt.QFileDialog.getSaveFileName(self._ui.exportVersionButton, _("Export a model"), name, kind)
        if path:
            self.presenter.export(version, Path(str(path)))


class ComparePart:
    """Which version to compare with, how far it is, and the table."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self._others: tuple[Any, ...] = ()
        self.presenter = ComparePresenter(logic, host, self._show)
        self._table = RowTable(ui.comparisonTable, "sfff")
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
        ui.comparisonTable.setHorizontalHeaderLabels(list(state.titles))
        tip = _("Dice between both: 1 if they are the same.")
        self._table.show(
            state.rows,
            lambda row: [
                text_item(row.label),
                figure_item(row.first),
                figure_item(row.second),
                figure_item(row.agreement, tip),
            ],
        )
