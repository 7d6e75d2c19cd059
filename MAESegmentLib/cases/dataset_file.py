"""`dataset.json`, taken at its word: what cannot be meant is refused, what is not read is named."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..bundle.plain_text import name_problem
from ..errors import DatasetError
from ..images.labels import loose_name, other_names
from .case import IGNORED, SUFFIXES, Case, case_id

#: A list of a million cases has 100 MB.
_LARGEST_FILE = 256 * 2**20
_LARGEST_VALUE = 65535
#: Python itself stops at 4300 digits, with words of its own.
_LONGEST_NUMBER = 300
#: What others call the value 0.
_BACKGROUND = frozenset({"background", "bg", "unlabelled", "unlabeled", "clear label", "none"})
#: Keys that list cases.
_LISTS = ("cases", "training", "dataset")
_READ = ("labels", *_LISTS, "splits", "name", "file_ending", "channel_names", "numTraining")
#: Keys of other programs, and remarks: nothing about cases or labels depends on them.
_REMARKS = frozenset(
    ("note", "notes", "description", "modality", "reference", "licence", "license", "release", "release_date", "author")
) | {"authors", "citation", "numTest", "tensorImageSize", "dataset_name", "converted_by", "version", "url"}
_CASE_READ = ("image", "images", "label", "id", "group", "patient", "unknown")


@dataclass(frozen=True)
class DatasetFile:
    """What a `dataset.json` says. `cases` is None where the folder says it; `channels` 0 where nothing is said.

    `notes` are sentences about what is not read.
    """

    labels: dict[str, int] = field(default_factory=dict)
    ignore: int | None = None
    cases: tuple[Case, ...] | None = None
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = ""
    file_ending: str = ""
    channels: int = 0
    count: int | None = None
    notes: tuple[str, ...] = ()


def read_dataset_file(file: Path) -> DatasetFile:
    """`DatasetError` for what is not JSON, contradicts itself or cannot be read as it is meant."""
    description = parse_description(_read_json(file), file.parent)
    unknown = (name for case in description.cases or () for name in case.unknown)
    strangers = other_names(unknown, description.labels)
    if not strangers:
        return description
    note = f'"unknown" of some cases names what is not a label of the dataset: {", ".join(map(repr, strangers))}.'
    return replace(description, notes=(*description.notes, note))


def parse_description(content: Mapping[str, Any], root: Path) -> DatasetFile:
    """Of the content of a `dataset.json` whose paths start at `root`."""
    notes = _check_keys(content, _READ, _REMARKS, "dataset.json")
    labels = _labels(content.get("labels", {}))
    ignored = [name for name in labels if name.casefold() == IGNORED]
    ignore = labels.pop(ignored[0]) if ignored else None
    names = content.get("name", "")
    return DatasetFile(
        labels=labels,
        ignore=ignore,
        cases=_cases(content, root, notes),
        splits=_splits(content.get("splits", {})),
        name=names if isinstance(names, str) else "",
        file_ending=_file_ending(content.get("file_ending", "")),
        channels=_channels(content.get("channel_names")),
        count=content.get("numTraining") if type(content.get("numTraining")) is int else None,
        notes=tuple(notes),
    )


def _read_json(file: Path) -> dict[str, Any]:
    """Strictly: a key given twice would hide the first, and no figure is NaN."""
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise DatasetError(f"{file} is larger than {_LARGEST_FILE // 2**20} MB.", "Is it a dataset.json?")
        # From bytes: UTF-8 with or without a byte order mark, UTF-16, UTF-32.
        content = json.loads(
            file.read_bytes(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole
        )
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} cannot be read: it is not UTF-8 ({error.reason}).", "Save it as UTF-8.") from error
    except RecursionError as error:
        raise DatasetError(f"{file} cannot be read: it is nested too deeply.", "Correct the file.") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read as JSON: {error}", "Correct the file.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{file} holds a {type(content).__name__}; a JSON object is needed.")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return content


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"it has a number of {len(text)} digits")
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number that JSON knows")


def _check_keys(content: Mapping[str, Any], read: Iterable[str], remarks: Iterable[str], where: str) -> list[str]:
    """A note on keys that are not read; `DatasetError` for one that is nearly a key that is."""
    unread = [key for key in content if key not in read and key not in remarks]
    for key in unread:
        meant = difflib.get_close_matches(key.casefold(), list(read), n=1, cutoff=0.75)
        if meant:
            raise DatasetError(
                f"{where} has a key {key!r}, which is not read. Is {meant[0]!r} meant?",
                f"Keys that are read: {', '.join(read)}.",
            )
    return [f"{where} has keys that are not read: {', '.join(map(repr, unread))}."] if unread else []


# Labels ---------------------------------------------------------------------------------------------------------------


def _labels(labels: Any) -> dict[str, int]:
    """Name -> value, background left out. Both {"name": value} and MSD's {"value": "name"} are understood."""
    if not isinstance(labels, Mapping):
        raise DatasetError('"labels" of the dataset is not an object.', 'Write {"background": 0, "liver": 1}.')
    values: dict[str, int] = {}
    for key, content in labels.items():
        name, value = _label(key, content)
        if value in values.values():
            other = next(known for known, taken in values.items() if taken == value)
            raise DatasetError(f"Two labels of the dataset share the value {value}: {other!r} and {name!r}.")
        alike = [known for known in values if loose_name(known) == loose_name(name)]
        if alike:
            raise DatasetError(
                f"Two labels of the dataset share the name {name!r}, but for case and spaces: {alike[0]!r} is "
                f"{values[alike[0]]}, {name!r} is {value}.",
                "Give each label a name of its own.",
            )
        values[name] = value
    for name, value in values.items():
        is_background = loose_name(name) in _BACKGROUND
        if value == 0 and not is_background:
            raise DatasetError(
                f"Label {name!r} of the dataset has the value 0, which is background and never learnt.",
                'Give the structure another value, or call 0 "background".',
            )
        if value and loose_name(name) == "background":
            raise DatasetError(
                f'"background" of the dataset has the value {value}; background is always 0.',
                'Write {"background": 0, "liver": 1}, and label maps with these values.',
            )
    return {name: value for name, value in values.items() if value}


