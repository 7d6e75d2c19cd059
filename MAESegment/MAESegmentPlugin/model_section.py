"""Which model, what it is for, how good it is, and its card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.errors import MAESegmentError

from .qt_connection import connect

_LONGEST_TOOLTIP = 1500


class ModelSection:
    """`chosen` is the bundle; its name and version are in the parameter node."""

    def __init__(self, ui, logic, chosen: Callable[[str], None], failed: Callable[[MAESegmentError], None]) -> None:
        self._ui = ui
        self._logic = logic
        self._chosen = chosen
        self._failed = failed
        self._bundles: dict[str, Bundle] = {}
        self._shown = ""
        self._is_filling = False
        connect(ui.modelComboBox, "currentIndexChanged(int)", self._on_choice)
        connect(ui.importButton, "clicked()", self._on_import)
        connect(ui.detailsButton, "toggled(bool)", self._on_details)

    def bundle(self, name: str) -> Bundle | None:
        """The model called name@version."""
        return self._bundles.get(name)

    def refresh(self) -> None:
        """List the models anew; the choice stays."""
        combo = self._ui.modelComboBox
        self._bundles = {f"{bundle.name}@{bundle.version}": bundle for bundle in self._logic.models()}
        current = combo.currentData
        self._is_filling = True
        combo.clear()
        for key, bundle in reversed(self._bundles.items()):
            combo.addItem(f"{bundle.name} {bundle.version}", key)
            combo.setItemData(combo.count - 1, card_tooltip(bundle), qt.Qt.ToolTipRole)
        self._is_filling = False
        self.select(current or "")

    def select(self, name: str) -> None:
        """Show `name` in the selector, without telling anybody."""
        index = self._ui.modelComboBox.findData(name)
        if index != self._ui.modelComboBox.currentIndex:
            self._is_filling = True
            self._ui.modelComboBox.setCurrentIndex(index)
            self._is_filling = False

    def default(self) -> str:
        """name@version of what is chosen at first, "" if there is no model."""
        bundle = self._logic.defaultModel()
        return f"{bundle.name}@{bundle.version}" if bundle is not None else ""

    def update(self, name: str, *, enabled: bool) -> None:
        ui, bundle = self._ui, self.bundle(name)
        self.select(name)
        ui.modelComboBox.enabled = enabled and bool(self._bundles)
        ui.importButton.enabled = enabled
        ui.detailsButton.enabled = bundle is not None
        if bundle is None:
            text = _("There is no model: import one.") if not self._bundles else _("Choose a model.")
            if name and self._bundles:
                text = _("The scene names the model {name}, which is not installed. Choose another.").format(name=name)
            ui.modelInfoLabel.text = text
            ui.cardBrowser.clear()
            self._shown = ""
            return
        if self._shown != bundle.content_hash:
            self._shown = bundle.content_hash
            ui.modelInfoLabel.text = summary_of(bundle)
            ui.modelComboBox.toolTip = card_tooltip(bundle)
            ui.cardBrowser.setMarkdown(_card(bundle))

    def _on_choice(self, _index: int) -> None:
        if not self._is_filling:
            self._chosen(str(self._ui.modelComboBox.currentData or ""))

    def _on_details(self, shown: bool) -> None:
        self._ui.cardBrowser.visible = shown

    def _on_import(self) -> None:
        title, kind = _("Import a model"), _("Model (*.zip)")
        path = qt.QFileDialog.getOpenFileName(self._ui.importButton, title, "", kind)
        if path:
            self.import_file(str(path))

    def import_file(self, path: str) -> None:
        """Add the model in a zip file and choose it."""
        try:
            bundle = self._logic.importModel(path)
        except MAESegmentError as error:
            self._failed(error)
            return
        self.refresh()
        self._chosen(f"{bundle.name}@{bundle.version}")


def summary_of(bundle: Bundle) -> str:
    """What it is for, and its accuracy with the number of cases."""
    lines = [str(bundle.metadata.get("description", "")).strip()]
    accuracy = accuracy_of(bundle)
    if accuracy:
        lines.append(accuracy)
    return "\n".join(line for line in lines if line)


def accuracy_of(bundle: Bundle) -> str:
    """ "Mean Dice 0.87 on 40 held-out cases", or "" where nothing was measured."""
    metrics: Any = bundle.metadata["maesegment"].get("metrics") or {}
    measured = metrics.get("validation") or next(iter(metrics.values()), None)
    if not isinstance(measured, dict) or measured.get("mean_dice_after") is None:
        return ""
    text = _("Mean Dice {dice} on {n} held-out cases")
    if measured.get("indicative_only"):
        text = _("Mean Dice {dice} by leave-one-out on {n} cases: indicative only")
    return text.format(dice=f"{float(measured['mean_dice_after']):.2f}", n=measured.get("cases", "?"))


def card_tooltip(bundle: Bundle) -> str:
    """The essentials of the card."""
    metadata = bundle.metadata
    lines = [
        f"{bundle.name} {bundle.version}",
        summary_of(bundle),
        _("Segments: {names}").format(names=", ".join(label.name for label in bundle.labels)),
        _("Use: {text}").format(text=metadata.get("intended_use", "")),
        _("Data: {text}").format(text=metadata.get("data_source", "")),
        _("Licence: {text}").format(text=metadata["maesegment"].get("licence", "")),
    ]
    return "\n".join(line for line in lines if line)[:_LONGEST_TOOLTIP]


def _card(bundle: Bundle) -> str:
    try:
        return bundle.card
    except MAESegmentError as error:
        return str(error)
