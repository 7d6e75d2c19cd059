"""The modules `qt` and `ctk`: PySide6 behind proxies."""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_widgets import CTK_WIDGETS
from .proxies import EnumInt, ValueClass, proxy_class


class _Enums:
    """`qt.Qt`: every enum's members as ints."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(QtCore.Qt, name, None)
        if isinstance(found, enum.Enum):
            return EnumInt.of(found)
        for kind in vars(QtCore.Qt).values():
            if isinstance(kind, type) and issubclass(kind, enum.Enum) and name in kind.__members__:
                return EnumInt.of(kind[name])
        raise AttributeError(f"Qt has no attribute named '{name}'")


class QtModule(ModuleType):
    """Classes are made when asked for."""

    def __init__(self, dialogs: Any) -> None:
        super().__init__("qt")
        self.Qt = _Enums()
        self.QFileDialog = dialogs.file_dialog
        self.QSettings = Settings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of the module, not of Qt: inspect asks every module for its __file__
            raise AttributeError(name)
        for module in (QtWidgets, QtGui, QtCore):
            found = getattr(module, name, None)
            if found is None:
                continue
            if not isinstance(found, type):
                return found
            if not issubclass(found, QtCore.QObject):
                return ValueClass(found)
            return proxy_class(found, name, f"qt.{name}")
        raise AttributeError(f"module 'qt' has no attribute '{name}'")


#: What Slicer's own Python files ask about; nothing can be done with them.
_ONLY_NAMED = frozenset(
    f"ctk{name}"
    for name in (
        *("CheckBox", "CheckablePushButton", "ColorPickerButton", "ComboBox", "DirectoryButton", "DoubleRangeSlider"),
        *("DoubleSlider", "DoubleSpinBox", "RangeWidget", "SliderWidget", "WidgetsUtils"),
    )
)


class CtkModule(ModuleType):
    def __init__(self) -> None:
        super().__init__("ctk")
        for name, kind in CTK_WIDGETS.items():
            setattr(self, name, proxy_class(kind, name, f"ctk.{name}"))

    def __getattr__(self, name: str) -> Any:
        if name not in _ONLY_NAMED:
            raise AttributeError(f"module 'ctk' has no attribute '{name}'")
        return proxy_class(type(name, (QtWidgets.QWidget,), {}), name, f"ctk.{name}")


class Settings:
    """QSettings of one process, kept in memory: a user's own are never touched."""

    values: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, *_arguments: Any) -> None:
        pass

    def value(self, key: str, default: Any = None, /) -> Any:
        return self.values.get(key, default)

    def setValue(self, key: str, value: Any, /) -> None:
        self.values[key] = value

    def remove(self, key: str) -> None:
        self.values.pop(key, None)

    def contains(self, key: str) -> bool:
        return key in self.values
