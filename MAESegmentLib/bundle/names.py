"""What a model's name means: the version that the user selected, and the model of which it is only the beginning.

A model that is imported changes it for no name that meant something.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from ..storage.atomic_file import write_file

#: Name -> version.
SELECTED = "selected.json"
#: Kind of scan -> name of the model that was chosen for one last.
PREFERRED = "preferred.json"


def read_selection(folder: Path, file: str = SELECTED) -> dict[str, str]:
    """What is chosen. A file that is missing or damaged chooses nothing: then the highest version is meant."""
    try:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: version for name, version in content.items() if isinstance(version, str)}


def write_selection(folder: Path, selection: Mapping[str, str], file: str = SELECTED) -> None:
    """Replace the file; `OutputError` if that cannot be. For the holder of the store's lock."""
    write_file(folder / file, json.dumps(dict(sorted(selection.items())), indent=2))


def with_selected(selection: Mapping[str, str], name: str, version: str | None) -> dict[str, str]:
    """`selection` with `version` for `name`; without an entry for None."""
    rest = {other: chosen for other, chosen in selection.items() if other != name}
    return rest if version is None else {**rest, name: version}


def candidates(text: str, names: Collection[str], shipped: Collection[str]) -> list[str]:
    """Those of `names` that `text` may mean, sorted: itself, else those that it begins.

    The models that ship come first, so that what begins like one of them is reached by more of its name alone.

    >>> candidates("hip", {"hippocampus-mr", "hip-ct"}, shipped={"hippocampus-mr"})
    ['hippocampus-mr']
    """
    if text in names:
        return [text]
    begun = sorted(name for name in names if text and name.startswith(text))
    own = [name for name in begun if name in shipped]
    return own if len(own) == 1 else begun


def no_longer_enough(new: str, names: Collection[str], shipped: Collection[str]) -> dict[str, str]:
    """For each of `names` that a beginning of it stood for alone until `new` joins them: the longest such beginning."""
    found = {}
    for end in range(1, len(new)):
        before = candidates(new[:end], names, shipped)
        if len(before) == 1 and candidates(new[:end], {*names, new}, shipped) != before:
            found[before[0]] = new[:end]
    return found
