"""Settings that few users need, the log, and diagnostics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.settings import devices as device_choices
from MAESegmentLib.app.presenters.settings import mirrorings, overlaps, precisions
from MAESegmentLib.storage.user_folders import default_cases_folder

from .widgets import connect


class AdvancedSection:
    """Choices go to the parameter node; Python and working folder are Slicer's settings, not the scene's."""

    def __init__(
        self,
        ui: Any,
        logic: Any,
        chosen: Callable[[str, Any], None],
        python_changed: Callable[[], None],
        diagnostics: Callable[[], str],
        may_ask: Callable[[], bool],
    ) -> None:
        """`may_ask` says whether the worker has what it needs to start."""
        self._ui = ui
        self._logic = logic
        self._session = logic.session
        self._python_changed = python_changed
        self._diagnostics = diagnostics
        self._may_ask = may_ask
        self._has_devices = False
        self._is_filling = False
        self._is_open = True
        self._pending: list[str] = []
        self._remove_log_listener: Callable[[], None] | None = None
        choices = (
            (ui.precisionComboBox, "precision", precisions()),
            (ui.overlapComboBox, "overlap", overlaps()),
            (ui.mirroringComboBox, "mirroring", mirrorings()),
            (ui.deviceComboBox, "device", ()),
        )
        self._combos = {name: combo for combo, name, _items in choices}
        for combo, name, items in choices:
            for text, data in items:
                combo.addItem(text, data)
            connect(
                combo,
                "currentIndexChanged(int)",
                lambda _index, combo=combo, name=name: self._on_choice(chosen, name, combo.currentData),
            )
        self._set_up_paths()
        connect(ui.refreshButton, "clicked()", self.refresh_devices)
        connect(ui.advancedCollapsibleButton, "contentsCollapsed(bool)", self._on_collapsed)
        connect(ui.logButton, "toggled(bool)", self._on_log)
        connect(ui.copyButton, "clicked()", self.copy_diagnostics)
        self._session.client.add_listener(self._on_worker)
        self.show_devices(self._session.client.devices_known)

    def update(self, parameters: Any, *, enabled: bool) -> None:
        """Show what the parameter node says."""
        self._is_filling = True
        for name, combo in self._combos.items():
            value = getattr(parameters, name)
            if combo.findData(value) < 0:  # chosen by a script, or on another computer
                combo.addItem(str(value), value)
            combo.setCurrentIndex(max(combo.findData(value), 0))
            combo.enabled = enabled
        self._explain_device()
        self._is_filling = False
        for widget in (
            self._ui.allowCpuCheckBox,
            self._ui.familiarityCheckBox,
            self._ui.cleanCheckBox,
            self._ui.pythonPathLineEdit,
            self._ui.folderPathLineEdit,
            self._ui.caseFolderPathLineEdit,
        ):
            widget.enabled = enabled

    def show_devices(self, devices: Any) -> None:
        """What the worker has found, with memory."""
        combo = self._ui.deviceComboBox
        self._has_devices = bool(devices)
        current = combo.currentData
        self._is_filling = True
        combo.clear()
        for text, name, tip in device_choices(devices):
            combo.addItem(text, name)
            combo.setItemData(combo.count - 1, tip, qt.Qt.ToolTipRole)
        if current and combo.findData(current) < 0:
            combo.addItem(str(current), current)
        combo.setCurrentIndex(max(combo.findData(current), 0))
        self._is_filling = False

    def _explain_device(self) -> None:
        combo = self._ui.deviceComboBox
        combo.toolTip = str(combo.itemData(combo.currentIndex, qt.Qt.ToolTipRole) or "")

    def refresh_devices(self) -> None:
        """Ask the worker, which is started for it if need be."""
        self._ui.refreshButton.enabled = False
        self._ui.refreshButton.toolTip = _("Looking for devices.")
        self._session.client.devices().add_listener(self._on_devices)

    def copy_diagnostics(self) -> None:
        slicer.app.clipboard().setText(self._diagnostics())
        self._ui.copyButton.text = _("Copied")
        self._session.loop.call_later(2.0, self._restore_copy_text)

    def show_log(self) -> None:
        """As the button does."""
        self._ui.logButton.checked = True

    def open_folder_setting(self) -> None:
        self._ui.advancedCollapsibleButton.collapsed = False
        self._ui.folderPathLineEdit.setFocus()

    def cleanup(self) -> None:
        """The widgets go; what is still to come is not for them."""
        self._is_open = False
        self._stop_following()

    def _stop_following(self) -> None:
        if self._remove_log_listener is not None:
            self._remove_log_listener()
            self._remove_log_listener = None

    def _set_up_paths(self) -> None:
        ui = self._ui
        ui.pythonPathLineEdit.filters = ctk.ctkPathLineEdit.Files + ctk.ctkPathLineEdit.Executable
        ui.folderPathLineEdit.filters = ui.caseFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.pythonPathLineEdit.currentPath = self._session.chosen_python
        ui.folderPathLineEdit.currentPath = self._session.chosen_folder
        ui.caseFolderPathLineEdit.currentPath = self._session.chosen_case_root
        for field, meaning in (
            (ui.pythonPathLineEdit, _("Slicer's own Python")),
            (ui.folderPathLineEdit, str(self._session.default_folder)),
            (ui.caseFolderPathLineEdit, str(default_cases_folder())),
        ):
            field.comboBox().lineEdit().placeholderText = meaning
        connect(ui.pythonPathLineEdit, "currentPathChanged(QString)", self._on_python)
        connect(ui.folderPathLineEdit, "currentPathChanged(QString)", self._session.set_working_folder)

    def _on_python(self, path: str) -> None:
        self._session.set_python(str(path))
        self._python_changed()

    def _on_choice(self, chosen: Callable[[str, Any], None], name: str, value: Any) -> None:
        if not self._is_filling:
            chosen(name, value)

    def _on_collapsed(self, collapsed: bool) -> None:
        """The choice of devices is known only to the process that has torch; it starts when the user looks for it."""
        if not collapsed and not self._has_devices and self._may_ask():
            self.refresh_devices()

    def _on_devices(self, job: Any) -> None:
        if not job.is_finished or not self._is_open:
            return
        self._ui.refreshButton.enabled = True
        self._ui.refreshButton.toolTip = _("Look for devices again, and for how much memory is free.")
        if job.error is None:
            self.show_devices(job.result())
        else:
            self._session.log.add("warning", str(job.error))

    def _on_worker(self, client: Any) -> None:
        if client.devices_known and not self._has_devices and self._is_open:
            self.show_devices(client.devices_known)

    def _on_log(self, shown: bool) -> None:
        self._ui.logText.visible = shown
        self._ui.logButton.text = _("Hide log") if shown else _("Show log")
        self._stop_following()
        if shown:
            self._ui.logText.setPlainText(self._session.log.text())
            self._remove_log_listener = self._session.log.add_listener(self._on_line)
            self._scroll_down()

    def _on_line(self, line: str) -> None:
        """Lines come in bursts; they are shown a burst at a time."""
        self._pending.append(line)
        if len(self._pending) == 1:
            self._session.loop.call_later(0.1, self._flush)

    def _flush(self) -> None:
        lines, self._pending = self._pending, []
        if lines and self._remove_log_listener is not None:
            self._ui.logText.appendPlainText("\n".join(lines))
            self._scroll_down()

    def _scroll_down(self) -> None:
        bar = self._ui.logText.verticalScrollBar()
        bar.value = bar.maximum

    def _restore_copy_text(self) -> None:
        if self._is_open:
            self._ui.copyButton.text = _("Copy diagnostics")
