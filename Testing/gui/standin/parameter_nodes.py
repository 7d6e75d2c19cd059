"""`slicer.parameterNodeWrapper`: typed fields kept in a script node, and connected to widgets by name."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from .proxies import Proxy, to_qt

_PROPERTY = "SlicerParameterName"


def parameterNodeWrapper(kind: type) -> type:
    """Class decorator: every annotated field is read from and written to the node given to the constructor."""
    fields = typing.get_type_hints(kind)
    for name, hint in fields.items():
        default = getattr(kind, name, None)
        setattr(kind, name, _field(name, hint, default))
    kind.__init__ = _init
    kind.connectGui = _connect_gui
    kind.disconnectGui = _disconnect_gui
    kind.fields = fields
    return kind


def _init(self: Any, node: Any) -> None:
    self.parameterNode = node
    self._connections = {}


def _field(name: str, hint: Any, default: Any) -> property:
    if issubclass(hint, slicer.vtkMRMLNode):
        return _node_field(name, hint)

    def read(self: Any) -> Any:
        text = self.parameterNode.GetParameter(name)
        if not text:
            return default if default is not None else hint()
        return text == "True" if hint is bool else hint("" if text == _EMPTY else text)

    def write(self: Any, value: Any) -> None:
        if not isinstance(value, hint) and not (hint is float and isinstance(value, int)):
            raise TypeError(f"{name} takes a {hint.__name__}, not {value!r}")
        self.parameterNode.SetParameter(name, str(value) or _EMPTY)

    return property(read, write)


def _node_field(name: str, hint: type) -> property:
    def read(self: Any) -> Any:
        return self.parameterNode.GetNodeReference(name)

    def write(self: Any, value: Any) -> None:
        if value is not None and not isinstance(value, hint):
            raise TypeError(f"{name} takes a {hint.__name__}, not {type(value).__name__}")
        self.parameterNode.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    return property(read, write)


#: An empty parameter is one that is not set.
_EMPTY = "<empty>"


def _connect_gui(self: Any, gui: Any) -> int:
    links = []
    for widget in vars(gui).values():
        name = to_qt(widget).property(_PROPERTY) if isinstance(widget, Proxy) else None
        if name:
            if name not in self.fields:
                raise ValueError(f"There is no parameter called {name}")
            links.append(_Link(self, name, widget))

    def refresh(_caller: Any = None, _event: Any = None) -> None:
        for link in links:
            link.to_widget()

    refresh()
    tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, refresh)
    self._connections[tag] = links
    return tag


def _disconnect_gui(self: Any, tag: int) -> None:
    self.parameterNode.RemoveObserver(tag)
    for link in self._connections.pop(tag, ()):
        link.disconnect()


class _Link:
    """One widget and one field."""

    def __init__(self, parameters: Any, name: str, widget: Proxy) -> None:
        self._parameters, self._name, self._widget = parameters, name, widget
        signal, self._read, self._write = _access(widget, parameters.fields[name])
        self._signal = signal
        if not widget.connect(signal, self.to_parameter):
            raise ValueError(f"{widget.className()} has no signal {signal}")

    def to_widget(self) -> None:
        value = getattr(self._parameters, self._name)
        if self._read() != value:
            self._write(value)

    def to_parameter(self) -> None:
        value = self._read()
        if getattr(self._parameters, self._name) != value:
            setattr(self._parameters, self._name, value)

    def disconnect(self) -> None:
        self._widget.disconnect(self._signal, self.to_parameter)


def _access(widget: Proxy, hint: Any) -> tuple[str, Callable[[], Any], Callable[[Any], None]]:
    """(signal, read, write) of a widget that can show a field of this type, as in Slicer."""
    kind = widget.className()
    if kind == "qMRMLNodeComboBox":
        return "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode
    if kind == "QCheckBox" and hint is bool:
        return "toggled(bool)", lambda: widget.checked, widget.setChecked
    raise RuntimeError(f"Unable to create GUI connector from datatype '{hint}' to widget type '{kind}'.")
