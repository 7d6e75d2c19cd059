"""Which version a model's name means, as the user chose it: `selected.json` beside the user's models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..storage.atomic_file import write_file

FILE = "selected.json"


def read_selection(folder: Path) -> dict[str, str]:
    """Name -> version. A file that is missing or damaged chooses nothing: then the highest version is meant."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: version for name, version in content.items() if isinstance(version, str)}


def write_selection(folder: Path, selection: Mapping[str, str]) -> None:
    """Replace the file; `OutputError` if that cannot be. For the holder of the store's lock."""
    write_file(folder / FILE, json.dumps(dict(sorted(selection.items())), indent=2))


def with_selected(selection: Mapping[str, str], name: str, version: str | None) -> dict[str, str]:
    """`selection` with `version` for `name`; without an entry for None."""
    rest = {other: chosen for other, chosen in selection.items() if other != name}
    return rest if version is None else {**rest, name: version}
