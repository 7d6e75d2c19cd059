"""Slicer's MRML widgets as far as they are used, on the real scene; they select as `slicer_5_12.json` says they do."""

from __future__ import annotations

from typing import Any

import shiboken6
import vtk
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from .plot_view import PlotView

_SURFACE = "Closed surface"


class MRMLWidget(QtWidgets.QWidget):
    """Hands its scene on to the widgets inside, as the connections of a .ui file do in Slicer."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        for child in self.findChildren(NodeComboBox):
            child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)


#: Of a `NodeComboBox`, as Slicer has them at first.
_SETTINGS: dict[str, Any] = {
    "noneEnabled": False,
    "addEnabled": True,
    "removeEnabled": True,
    "renameEnabled": False,
    "editEnabled": False,
    "showChildNodeTypes": True,
    "showHidden": False,
    "selectNodeUponCreation": True,
    "noneDisplay": "None",
    "baseName": "",
}


def _setting(name: str) -> Property:
    kind = type(_SETTINGS[name])

    def write(self: NodeComboBox, value: Any) -> None:
        self._settings[name] = kind(value)
        self._refill()

    return Property(kind, lambda self: self._settings[name], write)


class NodeComboBox(QtWidgets.QWidget):
    """Selects a node of `nodeTypes`. A node that appears later is never selected by itself."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox()
        policy = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self._combo.setSizeAdjustPolicy(policy)
        self._combo.setMinimumContentsLength(12)
        layout.addWidget(self._combo)
        self.setFocusProxy(self._combo)
        self._scene: Any = None
        self._tags: list[int] = []
        self._current: Any = None
        self._settings = dict(_SETTINGS)
        self._types: tuple[str, ...] = ()
        self._combo.activated.connect(self._on_activated)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if self._scene is not None:
            for tag in self._tags:
                self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent)
            self._tags = [scene.AddObserver(event, self._on_scene) for event in events]
        self._refill()
        if self._current is None and not self._settings["noneEnabled"]:
            self.setCurrentNode(next(iter(self._nodes()), None))

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene is not None and node else None
        if node is not None and node not in self._nodes():
            node = None
        if node is not self._current:
            self._select(node)

    def _select(self, node: Any) -> None:
        self._current = node
        self._show_current()
        self.currentNodeChanged.emit(node)
        self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        self.setCurrentNode(node_id)

    def addNode(self, class_name: str = "") -> Any:
        base = self._settings["baseName"] or "Node"
        node = self._scene.AddNewNodeByClass(class_name or self._types[0], self._scene.GenerateUniqueName(base))
        if self._settings["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        found = []
        for kind in self._types:
            for number in range(self._scene.GetNumberOfNodesByClass(kind)):
                node = self._scene.GetNthNodeByClass(number, kind)
                fits = self._settings["showChildNodeTypes"] or node.GetClassName() == kind
                if fits and (self._settings["showHidden"] or not node.GetHideFromEditors()):
                    found.append(node)
        return found

    def _on_scene(self, _caller: Any = None, _event: Any = None) -> None:
        if not shiboken6.isValid(self):
            for tag in self._tags:
                self._scene.RemoveObserver(tag)
            return
        gone = self._current is not None and self._current not in self._nodes()
        self._refill()
        if gone:
            self._select(None if self._settings["noneEnabled"] else next(iter(self._nodes()), None))

    def _refill(self) -> None:
        self._combo.clear()
        if self._settings["noneEnabled"]:
            self._combo.addItem(self._settings["noneDisplay"], None)
        for node in self._nodes():
            self._combo.addItem(node.GetName(), node.GetID())
        if self._settings["addEnabled"]:
            self._combo.addItem(f"Create new {self._settings['baseName'] or 'node'}", "add")
        self._show_current()

    def _show_current(self) -> None:
        wanted = self._current.GetID() if self._current is not None else None
        self._combo.setCurrentIndex(self._combo.findData(wanted))

    def _on_activated(self, index: int) -> None:
        data = self._combo.itemData(index)
        if data == "add":
            self.addNode()
        else:
            self.setCurrentNode(data)

    def _set_types(self, types: Any) -> None:
        self._types = tuple(str(one) for one in types)
        self._refill()

    noneEnabled = _setting("noneEnabled")
    addEnabled = _setting("addEnabled")
    removeEnabled = _setting("removeEnabled")
    renameEnabled = _setting("renameEnabled")
    editEnabled = _setting("editEnabled")
    showChildNodeTypes = _setting("showChildNodeTypes")
    showHidden = _setting("showHidden")
    selectNodeUponCreation = _setting("selectNodeUponCreation")
    noneDisplay = _setting("noneDisplay")
    baseName = _setting("baseName")
    nodeTypes = Property("QVariant", lambda self: self._types, _set_types)
    currentNodeID = Property(
        str, lambda self: self._current.GetID() if self._current is not None else "", setCurrentNode
    )


class CheckableNodeComboBox(NodeComboBox):
    """Every node has a tick."""

    checkedNodesChanged = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._checked: list[str] = []

    def checkedNodes(self) -> list[Any]:
        return [node for node in self._nodes() if node.GetID() in self._checked]

    def setCheckState(self, node: Any, state: Any) -> None:
        ticked = int(getattr(state, "value", state)) == 2
        if ticked != (node.GetID() in self._checked):
            (self._checked.append if ticked else self._checked.remove)(node.GetID())
            self.checkedNodesChanged.emit()


class SegmentationShow3DButton(QtWidgets.QPushButton):
    """Makes the surfaces of its node, or removes them, and is checked while there are some."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__("Show 3D", parent)
        self.setCheckable(True)
        self._node: Any = None
        self._tag = 0
        self.toggled.connect(self._on_toggled)
        self._update()

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver(vtk.vtkCommand.AnyEvent, self._update)
        self._update()

    def _update(self, *_event: Any) -> None:
        if shiboken6.isValid(self):
            self.setEnabled(self._node is not None)
            self.blockSignals(True)
            self.setChecked(self._node is not None and self._node.GetSegmentation().ContainsRepresentation(_SURFACE))
            self.blockSignals(False)

    def _on_toggled(self, shown: bool) -> None:
        if shown:
            self._node.GetSegmentation().CreateRepresentation(_SURFACE)
            self._node.CreateDefaultDisplayNodes()
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(_SURFACE)
        else:
            self._node.GetSegmentation().RemoveRepresentation(_SURFACE)


MRML_WIDGETS = {
    "qMRMLSegmentationShow3DButton": SegmentationShow3DButton,
    "qMRMLWidget": MRMLWidget,
    "qMRMLNodeComboBox": NodeComboBox,
    "qMRMLCheckableNodeComboBox": CheckableNodeComboBox,
    "qMRMLPlotView": PlotView,
}
