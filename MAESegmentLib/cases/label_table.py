"""`labels.json`: the labels of a case store. A value, once given, means the same label for ever."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DatasetError
from ..images.labels import Label, by_name
from ..storage.atomic_file import write_file
from .submission import RESERVED_NAMES

FILE = "labels.json"
#: Value 255 is what was not annotated.
MOST_LABELS = 254
_FORMAT = "maesegment_cases"


@dataclass(frozen=True)
class LabelTable:
    """`last_case` is the highest number a case ever had: a number is not given again."""

    labels: tuple[Label, ...] = ()
    last_case: int = 0

    def find(self, name: str) -> Label | None:
        """Names are compared without regard to case and spaces."""
        return by_name(self.labels).get(name)

    def with_labels(self, wanted: Iterable[Label]) -> LabelTable:
        """With those of `wanted` that are not there yet, at the next values."""
        labels = list(self.labels)
        for label in wanted:
            if label.name.casefold() in RESERVED_NAMES:
                raise DatasetError(f"A label cannot be called {label.name!r}.", "Give the segment another name.")
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
        write_file(store / FILE, json.dumps(content, indent=1, ensure_ascii=False))


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
        content = json.loads((store / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and _FORMAT in content else None
