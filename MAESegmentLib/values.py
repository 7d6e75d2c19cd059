"""Dataclasses as JSON and back, by their annotations."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

from .errors import ConfigurationError

T = TypeVar("T")
S = TypeVar("S", bound="Stored")
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


class Stored:
    """Base of dataclasses that are kept as JSON. What a later version wrote besides is ignored."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[S], data: Mapping[str, Any]) -> S:
        """`ValueError` names the key that is missing or has a value of another kind."""
        return from_json(cls, data)


def from_json(cls: type[T], data: Any) -> T:
    """An instance of the dataclass `cls` of JSON values; lists become tuples, dictionaries dataclasses.

    Keys that are not fields are ignored. `ValueError` names the key that is missing or has a value of another kind;
    what `__post_init__` raises passes.
    """
    return typing.cast(T, _dataclass(cls, data, ""))


def check_known(cls: type, data: Mapping[str, Any], what: str) -> None:
    """`ConfigurationError` if `data` has keys that are not fields of the dataclass `cls`; `what` they are, in words."""
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ConfigurationError(f"Unknown {what}: {', '.join(unknown)}.", f"Known: {', '.join(known)}.")


@functools.cache
def _hints(cls: type) -> dict[str, tuple[Field[Any], Any]]:
    hints = typing.get_type_hints(cls)
    return {field.name: (field, hints[field.name]) for field in fields(cls) if field.init}


def _dataclass(cls: type, data: Any, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong(key, data, "an object")
    values = {}
    for name, (field, hint) in _hints(cls).items():
        inner = f"{key}.{name}" if key else name
        if name in data:
            values[name] = _value(hint, data[name], inner)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{inner!r} is missing")
    return cls(**values)


def _value(hint: Any, data: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, data, key)
    if origin is typing.Literal:
        if data not in arguments:
            raise _wrong(key, data, f"one of {', '.join(map(repr, arguments))}")
        return data
    if origin is tuple:
        return _tuple(arguments, data, key)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
            raise _wrong(key, data, "an object")
        return {name: _value(arguments[1], one, f"{key}.{name}") for name, one in data.items()}
    if is_dataclass(hint):
        return _dataclass(typing.cast(type, hint), data, key)
    if issubclass(hint, Enum):
        try:
            return hint(data)
        except ValueError:
            raise _wrong(key, data, f"one of {', '.join(repr(one.value) for one in hint)}") from None
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (hint is int and isinstance(data, bool)):
        raise _wrong(key, data, _NAMES.get(hint, hint.__name__))
    return data


def _one_of(hints: tuple[Any, ...], data: Any, key: str) -> Any:
    if data is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    for hint in hints[:-1]:
        try:
            return _value(hint, data, key)
        except ValueError:
            continue
    return _value(hints[-1], data, key)


def _tuple(hints: tuple[Any, ...], data: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise _wrong(key, data, "a list")
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(data)
    if len(hints) != len(data):
        raise _wrong(key, data, f"a list of {len(hints)}")
    return tuple(_value(hint, one, f"{key}[{n}]") for n, (hint, one) in enumerate(zip(hints, data, strict=True)))


def _wrong(key: str, data: Any, wanted: str) -> ValueError:
    return ValueError(f"{key or 'it'} is {repr(data)[:80]}, not {wanted}")
