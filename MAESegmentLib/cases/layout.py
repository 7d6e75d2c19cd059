"""What lies in a store's folder: a folder a case, `labels.json`, `dataset.json` and `mapping.json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DatasetError
from ..images.labels import Label, by_name
from ..storage.atomic_file import remove_unfinished_files, write_file
from ..storage.atomic_folder import recover, replaced
from .case import IGNORED, unreadable_folder
from .records import IGNORE, ROLES, CaseRecord

RECORD = "case.json"
LABEL = "label.nii.gz"
THUMBNAIL = "thumbnail.png"
DATASET = "dataset.json"
MAPPING = "mapping.json"
LABELS = "labels.json"
_CASE = re.compile(r"case-(\d{4,9})")
#: Value 255 is what was not annotated.
MOST_LABELS = 254
_FORMAT = "maesegment_cases"


def image_names(channels: int) -> tuple[str, ...]:
    """One file per channel."""
    return ("image.nii.gz",) if channels == 1 else tuple(f"image_{n}.nii.gz" for n in range(channels))


def case_name(number: int) -> str:
    return f"case-{number:04d}"


def case_number(name: str) -> int:
    """0 if it is not a case's name."""
    match = _CASE.fullmatch(name)
    return int(match[1]) if match else 0


def case_folders(store: Path) -> list[Path]:
    """Those of all cases in their place, sound or not, by number."""
    return case_folders_and_replaced(store)[0]


def case_folders_and_replaced(store: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Those of all cases by number, and (hidden folder, name) of those that are being replaced, or were when their
    writer was killed. Both are seen at one moment. `DatasetError` if the store cannot be read."""
    try:
        with os.scandir(store) as entries:
            names = {entry.name for entry in entries if entry.is_dir()}
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        raise unreadable_folder(f"The cases in {store}", error) from error
    cases = sorted((name for name in names if case_number(name)), key=case_number)
    torn = [(store / hidden, name) for hidden, name in replaced(names).items() if case_number(name)]
    return [store / name for name in cases], torn


def recover_cases(store: Path) -> None:
    """Put every case back in its place, and delete what dead writers left; for the holder of the store's lock."""
    recover(store)
    for folder in case_folders(store):
        remove_unfinished_files(folder)


@dataclass(frozen=True)
class LabelTable:
    """`last_case` is the highest number a case ever had: a number is not given again."""

    labels: tuple[Label, ...] = ()
    last_case: int = 0

    def with_labels(self, wanted: Iterable[Label]) -> LabelTable:
        """With those of `wanted` that are not there yet, at the next values."""
        labels = list(self.labels)
        for label in wanted:
            if label.name not in by_name(labels):
                labels.append(replace(label, value=max((one.value for one in labels), default=0) + 1))
        if labels and labels[-1].value > MOST_LABELS:
            raise DatasetError(f"A case store holds {MOST_LABELS} labels; these are more.", "Use a folder of its own.")
        return replace(self, labels=tuple(labels))

    def save(self, store: Path) -> None:
        content = {
            _FORMAT: 1,
            "last_case": self.last_case,
            "labels": [label.to_dict() for label in self.labels],
        }
        write_file(store / LABELS, json.dumps(content, indent=1, ensure_ascii=False))


def read_table(store: Path) -> LabelTable | None:
    """None if the file is not there or damaged."""
    content = _read(store)
    if content is None:
        return None
    try:
        return LabelTable(parse_labels(content["labels"]), int(content["last_case"]))
    except (KeyError, ValueError, TypeError, ConfigurationError):
        return None


def is_case_store(folder: Path) -> bool:
    """Whether a case was ever stored in `folder`."""
    return _read(folder) is not None


def merge(tables: Iterable[Sequence[Label]]) -> tuple[Label, ...]:
    """One table of the labels that cases say they use, the first word on a value being the last."""
    by_value: dict[int, Label] = {}
    for labels in tables:
        for label in labels:
            by_value.setdefault(label.value, label)
    return tuple(by_value[value] for value in sorted(by_value))


def parse_labels(entries: Sequence[Mapping[str, Any]]) -> tuple[Label, ...]:
    """What `Label.to_dict` made of each; `ValueError` or `ConfigurationError` if it did not."""
    return tuple(Label.from_dict(entry) for entry in entries)


def _read(store: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((store / LABELS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and _FORMAT in content else None


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
