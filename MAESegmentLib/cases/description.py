"""A store's `dataset.json` and `mapping.json`, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..images.labels import Label
from ..storage.atomic_file import write_file
from .case import IGNORED
from .records import IGNORE, ROLES, CaseRecord
from .snapshot import LABEL, image_names

DATASET = "dataset.json"
MAPPING = "mapping.json"


def describe(name: str, records: Sequence[CaseRecord], labels: Sequence[Label]) -> dict[str, Any]:
    """The content of `dataset.json`: labels that some case has, cases with relative paths, roles as splits."""
    used = {label for record in records for label in record.labels}
    values: dict[str, int] = {"background": 0, **{label.name: label.value for label in labels if label.name in used}}
    if any(record.partial for record in records):
        values[IGNORED] = IGNORE
    return {
        "name": name,
        "labels": values,
        "cases": [_case(record) for record in records],
        "splits": {role: [record.id for record in records if record.role == role] for role in ROLES},
    }


def write_if_changed(store: Path, content: Mapping[str, Any], *, check_only: bool = False) -> bool:
    """Whether `dataset.json` was missing or said something else; then it is written, unless `check_only`."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    file = store / DATASET
    try:
        if file.read_text(encoding="utf-8") == text:
            return False
    except (OSError, ValueError):
        pass
    if not check_only:
        write_file(file, text)
    return True


def read_remembered(store: Path) -> dict[str, str | None]:
    """Segment name -> label name or None; empty if the file is not there or damaged: then it is asked once more."""
    try:
        content = json.loads((store / MAPPING).read_text(encoding="utf-8"))
        return {str(segment): None if label is None else str(label) for segment, label in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def remembered_text(mapping: Mapping[str, str | None]) -> str:
    return json.dumps(mapping, indent=1, ensure_ascii=False)


def _case(record: CaseRecord) -> dict[str, Any]:
    images = [f"{record.id}/{name}" for name in image_names(record.channels)]
    case: dict[str, Any] = {
        "id": record.id,
        "image": images[0] if len(images) == 1 else images,
        "label": f"{record.id}/{LABEL}",
        "group": record.group,
    }
    return {**case, "unknown": list(record.unknown)} if record.unknown else case
