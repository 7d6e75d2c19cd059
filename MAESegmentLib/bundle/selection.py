"""Which version a model's name means, as the person chose it: `selected.json` beside the user's models."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from ..errors import OutputError, remedy
from ..storage.atomic_folder import sync_folder

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
    """Replace the file by one rename; `OutputError` if that cannot be. Held under the store's lock."""
    temporary = folder / f".{FILE}-{uuid.uuid4().hex[:8]}.part"
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            json.dump(dict(sorted(selection.items())), stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(folder / FILE)
        sync_folder(folder)
    except OSError as error:
        raise OutputError(
            f"It cannot be noted which version is to be used: {error.strerror or error} ({folder}).",
            remedy(error),
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def with_selected(selection: Mapping[str, str], name: str, version: str | None) -> dict[str, str]:
    """`selection` with `version` for `name`; without an entry for None."""
    rest = {other: chosen for other, chosen in selection.items() if other != name}
    return rest if version is None else {**rest, name: version}