def _label(key: str, content: Any) -> tuple[str, int]:
    """The name and the value, whichever of the two stands first."""
    name = key
    if isinstance(content, str):
        if key.strip().isdecimal() and content.strip().isdecimal():
            raise DatasetError(
                f"Label {key!r}: {content!r} of the dataset: which is the name and which the value?",
                'Write the value as a number: {"liver": 1}.',
            )
        name, content = (key, content.strip()) if content.strip().isdecimal() else (content, key.strip())
        if not content.isdecimal() or len(content) > 9:
            raise _no_value(name, content)
        content = int(content)
    elif isinstance(content, list):
        if len(content) != 1:
            raise DatasetError(
                f"Label {name!r} of the dataset is a region of several values ({content}); regions, which may overlap, "
                "cannot be learnt.",
                'Name each value: {"background": 0, "edema": 1, "core": 2}.',
            )
        content = content[0]
    if isinstance(content, bool) or not isinstance(content, int | float) or not math.isfinite(content):
        raise _no_value(name, content)
    if content != int(content):
        raise _no_value(name, content)
    if not 0 <= content <= _LARGEST_VALUE:
        raise DatasetError(f"Label {name!r} of the dataset has the value {content:g}; values run from 0 to 65535.")
    name = " ".join(name.split())
    problem = name_problem(name) if name else "is empty"
    if problem:
        raise DatasetError(
            f"The name of value {int(content)} of the dataset, {name[:80]!r}, {problem}.", "Give it another name."
        )
    return name, int(content)


def _no_value(name: str, value: Any) -> DatasetError:
    return DatasetError(f"Label {name!r} of the dataset has no whole number as its value: {value!r}.")


# Cases ----------------------------------------------------------------------------------------------------------------


def _cases(content: Mapping[str, Any], root: Path, notes: list[str]) -> tuple[Case, ...] | None:
    keys = [key for key in _LISTS if key in content]
    if len(keys) > 1:
        raise DatasetError(f"The dataset lists its cases twice: under {keys[0]!r} and under {keys[1]!r}.")
    if not keys:
        return None
    listed = content[keys[0]]
    if keys[0] == "dataset" and isinstance(listed, Mapping):  # nnU-Net's
        entries = [{"id": key, **entry} if isinstance(entry, Mapping) else entry for key, entry in listed.items()]
    elif isinstance(listed, list):
        entries = listed
    else:
        raise DatasetError(f'"{keys[0]}" of the dataset is not a list.', 'Write [{"image": PATH, "label": PATH}, ...].')
    cases = tuple(_case(number, entry, root) for number, entry in enumerate(entries))
    unread: dict[str, None] = {}
    for number, entry in enumerate(entries):
        if isinstance(entry, Mapping):
            _check_keys(entry, _CASE_READ, (), f"Case number {number} of the dataset")
            unread.update(dict.fromkeys(key for key in entry if key not in _CASE_READ))
    if unread:
        notes.append(f"Cases of dataset.json have keys that are not read: {', '.join(map(repr, unread))}.")
    return cases


