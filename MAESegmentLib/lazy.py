"""Packages whose names are imported when first used, so that the rest can be had without what those names need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def importing(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__`: `home` says in which submodule of `package` each of its names is."""

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{home[name]}", package), name)

    return find
