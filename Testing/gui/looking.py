"""Looking at a panel: pictures, and text that is cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtWidgets

from Testing.gui.standin import to_qt

#: Rounding of fonts and styles.
_TOLERANCE = 2


class Screenshot:
    """Writes PNGs."""

    def __init__(self, application: Any, folder: Path) -> None:
        self._application = application
        self._folder = folder

    def __call__(self, widget: Any, name: str) -> Path:
        target = to_qt(widget)
        target.show()
        self._application.processEvents()
        # Like Slicer's module panel: as high as its contents, never wider than it is.
        target.resize(target.width(), max(target.minimumSizeHint().height(), target.sizeHint().height()))
        self._application.processEvents()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.png"
        assert target.grab().save(str(path))
        return path


def nothing_is_cut_off(widget: Any) -> list[str]:
    """What a user could not read at the widget's width; empty if all is well."""
    root = to_qt(widget)
    problems = []
    for child in root.findChildren(QtWidgets.QWidget):
        if not child.isVisible() or child.width() == 0:
            continue
        right = child.mapTo(root, QtCore.QPoint(child.width(), 0)).x()
        name = child.objectName() or type(child).__name__
        if right > root.width() + _TOLERANCE:
            problems.append(f"{name} reaches to {right} of {root.width()} pixels")
        if isinstance(child, QtWidgets.QLabel):
            problems += _label_problems(child, name)
        elif isinstance(child, QtWidgets.QAbstractButton) and child.text():
            problems += _button_problems(child, name)
        elif isinstance(child, QtWidgets.QComboBox):
            problems += _combo_problems(child, root.width())
    return problems


def takes_blank_space(widget: Any, application: Any) -> list[str]:
    """What grows in a panel that is higher than its contents, as Slicer's is: blank, unless it is a text to scroll."""
    root = to_qt(widget)
    layout = root.layout()
    assert layout is not None
    needed = max(root.sizeHint().height(), layout.heightForWidth(root.width()))

    def heights(height: int) -> dict[QtWidgets.QWidget, int]:
        root.resize(root.width(), height)
        application.processEvents()
        return {child: child.height() for child in root.findChildren(QtWidgets.QWidget) if child.isVisible()}

    before, after = heights(needed), heights(needed + 500)
    grown = [child for child, height in after.items() if height > before[child] + _TOLERANCE]
    texts = [child for child in grown if isinstance(child, (QtWidgets.QTextEdit, QtWidgets.QPlainTextEdit))]
    # The panel itself is as high as Slicer makes it.
    inside = [child for child in grown if child.parentWidget() is not root and child.objectName()]
    family = {one for text in texts for one in inside if one.isAncestorOf(text) or text.isAncestorOf(one)}
    return [one.objectName() for one in inside if one not in family and one not in texts]


def _label_problems(label: QtWidgets.QLabel, name: str) -> list[str]:
    if not label.text():
        return []
    if label.wordWrap():
        needed = label.heightForWidth(label.width())
        if needed > label.height() + _TOLERANCE:
            return [f"label {name}: {label.text()[:40]!r} needs {needed} high, has {label.height()}"]
        return []
    if label.sizeHint().width() > label.width() + _TOLERANCE:
        return [f"label {name}: {label.text()[:40]!r} needs {label.sizeHint().width()}, has {label.width()}"]
    return []


def _button_problems(button: QtWidgets.QAbstractButton, name: str) -> list[str]:
    needed, found = button.sizeHint(), button.size()
    if needed.width() > found.width() + _TOLERANCE or needed.height() > found.height() + _TOLERANCE:
        return [f"button {name}: {button.text()!r} needs {needed.toTuple()}, has {found.toTuple()}"]
    return []


def _combo_problems(combo: QtWidgets.QComboBox, panel_width: int) -> list[str]:
    """A text wider than the whole panel, such as a scan's name, may end in dots: no layout could show it."""
    option = QtWidgets.QStyleOptionComboBox()
    combo.initStyleOption(option)
    kind, field = QtWidgets.QStyle.ComplexControl.CC_ComboBox, QtWidgets.QStyle.SubControl.SC_ComboBoxEditField
    room = combo.style().subControlRect(kind, option, field, combo).width()
    needed = combo.fontMetrics().horizontalAdvance(combo.currentText())
    if room + _TOLERANCE < needed <= panel_width:
        name = combo.objectName() or combo.parentWidget().objectName()
        return [f"combo box {name}: {combo.currentText()[:40]!r} needs {needed}, has {room}"]
    return []
