"""A recipe file: everything about a run in one TOML or JSON file, so that it can be repeated."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .description import Description

#: [model] entries that name a text file beside the recipe.
_FILES = {"card_file": "card", "licence_file": "licence_text"}
_TABLES = ("model", "labels", "cases", "network", "autoencoder", "preprocessing", "settings")


@dataclass(frozen=True)
class Recipe:
    """The tables of a recipe as written. `cases` may hold data, split, exclude, validation and labels."""

    description: Description = field(default_factory=Description)
    cases: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_recipe(path: Path | None) -> Recipe:
    """Read a `.toml` or `.json` recipe; None is an empty one."""
    if path is None:
        return Recipe()
    data = read_settings_file(path)
    unknown = set(data) - set(_TABLES)
    if unknown:
        raise ConfigurationError(
            f"{path.name} has unknown tables: {', '.join(sorted(unknown))}.", f"Known: {', '.join(_TABLES)}."
        )
    model = dict(data.get("model", {}))
    for key, entry in _FILES.items():
        if key in model:
            model[entry] = _read(path.parent / model.pop(key))
    if "labels" in data:
        model["labels"] = data["labels"]
    tables = {name: data.get(name, {}) for name in _TABLES if name not in ("model", "labels")}
    return Recipe(Description.from_dict(model), **tables)


def read_settings_file(path: Path) -> dict[str, Any]:
    """The content of a `.toml` or `.json` file as a dictionary."""
    text = _read(path)
    try:
        data = _toml(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", "Correct the file.") from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} does not hold named settings.")
    return data


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
