"""Entries of a spec's `inference` that a model has for each of its labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ...errors import ConfigurationError

_VALUE = re.compile("0|[1-9][0-9]{0,4}")


def by_label_value(stored: Any, known: Collection[str]) -> dict[int, dict[str, Any]]:
    """From {label value: {name: ...}}, with names among those `known`; `ConfigurationError` for what is none."""
    if stored is None:
        return {}
    if not isinstance(stored, Mapping):
        raise ConfigurationError("It is not a table of label values.")
    for key, entry in stored.items():
        if not _VALUE.fullmatch(key) or not isinstance(entry, Mapping):
            raise ConfigurationError(f"{key[:40]!r} is not a label value with a table.")
        if unknown := set(entry) - set(known):
            raise ConfigurationError(f"Label {key} has an unknown entry {min(unknown)[:40]!r}.")
    return {int(key): dict(entry) for key, entry in stored.items()}
