"""Qt objects as PythonQt shows them: properties are values, enums are ints, names are strict, keywords are refused.

A `Proxy` stands for one PySide6 object. What a class has is what a running Slicer said it has (`slicer_5_12.json`).
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shiboken6
from PySide6 import QtCore, QtWidgets

FACTS = json.loads((Path(__file__).parent / "slicer_5_12.json").read_text())["classes"]
_WIDGET_NAMES = frozenset(FACTS["qt.QWidget"]["names"])
_WIDGET_SIGNALS = frozenset(FACTS["qt.QWidget"]["signals"])
#: What every PythonQt object has.
_COMMON_NAMES = frozenset(
    {"connect", "disconnect", "className", "deleteLater", "delete", "name", "objectName", "property"}
)


class EnumInt(int):
    """An int, as PythonQt has it, that remembers which enum PySide6 wants."""

    member: Any

    @classmethod
    def of(cls, member: Any) -> EnumInt:
        value = cls(member.value if isinstance(member, enum.Enum) else int(member))
        value.member = member
        return value


class _ProxyType(type):
    """Enums and static methods of the Qt class are attributes of the stand-in's class."""

    def __instancecheck__(cls, value: Any) -> bool:
        """A QPushButton is a QWidget, whichever stand-in was made first."""
        if super().__instancecheck__(value):
            return True
        is_of_qt = "wrapped" in cls.__dict__ and type.__instancecheck__(Proxy, value)
        return is_of_qt and isinstance(to_qt(value), cls.wrapped)

    def __getattr__(cls, name: str) -> Any:
        wrapped = cls.__dict__.get("wrapped") or next(
            (b.__dict__["wrapped"] for b in cls.__mro__ if "wrapped" in b.__dict__), None
        )
        if wrapped is None or name.startswith("__"):
            raise AttributeError(name)
        try:
            found = getattr(wrapped, name)
        except AttributeError:
            found = _enum_member(wrapped, name)
            if found is None:
                raise AttributeError(f"{cls.__name__} has no attribute named '{name}'") from None
        return (
            to_python(found) if isinstance(found, enum.Enum) else _refuse_keywords(found) if callable(found) else found
        )


def _enum_member(wrapped: type, name: str) -> Any:
    for candidate in vars(wrapped).values():
        if isinstance(candidate, type) and issubclass(candidate, enum.Enum) and name in candidate.__members__:
            return candidate[name]
    return None


