"""A stand-in for the Qt side of Slicer: enough to run the real module, its .ui file and its panel, in a test.

It proves the code against the stand-in, which follows what a running Slicer 5.12 said of itself (`slicer_5_12.json`),
not against PythonQt. With `SLICER_PYTHON_SOURCE` set to a `Base/Python` of Slicer's sources, Slicer's own
`ScriptedLoadableModule`, `parameterNodeWrapper`, `i18n` and `packaging` are used.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtGui, QtWidgets

from Testing import slicer_core

from .application import Application, Dialogs
from .ctk_widgets import CTK_WIDGETS
from .loading import LoadedModule, add_panel, child_widget_variables, load_module, load_ui, reload_module, unload_module
from .mrml_widgets import MRML_WIDGETS
from .proxies import FACTS, EnumInt, Proxy, proxy_class, proxy_of, to_qt
from .qt_modules import CtkModule, QtModule, Settings

__all__ = [
    "CTK_WIDGETS",
    "FACTS",
    "MRML_WIDGETS",
    "Application",
    "EnumInt",
    "LoadedModule",
    "Proxy",
    "Settings",
    "add_panel",
    "dialogs",
    "install",
    "load_module",
    "proxy_of",
    "reload_module",
    "to_qt",
    "unload_module",
]

#: Widgets that Slicer's own Python files name.
_ONLY_NAMED = (
    *("qMRMLRangeWidget", "qMRMLSliderWidget", "qMRMLSpinBox", "qMRMLScreenShotDialog", "qMRMLUtils", "qSlicerWidget"),
)
dialogs = Dialogs()
_installed: list[Application] = []


def install() -> Application:
    """Make `import qt`, `ctk`, `slicer.ScriptedLoadableModule` and so on work; once per process."""
    if _installed:
        return _installed[0]
    slicer_core.start()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qt_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["stand-in"])
    qt_application.setStyle("Fusion")
    qt_application.setFont(QtGui.QFont("DejaVu Sans", 9))
    qt_application.setQuitOnLastWindowClosed(False)
    sys.modules["qt"] = QtModule(dialogs)
    sys.modules["ctk"] = CtkModule()
    application = slicer.app = Application(slicer.app.applicationLogic())
    for name, kind in MRML_WIDGETS.items():
        setattr(slicer, name, proxy_class(kind, name, f"slicer.{name}"))
    slicer.qSlicerScriptedLoadableModule = LoadedModule
    slicer.qSlicerScriptedLoadableModuleWidget = _WidgetRepresentation
    _install_util()
    _install_python(os.environ.get("SLICER_PYTHON_SOURCE", ""))
    _installed.append(application)
    return application


class _WidgetRepresentation:
    def __init__(self, widget: Any) -> None:
        self._widget = widget

    def self(self) -> Any:
        return self._widget


class SegmentEditor:
    """Slicer's `qMRMLSegmentEditorWidget`, as far as a module opens it, with the history that Slicer's has."""

    def __init__(self) -> None:
        self.node: Any = None
        self.volume: Any = None
        self.effect = ""
        self._history: Any = None

    def setSegmentationNode(self, node: Any) -> None:
        if node is not self.node:
            self._history = slicer.vtkSegmentationHistory()
            self._history.SetSegmentation(node.GetSegmentation() if node is not None else None)
        self.node = node

    def segmentationNode(self) -> Any:
        return self.node

    def setSourceVolumeNode(self, node: Any) -> None:
        self.volume = node

    def setActiveEffectByName(self, name: str) -> None:
        self.effect = name

    def saveStateForUndo(self) -> None:
        self._history.SaveState()

    def undo(self) -> None:
        self._history.RestorePreviousState()


def _install_util() -> None:
    util = slicer.util
    util.loadUI = load_ui
    util.childWidgetVariables = child_widget_variables
    util.modulePath = lambda name: str(slicer.app.moduleManager().module(name).path)
    util.reloadScriptedModule = reload_module
    util.settingsValue = lambda key, default, converter=lambda value: value, settings=None: converter(  # noqa: ARG005
        Settings().value(key, default)
    )
    util.startupEnvironment = lambda: dict(os.environ)
    util.selected_modules = []
    util.selectModule = util.selected_modules.append
    util.getModuleLogic = lambda name: slicer.app.moduleManager().module(name).logic
    util.getModuleWidget = lambda name: slicer.app.moduleManager().module(name).widget
    for name in ("errorDisplay", "warningDisplay", "infoDisplay"):
        setattr(util, name, lambda text, *_a, what=name, **_k: dialogs.ask(f"{what}: {text}", False))
    slicer.app.moduleManager().modules["SegmentEditor"] = SimpleNamespace(
        widget=SimpleNamespace(editor=SegmentEditor()), logic=None, path=""
    )


def _install_python(source: str) -> None:
    """Slicer's own Python files if there are some, else our small ones."""
    if source:
        # They ask whether a widget is one of these; none is.
        for name in _ONLY_NAMED:
            if not hasattr(slicer, name):
                setattr(slicer, name, type(name, (), {}))
        folder = Path(source) / "slicer"
        for name in ("i18n", "parameterNodeWrapper", "ScriptedLoadableModule", "packaging"):
            file = folder / name / "__init__.py" if (folder / name).is_dir() else folder / f"{name}.py"
            _load_as(f"slicer.{name}", file)
        return
    i18n = ModuleType("slicer.i18n")
    i18n.tr = lambda text: text  # type: ignore[attr-defined]
    i18n.translate = lambda _context, text: text  # type: ignore[attr-defined]
    _register("slicer.i18n", i18n)
    from . import parameter_nodes, scripted_module

    _register("slicer.parameterNodeWrapper", parameter_nodes)
    _register("slicer.ScriptedLoadableModule", scripted_module)


def _load_as(name: str, file: Path) -> None:
    locations = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _register(name, module)
    spec.loader.exec_module(module)


def _register(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    setattr(slicer, name.rpartition(".")[2], module)