def _case(number: int, entry: Any, root: Path) -> Case:
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or ("image" in entry and "images" in entry):
        raise _no_image(number)
    image = entry.get("image", entry.get("images"))
    images = [image] if isinstance(image, str) else image
    if not isinstance(images, list) or not images or not all(isinstance(i, str) and i for i in images):
        raise _no_image(number)
    label = entry.get("label")
    if label is not None and not isinstance(label, str):
        raise DatasetError(
            f"Case number {number} of the dataset: its label map is {label!r}.", 'Write {"label": PATH}, one file.'
        )
    groups = {_text(entry, key, number) for key in ("group", "patient")} - {""}
    if len(groups) > 1:
        raise DatasetError(f'Case number {number} of the dataset has a "group" and another "patient".')
    paths = tuple(root / i for i in images)
    return Case(
        id=_text(entry, "id", number) or case_id(paths[0]),
        image=paths,
        label=root / label if label else None,
        group=groups.pop() if groups else "",
        unknown=_unknown(entry, number),
    )


def _no_image(number: int) -> DatasetError:
    return DatasetError(f"Case number {number} of the dataset has no image path.", 'Write {"image": PATH, ...}.')


def _text(entry: Mapping[str, Any], key: str, number: int) -> str:
    value = entry.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    if type(value) is int:
        return str(value)
    raise DatasetError(f'"{key}" of case number {number} is {value!r}, neither a text nor a whole number.')


def _unknown(entry: Mapping[str, Any], number: int) -> tuple[str, ...]:
    names = entry.get("unknown", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f'"unknown" of case number {number} is not a list of label names.', 'Write ["liver", ...].')
    return tuple(names)


# The rest -------------------------------------------------------------------------------------------------------------


def _splits(splits: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(splits, Mapping):
        raise DatasetError('"splits" of the dataset is not an object.', 'Write {"validation": ["case1", ...]}.')
    result = {}
    for name, entries in splits.items():
        if not name.strip() or set(name) & set(":,"):
            raise DatasetError(f"A split cannot be called {name!r}: colons and commas choose parts and several splits.")
        if not isinstance(entries, list | tuple) or not all(type(entry) in (str, int) for entry in entries):
            raise DatasetError(f"Split {name!r} is not a list of case ids.", 'Write {"validation": ["case1", ...]}.')
        result[name] = tuple(map(str, entries))
        twice = next((entry for n, entry in enumerate(result[name]) if entry in result[name][:n]), None)
        if twice is not None:
            raise DatasetError(f"Split {name!r} names {twice!r} twice.")
    return result


def _file_ending(ending: Any) -> str:
    if not isinstance(ending, str) or (ending and ending.casefold() not in SUFFIXES):
        raise DatasetError(
            f'"file_ending" of the dataset is {ending!r}.', f"Endings that are read: {', '.join(SUFFIXES)}."
        )
    return ending


def _channels(names: Any) -> int:
    if names is None:
        return 0
    if not isinstance(names, Mapping | list) or not names:
        raise DatasetError('"channel_names" of the dataset names no channels.', 'Write {"0": "CT"}.')
    if isinstance(names, Mapping) and set(names) != {str(n) for n in range(len(names))}:
        raise DatasetError(
            f'"channel_names" of the dataset are numbered {", ".join(map(repr, names))}.', 'Number them "0", "1", ...'
        )
    return len(names)


def outside(paths: Iterable[Path], root: Path) -> list[Path]:
    """Those that are written as lying elsewhere than below `root`; where links lead is not asked."""

    def written(path: Path) -> Path:
        return Path(os.path.normpath(path.absolute()))

    return [path for path in paths if not written(path).is_relative_to(written(root))]