class Proxy(metaclass=_ProxyType):
    """One Qt object. `facts` is its entry in the facts, None for classes that were not read from Slicer."""

    wrapped: type = QtCore.QObject
    facts: dict[str, Any] | None = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        if keywords:
            raise ValueError(f"{type(self).__name__} does not support keyword arguments: {sorted(keywords)}")
        _bind(self, self.wrapped(*map(to_qt, arguments)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        _check_name(self, name)
        target = to_qt(self)
        if name == "name":
            return target.objectName()
        if _property(target, name) is not None:
            return to_python(target.property(name))
        signal = _signal(target, name)
        if signal is not None:
            return SignalProxy(target, name)
        found = getattr(target, name, None)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")
        return _refuse_keywords(found) if callable(found) else to_python(found)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__ or (type(self).__dict__.get("is_subclass_of_a_person") and name not in _WIDGET_NAMES):
            object.__setattr__(self, name, value)
            return
        target = to_qt(self)
        found = _property(target, "objectName" if name == "name" else name)
        if found is None or (name != "name" and not _is_known(self, name)):
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects is not "
                "allowed"
            )
        if not found.isWritable():
            raise AttributeError(f"Property '{name}' of {type(self).__name__} object is not writable")
        if not target.setProperty("objectName" if name == "name" else name, to_qt(value)):
            raise ValueError(f"Property '{name}' of {type(self).__name__} cannot be {value!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and to_qt(self) is to_qt(other)

    def __hash__(self) -> int:
        return hash(to_qt(self))

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.is_subclass_of_a_person = "wrapped" not in cls.__dict__

    def connect(self, signal: str, slot: Callable[..., Any], /) -> bool:
        """By name: False for a signal that is not there, as in PythonQt."""
        target = to_qt(self)
        name, _, arguments = signal.partition("(")
        instance = _signal(target, name)
        if instance is None or not _is_known_signal(self, signal):
            return False
        _links(target).setdefault((signal, slot), []).append(_connect(instance, slot, arguments.rstrip(")")))
        return True

    def disconnect(self, signal: str, slot: Callable[..., Any] | None = None, /) -> bool:
        target = to_qt(self)
        keys = [key for key in _links(target) if key[0] == signal and (slot is None or key[1] == slot)]
        for key in keys:
            for link in _links(target).pop(key):
                _signal(target, signal.partition("(")[0]).disconnect(link)
        return bool(keys)

    def className(self) -> str:
        return type(self).__name__

    def delete(self) -> None:
        shiboken6.delete(to_qt(self))


class SignalProxy:
    """`button.clicked`."""

    def __init__(self, target: QtCore.QObject, name: str) -> None:
        self._target, self._name = target, name

    def connect(self, slot: Callable[..., Any], /) -> bool:
        link = _connect(_signal(self._target, self._name), slot, None)
        _links(self._target).setdefault((self._name, slot), []).append(link)
        return True

    def disconnect(self, slot: Callable[..., Any], /) -> bool:
        links = _links(self._target).pop((self._name, slot), [])
        for link in links:
            _signal(self._target, self._name).disconnect(link)
        return bool(links)

    def emit(self, *arguments: Any) -> None:
        _signal(self._target, self._name).emit(*map(to_qt, arguments))

    __call__ = emit


def proxy_class(wrapped: type, name: str, facts_name: str | None = None) -> type[Proxy]:
    """The stand-in's class for a PySide6 class; always the same one."""
    key = facts_name or wrapped.__name__
    if key not in _classes:
        _classes[key] = type(name, (Proxy,), {"wrapped": wrapped, "facts": FACTS.get(facts_name or "")})
        _by_wrapped.setdefault(wrapped, _classes[key])
    return _classes[key]


_classes: dict[str, type[Proxy]] = {}
_by_wrapped: dict[type, type[Proxy]] = {}


def to_qt(value: Any) -> Any:
    """What PySide6 wants."""
    if isinstance(value, Proxy):
        return value.__dict__["_object"]
    if isinstance(value, EnumInt):
        return value.member
    if isinstance(value, (list, tuple)):
        return type(value)(to_qt(one) for one in value)
    return value


def to_python(value: Any) -> Any:
    """What PythonQt gives."""
    if isinstance(value, QtCore.QObject):
        return proxy_of(value)
    if isinstance(value, enum.Enum):
        return EnumInt.of(value)
    return value


def proxy_of(target: QtCore.QObject) -> Proxy:
    """The one proxy of a Qt object."""
    known = getattr(target, "_standin_proxy", None)
    if known is not None:
        return known
    kind = _by_wrapped.get(type(target))
    if kind is None:
        kind = proxy_class(type(target), type(target).__name__, f"qt.{type(target).__name__}")
    proxy = kind.__new__(kind)
    _bind(proxy, target)
    return proxy


def _bind(proxy: Proxy, target: QtCore.QObject) -> None:
    object.__setattr__(proxy, "_object", target)
    target._standin_proxy = proxy


def _links(target: QtCore.QObject) -> dict[tuple[str, Any], list[Any]]:
    if not hasattr(target, "_standin_links"):
        target._standin_links = {}
    return target._standin_links


def _property(target: QtCore.QObject, name: str) -> QtCore.QMetaProperty | None:
    meta = target.metaObject()
    index = meta.indexOfProperty(name)
    return meta.property(index) if index >= 0 else None


def _signal(target: QtCore.QObject, name: str) -> Any:
    found = getattr(target, name, None)
    return found if isinstance(found, QtCore.SignalInstance) else None


def _is_known(proxy: Proxy, name: str) -> bool:
    facts = type(proxy).facts
    if facts is None or name in _COMMON_NAMES or name in facts["names"] or _is_overload(facts, name):
        return True
    return isinstance(to_qt(proxy), QtWidgets.QWidget) and name in _WIDGET_NAMES


def _is_overload(facts: dict[str, Any], name: str) -> bool:
    return any(name == entry[0] for entry in facts["properties"]) or any(
        name == signal.partition("(")[0] for signal in facts["signals"]
    )


def _check_name(proxy: Proxy, name: str) -> None:
    if not _is_known(proxy, name):
        raise AttributeError(f"{type(proxy).__name__} has no attribute named '{name}'")


def _is_known_signal(proxy: Proxy, signal: str) -> bool:
    facts = type(proxy).facts
    return facts is None or signal in facts["signals"] or signal in _WIDGET_SIGNALS


class ValueClass:
    """A class of values, such as QSize: its enums are ints, its objects are PySide6's own."""

    def __init__(self, wrapped: type) -> None:
        self._wrapped = wrapped

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise ValueError(f"{self._wrapped.__name__} does not support keyword arguments: {sorted(keywords)}")
        return self._wrapped(*map(to_qt, arguments))

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._wrapped,)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, self._wrapped)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name, None)
        if found is None:
            found = _enum_member(self._wrapped, name)
        if found is None:
            raise AttributeError(f"{self._wrapped.__name__} has no attribute named '{name}'")
        return to_python(found) if isinstance(found, enum.Enum) else found


def _refuse_keywords(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise ValueError(f"Called {method} with keyword arguments, but called slot does not support kwargs.")
        given = [to_qt(argument) for argument in arguments]
        if getattr(method, "__name__", "") == "write":  # PythonQt turns text into bytes by itself
            given = [one.encode() if isinstance(one, str) else one for one in given]
        return to_python(method(*given))

    return call


def _connect(signal: Any, slot: Callable[..., Any], arguments: str | None) -> Callable[..., None]:
    """The slot gets as many arguments as it takes; what it raises goes to `sys.excepthook`, not to the caller."""
    most = _most_arguments(slot)
    wanted = None if arguments is None else len(re.findall(r"[^,]+", arguments))

    def take(*values: Any) -> None:
        given = [to_python(value) for value in values]
        if arguments == "bool" and given and not isinstance(given[0], bool):
            given = [given[0] is not None]
        limits = [limit for limit in (most, wanted) if limit is not None]
        try:
            slot(*given[: min(limits, default=len(given))])
        except Exception:
            sys.excepthook(*sys.exc_info())

    # PySide6 chooses the overload by how many arguments the receiver takes.
    link = _RECEIVERS[wanted](take) if wanted is not None else take
    signal.connect(link)
    return link


_RECEIVERS: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...] = (
    lambda take: lambda: take(),
    lambda take: lambda a: take(a),
    lambda take: lambda a, b: take(a, b),
    lambda take: lambda a, b, c: take(a, b, c),
    lambda take: lambda a, b, c, d: take(a, b, c, d),
)


def _most_arguments(slot: Callable[..., Any]) -> int | None:
    try:
        parameters = inspect.signature(slot).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    # A default is the usual way to keep a loop variable in a lambda; PythonQt fills such arguments, too.
    return sum(one.kind in positional for one in parameters)
