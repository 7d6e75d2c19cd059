"""Which model, what it is for, how good it is, and its card."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.models import ModelList
from MAESegmentLib.app.texts.messages import breakable, tooltip
from MAESegmentLib.app.texts.model_cards import card_tooltip, name_of
from MAESegmentLib.bundle import Bundle
from MAESegmentLib.bundle.plain_text import without_html
from MAESegmentLib.errors import MAESegmentError

from .widgets import connect

_PICTURES = (".png", ".jpg", ".jpeg")


class ModelSection:
    """Shows the models by name and version.

    `chosen(name@version)` is called when the user picks one for `volume()`, `failed` with errors and `told` with what
    was done.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        chosen: Callable[[str], None],
        volume: Callable[[], Any],
        failed: Callable[[MAESegmentError], None],
        told: Callable[[str], None],
    ) -> None:
        self._ui = ui
        self._logic = logic
        self._chosen = chosen
        self._volume = volume
        self._failed = failed
        self._told = told
        self._models = ModelList(logic)
        self._shown = ""
        self._is_filling = False
        self._is_importing = False
        connect(ui.modelComboBox, "currentIndexChanged(int)", self._on_choice)
        connect(ui.importButton, "clicked()", self._on_import)
        connect(ui.detailsButton, "toggled(bool)", self._on_details)
        connect(ui.cardBrowser, "anchorClicked(QUrl)", self._on_link)

    @property
    def bundles(self) -> Collection[Bundle]:
        """Those that can be chosen."""
        return self._models.bundles.values()

    def bundle(self, name: str) -> Bundle | None:
        """The model called name@version."""
        return self._models.get(name)

    def refresh(self) -> None:
        """List the models again; the choice stays."""
        combo = self._ui.modelComboBox
        self._models.refresh()
        current = combo.currentData
        self._is_filling = True
        combo.clear()
        for name, bundle in self._models.bundles.items():
            combo.addItem(f"{bundle.name} {bundle.version}", name)
            combo.setItemData(combo.count - 1, card_tooltip(bundle), qt.Qt.ToolTipRole)
        self._is_filling = False
        self._shown = ""
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
        return self._models.default(self._volume())

    def for_scan(self, chosen: str) -> str:
        """What is chosen now that the volume is another."""
        return self._models.for_scan(chosen, self._volume())

    def update(self, name: str, *, enabled: bool) -> None:
        ui, bundle = self._ui, self.bundle(name)
        self.select(name)
        ui.modelComboBox.enabled = enabled and bool(self._models.bundles)
        ui.importButton.enabled = enabled and not self._is_importing
        ui.detailsButton.enabled = bundle is not None
        if bundle is None:
            self._shown = ""
            ui.modelInfoLabel.text = breakable(self._models.info(name))
            ui.modelComboBox.toolTip = tooltip(self._models.info(name))
            ui.cardBrowser.clear()
        elif self._shown != bundle.content_hash:
            self._shown = bundle.content_hash
            ui.modelInfoLabel.text = breakable(self._models.info(name))
            ui.modelComboBox.toolTip = card_tooltip(bundle)
            ui.cardBrowser.setMarkdown(_card(bundle))

    def import_file(self, path: str) -> None:
        """Add the model in a zip file; choose it only if there was no choice, as a stranger's is not used unasked.

        Events happen meanwhile, so the button cannot be pressed twice.
        """
        button, tip = self._ui.importButton, self._ui.importButton.toolTip
        self._is_importing, button.enabled, button.toolTip = True, False, _("A model is being checked.")
        try:
            bundle = self._logic.importModel(path)
        except MAESegmentError as error:
            self._failed(error)
            return
        finally:
            self._is_importing, button.enabled, button.toolTip = False, True, tip
        self.refresh()
        if not self._ui.modelComboBox.currentData:
            self._chosen(name_of(bundle))
        text = _("Model {name} {version} was added. To use it, choose it in the list.")
        self._told(text.format(name=bundle.name, version=bundle.version))

    def _on_choice(self, _index: int) -> None:
        if not self._is_filling:
            name = str(self._ui.modelComboBox.currentData or "")
            self._models.picked(name, self._volume())
            self._chosen(name)

    def _on_details(self, shown: bool) -> None:
        self._ui.cardBrowser.visible = shown

    def _on_link(self, url: Any) -> None:
        """Open a web page or one of the card's pictures; never a program that a card may point to."""
        path = Path(str(url.toLocalFile()))
        bundle = self.bundle(str(self._ui.modelComboBox.currentData or ""))
        is_picture = bundle is not None and path.parent == _docs(bundle) and path.suffix.lower() in _PICTURES
        if str(url.scheme()) in ("http", "https") or is_picture:
            qt.QDesktopServices.openUrl(url)

    def _on_import(self) -> None:
        title, kind = _("Import a model"), _("Model (*.zip)")
        path = qt.QFileDialog.getOpenFileName(self._ui.importButton, title, "", kind)
        if path:
            self.import_file(str(path))


def _card(bundle: Bundle) -> str:
    """The card, of which Qt loads nothing; its pictures, wider than the panel, become links."""
    try:
        card = bundle.card
    except MAESegmentError as error:
        return str(error)
    folder = _docs(bundle)
    linked = re.sub(
        r"!\[([^\]]*)\]\(([^):]+)\)",
        lambda picture: f"[{picture[1] or picture[2]}]({(folder / picture[2]).as_uri()})",
        card,
    )
    return without_html(linked)


def _docs(bundle: Bundle) -> Path:
    return (bundle.path / "docs").resolve()
