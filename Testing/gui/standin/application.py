"""`slicer.app` and what modules ask of it, on a real QApplication."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .proxies import proxy_of
from .qt_modules import Settings


class Dialogs:
    """Nothing pops up in a test: a dialog answers what the test has put into `answers`, or fails the test."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.unexpected: list[str] = []
        dialogs = self

        class FileDialog:
            @staticmethod
            def getOpenFileName(_parent: Any = None, caption: str = "", *_rest: Any) -> str:
                return str(dialogs.ask(f"file dialog {caption!r}", ""))

            getSaveFileName = getOpenFileName

        self.file_dialog = FileDialog

    def ask(self, what: str, default: Any) -> Any:
        if self.answers:
            return self.answers.pop(0)
        self.unexpected.append(what)
        return default


class ModuleManager:
    """Knows the modules that were loaded."""

    def __init__(self) -> None:
        self.modules: dict[str, Any] = {}
        self._unload_slots: list[Callable[[str], None]] = []

    def connect(self, signal: str, slot: Callable[..., None]) -> bool:
        if signal != "moduleAboutToBeUnloaded(QString)":
            return False
        self._unload_slots.append(slot)
        return True

    def disconnect(self, _signal: str, slot: Callable[..., None]) -> bool:
        if slot in self._unload_slots:
            self._unload_slots.remove(slot)
        return True

    def about_to_unload(self, name: str) -> None:
        for slot in tuple(self._unload_slots):
            slot(name)

    def module(self, name: str) -> Any:
        return self.modules.get(name)


class Application:
    """One per process."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        self._manager = ModuleManager()
        self._slots: dict[str, list[Callable[[], None]]] = {"aboutToQuit()": [], "startupCompleted()": []}
        self.temporaryPath = tempfile.gettempdir()
        self.slicerHome = str(Path(tempfile.gettempdir()) / "no-slicer-here")
        self.applicationVersion = "5.12 (stand-in)"
        self.is_testing = False
        self.extensions_manager_opened = 0

    def connect(self, signal: str, slot: Callable[[], None]) -> bool:
        if signal not in self._slots:
            return False
        self._slots[signal].append(slot)
        return True

    def disconnect(self, signal: str, slot: Callable[[], None]) -> bool:
        slots = self._slots.get(signal, [])
        if slot not in slots:
            return False
        slots.remove(slot)
        return True

    def emit(self, signal: str) -> None:
        """For tests: what the application does by itself."""
        for slot in tuple(self._slots[signal]):
            slot()

    def openExtensionsManagerDialog(self) -> None:
        self.extensions_manager_opened += 1

    def applicationLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def processEvents(self, *_flags: Any) -> None:
        QtWidgets.QApplication.processEvents()
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)

    def settings(self) -> Settings:
        return Settings()

    def userSettings(self) -> Settings:
        return Settings()

    def clipboard(self) -> Any:
        return proxy_of(QtGui.QGuiApplication.clipboard())

    def moduleManager(self) -> ModuleManager:
        return self._manager

    def layoutManager(self) -> None:
        """As with --no-main-window."""

    def testingEnabled(self) -> bool:
        return self.is_testing

    def commandOptions(self) -> Any:
        return type("Options", (), {"noMainWindow": True, "testingEnabled": self.is_testing})()

    def translate(self, _context: str, text: str) -> str:
        return text

    def moduleDocumentationUrl(self, _name: str) -> str:
        return ""
