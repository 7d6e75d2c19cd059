"""CTK's widgets as far as they are used, on PySide6: same names, properties and signals."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


class CollapsibleButton(QtWidgets.QWidget):
    """A header that folds what is below it; as in CTK the contents are laid out on the widget itself."""

    contentsCollapsed = Signal(bool)
    toggled = Signal(bool)
    clicked = Signal(bool)

    HEADER = 24

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = ""
        self._collapsed = False
        self._is_folding = False
        self.setContentsMargins(0, self.HEADER, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)

    def _get_text(self) -> str:
        return self._text

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            self._fold(child)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)
        self.toggled.emit(not collapsed)

    text = Property(str, _get_text, _set_text)
    collapsed = Property(bool, _get_collapsed, _set_collapsed)
    checked = Property(bool, lambda self: not self._collapsed, lambda self, on: self._set_collapsed(not on))

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        super().childEvent(event)
        if event.added() and isinstance(event.child(), QtWidgets.QWidget):
            event.child().installEventFilter(self)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """As in CTK: what is hidden or shown while the section is collapsed is so when it opens."""
        kind = QtCore.QEvent.Type
        if not self._is_folding and event.type() in (kind.ShowToParent, kind.HideToParent):
            child.setProperty("visibilityToParent", event.type() == kind.ShowToParent)
            self._fold(child)
        return False

    def _fold(self, child: QtWidgets.QWidget) -> None:
        if not self.testAttribute(QtCore.Qt.WidgetAttribute.WA_WState_Created):
            return
        self._is_folding = True
        child.setVisible(not self._collapsed and child.property("visibilityToParent") is not False)
        self._is_folding = False

    def event(self, event: QtCore.QEvent) -> bool:
        """A .ui file sets `collapsed` before the contents are there, and layouts show what is put into them."""
        kind = QtCore.QEvent.Type
        if self._collapsed and event.type() in (kind.Show, kind.LayoutRequest, kind.ChildPolished):
            for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
                if not child.isHidden():
                    self._fold(child)
        return super().event(event)

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(100, self.HEADER) if self._collapsed else super().sizeHint()

    def minimumSizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(100, self.HEADER) if self._collapsed else super().minimumSizeHint()

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.position().y() < self.HEADER:
            self._set_collapsed(not self._collapsed)
            self.clicked.emit(not self._collapsed)

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.width(), self.HEADER)
        if not self._collapsed:
            painter.setPen(self.palette().mid().color())
            painter.drawRect(0, self.HEADER // 2, self.width() - 1, self.height() - self.HEADER // 2 - 1)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = header
        element = QtWidgets.QStyle.PrimitiveElement
        self.style().drawPrimitive(element.PE_PanelButtonCommand, option, painter, self)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, 6, 12, 12)
        kind = element.PE_IndicatorArrowRight if self._collapsed else element.PE_IndicatorArrowDown
        self.style().drawPrimitive(kind, arrow, painter, self)
        painter.setPen(self.palette().buttonText().color())
        painter.drawText(header.adjusted(24, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, self._text)


class PathLineEdit(QtWidgets.QWidget):
    """A path with a button to browse for it."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    Dirs, Files, Executable = 0x001, 0x002, 0x040

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox()
        self._combo.setEditable(True)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._line = self._combo.lineEdit()
        browse = QtWidgets.QToolButton()
        browse.setText("...")
        layout.addWidget(self._combo)
        layout.addWidget(browse)
        self._filters = 0
        self._line.textChanged.connect(self.currentPathChanged)
        self.setFocusProxy(self._combo)

    def _set_path(self, path: str) -> None:
        self._line.setText(path)

    def _set_filters(self, filters: int) -> None:
        self._filters = int(filters)

    currentPath = Property(str, lambda self: self._line.text(), _set_path)
    filters = Property(int, lambda self: self._filters, _set_filters)

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    def setCurrentPath(self, path: str) -> None:
        self._set_path(path)


CTK_WIDGETS = {"ctkCollapsibleButton": CollapsibleButton, "ctkPathLineEdit": PathLineEdit}
