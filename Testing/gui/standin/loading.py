"""Loads .ui files and scripted modules as Slicer does."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtCore, QtUiTools, QtWidgets

from .ctk_widgets import CTK_WIDGETS
from .mrml_widgets import MRML_WIDGETS
from .proxies import proxy_of, to_qt

_CUSTOM = {**CTK_WIDGETS, **MRML_WIDGETS}


class _Loader(QtUiTools.QUiLoader):
    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        kind = _CUSTOM.get(class_name)
        if kind is None:
            if class_name.startswith(("qMRML", "ctk", "qSlicer")):
                raise ValueError(f"The stand-in has no {class_name}.")
            return super().createWidget(class_name, parent, name)
        widget = kind(parent)
        widget.setObjectName(name)
        return widget


def load_ui(path: str) -> Any:
    """`slicer.util.loadUI`."""
    if not Path(path).is_file():
        raise RuntimeError(f"Could not load UI file: {path}")
    loader = _Loader()
    widget = loader.load(path)
    if widget is None:
        raise RuntimeError(f"Could not load UI file: {path}: {loader.errorString()}")
    return proxy_of(widget)


def child_widget_variables(widget: Any) -> SimpleNamespace:
    """`slicer.util.childWidgetVariables`: every named child as an attribute."""
    ui = SimpleNamespace()
    for child in to_qt(widget).findChildren(QtCore.QObject):
        name = child.objectName()
        if name and not name.startswith("qt_"):
            setattr(ui, name, proxy_of(child))
    return ui


@dataclass
class LoadedModule:
    """`module` and `widget` are the module's own classes' objects; `parent` is its panel's frame."""

    name: str
    path: Path
    module: Any
    widget: Any
    parent: Any

    @property
    def logic(self) -> Any:
        return self.widget.logic

    def widgetRepresentation(self) -> Any:
        return slicer.qSlicerScriptedLoadableModuleWidget(self.widget)

    def show(self, width: int = 470, height: int = 900) -> None:
        """Bring the panel up at Slicer's default width."""
        to_qt(self.parent).resize(width, height)
        self.parent.show()
        slicer.app.processEvents()


def load_module(folder: Path, name: str) -> LoadedModule:
    """Load `folder/name.py`, make its panel and enter it."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    sys.modules.pop(name, None)
    source = importlib.import_module(name)
    path = folder / f"{name}.py"
    description = SimpleNamespace(path=str(path), title="", categories=[], dependencies=[], contributors=[], icon=None)
    loaded = add_panel(name, path, getattr(source, name)(description), getattr(source, f"{name}Widget"))
    loaded.widget.enter()
    return loaded


def add_panel(name: str, path: Path, module: Any, widget_class: Any) -> LoadedModule:
    """Make the panel of a module."""
    manager = slicer.app.moduleManager()
    manager.modules[name] = SimpleNamespace(name=name, path=str(path))
    parent = slicer.qMRMLWidget()
    frame = to_qt(parent)
    QtWidgets.QVBoxLayout(frame).setContentsMargins(0, 0, 0, 0)
    frame.resize(470, 900)
    parent.setMRMLScene(slicer.mrmlScene)
    loaded = manager.modules[name] = LoadedModule(name, path, module, widget_class(parent), parent)
    loaded.widget.setup()
    return loaded


def unload_module(name: str) -> None:
    manager = slicer.app.moduleManager()
    loaded = manager.modules.get(name)
    if isinstance(loaded, LoadedModule):
        manager.about_to_unload(name)
        manager.modules.pop(name)
        loaded.parent.hide()
        loaded.parent.deleteLater()
        slicer.app.processEvents()


def reload_module(name: str) -> LoadedModule:
    """`slicer.util.reloadScriptedModule`: a new widget in the same frame, which is not entered."""
    manager = slicer.app.moduleManager()
    old = manager.modules[name]
    manager.about_to_unload(name)
    layout = to_qt(old.parent).layout()
    while layout.count():
        layout.takeAt(0).widget().hide()
    sys.modules.pop(name, None)
    source = importlib.import_module(name)
    new = manager.modules[name] = replace(old, widget=getattr(source, f"{name}Widget")(old.parent))
    new.widget.setup()
    return new
