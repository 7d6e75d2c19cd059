"""The versions of the chosen model: which is used, the way back, export, and how two of them differ on a scan."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.texts.messages import tooltip
from MAESegmentLib.app.texts.model_cards import accuracy_of, card_tooltip, name_of
from MAESegmentLib.bundle import Bundle
from MAESegmentLib.bundle.versions import family_of, parent_of
from MAESegmentLib.errors import MAESegmentError

from .ask_bar import Answer, AskBar
from .compare_part import ComparePart
from .qt_connection import connect
from .table_rows import fill, fit_rows, text_item

_MOST_ROWS = 6


class VersionsSection:
    """`place` is the section Improve. Lists anew whenever models or the choice of one change."""

    def __init__(self, ui: Any, logic: Any, place: Any) -> None:
        self._ui = ui
        self._logic = logic
        self._place = place
        self._versions: list[Bundle] = []
        self._shown: tuple[Any, ...] = ()
        self._ask = AskBar(ui, "versionAsk")
        self.compare = ComparePart(ui, logic, place)
        table = ui.versionsTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Version"), _("How good")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        connect(table, "itemSelectionChanged()", self._update_buttons)
        connect(ui.useVersionButton, "clicked()", lambda: self._use(self.selected))
        connect(ui.previousVersionButton, "clicked()", lambda: self._use(self.previous))
        connect(ui.exportVersionButton, "clicked()", self._on_export)
        connect(ui.deleteVersionButton, "clicked()", self._on_delete)
        connect(ui.versionsCollapsibleButton, "contentsCollapsed(bool)", lambda _collapsed: self.update())

    @property
    def selected(self) -> Bundle | None:
        """The version of the chosen row."""
        table = self._ui.versionsTable
        row = table.currentRow()
        return self._versions[row] if 0 <= row < len(self._versions) and table.selectedItems() else None

    @property
    def previous(self) -> Bundle | None:
        """What the version in use was made from, if it is still there."""
        return parent_of(self._place.bundle, self._versions)

    def update(self) -> None:
        """Nothing while the section is closed: the models are read for it."""
        if self._ui.versionsCollapsibleButton.collapsed or not self._place.is_unfolded:
            self._ask.clear()
            return
        bundle = self._place.bundle
        self._versions = family_of(bundle, self._logic.models()) if bundle is not None else []
        self._show()
        self.compare.update(self._versions, self.previous)
        self._update_buttons()

    def compare_versions(self, first: str, second: str) -> None:
        """As if a person had asked for it here; both are name@version."""
        self._ui.versionsCollapsibleButton.collapsed = False
        self.compare.start(first, second)

    def _show(self) -> None:
        bundle = self._place.bundle
        shown = tuple((one.content_hash, self._mark(one, bundle)) for one in self._versions)
        if shown == self._shown:
            return
        chosen = self.selected
        self._shown = shown
        names = {one.name for one in self._versions}
        rows = []
        for one in self._versions:
            text = one.version if len(names) == 1 else f"{one.name} {one.version}"
            text += self._mark(one, bundle)
            rows.append([text_item(text, card_tooltip(one)), text_item(accuracy_of(one), card_tooltip(one))])
        fill(self._ui.versionsTable, rows, _MOST_ROWS)
        self._place.soon(lambda: fit_rows(self._ui.versionsTable, _MOST_ROWS))
        for row, one in enumerate(self._versions):
            if chosen is not None and one.content_hash == chosen.content_hash:
                self._ui.versionsTable.selectRow(row)

    def _mark(self, version: Bundle, in_use: Bundle) -> str:
        """What is chosen above is in use here; the default is what the name means elsewhere and next time."""
        if version.content_hash == in_use.content_hash:
            return " " + _("(in use)")
        return " " + _("(default)") if self._is_meant(version) else ""

    def _is_meant(self, version: Bundle | None) -> bool:
        meant = self._logic.selectedModel(version.name) if version is not None else None
        return meant is not None and version is not None and meant.content_hash == version.content_hash

    def _update_buttons(self) -> None:
        ui, chosen, current, previous = self._ui, self.selected, self._place.bundle, self.previous
        nothing = "" if chosen is not None else _("Choose a version in the table.")
        is_current = chosen is not None and current is not None and chosen.content_hash == current.content_hash
        tips = (
            (
                ui.useVersionButton,
                nothing or (_("It is in use.") if is_current and self._is_meant(chosen) else ""),
                _("Segment with this version from now on, also next time."),
            ),
            (
                ui.previousVersionButton,
                "" if previous is not None else _("There is no version before the one in use."),
                _("Go back to {version}, from which the one in use was made.").format(
                    version=previous.version if previous is not None else ""
                ),
            ),
            (ui.exportVersionButton, nothing, _("Write this version to a zip file, for another computer.")),
            (ui.deleteVersionButton, nothing or self._why_kept(chosen), _("Delete this version from your models.")),
        )
        for button, reason, tip in tips:
            button.enabled = not reason
            button.toolTip = tooltip(reason or tip)

    def _why_kept(self, version: Bundle | None) -> str:
        return str(self._logic.removableReason(version)) if version is not None else ""

    def _use(self, version: Bundle | None) -> None:
        if version is None:
            return
        try:
            self._logic.useVersion(version)
        except MAESegmentError as error:
            self._place.failed(error)
            return
        self._place.use_model(name_of(version))

    def _on_export(self) -> None:
        version = self.selected
        if version is None:
            return
        name, kind = f"{version.name}-{version.version}.zip", _("Model (*.zip)")
        path = qt.QFileDialog.getSaveFileName(self._ui.exportVersionButton, _("Export a model"), name, kind)
        if not path:
            return
        try:
            self._logic.exportModel(version, str(path))
        except MAESegmentError as error:
            self._place.failed(error)
            return
        text = _("{name} {version} was written to {path}.")
        self._ask.show(text.format(name=version.name, version=version.version, path=path), _close())

    def _on_delete(self) -> None:
        version = self.selected
        if version is not None:
            self._ask.show(
                _("Delete {name} {version}? That cannot be undone.").format(name=version.name, version=version.version),
                Answer(_("Delete"), lambda: self._delete(version)),
                Answer(_("Keep it"), lambda: None),
            )

    def _delete(self, version: Bundle) -> None:
        in_use = self._place.bundle
        parent = parent_of(version, self._versions)
        try:
            self._logic.removeVersion(version)
        except MAESegmentError as error:
            self._place.failed(error)
            return
        if in_use is not None and in_use.content_hash == version.content_hash and parent is not None:
            self._place.use_model(name_of(parent))
        else:
            self._place.models_changed()
        self._place.update()


def _close() -> Answer:
    return Answer(_("Close"), lambda: None)
