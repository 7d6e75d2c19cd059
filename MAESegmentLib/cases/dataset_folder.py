"""A folder of `images/`, `labels/` and `unlabelled/`, paired by file name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DatasetError
from .case import LABEL_SUFFIXES, SUFFIXES, Case, case_id, unreadable_folder

IMAGE_FOLDERS = ("images", "imagesTr")
LABEL_FOLDERS = ("labels", "labelsTr")
UNLABELLED_FOLDERS = ("unlabelled", "unlabeled", "imagesTs")
_CHANNEL = re.compile(r"(.+)_(\d{4})", re.DOTALL)


def folder_cases(root: Path, *, ending: str = "", numbered: bool = False) -> tuple[list[Case], list[str]]:
    """The cases, and notes on files that are none. `x_0000`, `x_0001` beside a label `x` are channels of one case.

    `ending`: only files that end like this are read. `numbered`: every image carries the number of its channel.
    """
    skipped: list[Path] = []
    labels = _labels_by_case(_found(root, LABEL_FOLDERS, LABEL_SUFFIXES, ending, skipped))
    images = _channels_by_case(_found(root, IMAGE_FOLDERS, SUFFIXES, ending, skipped), labels, numbered=numbered)
    orphans = sorted(set(labels) - set(images))
    if orphans:
        raise DatasetError(f"Case {orphans[0]}: there is a label map but no image of that name in {root}.")
    more = _channels_by_case(_found(root, UNLABELLED_FOLDERS, SUFFIXES, ending, skipped), {}, numbered=numbered)
    cases = [Case(name, paths, labels.get(name)) for name, paths in images.items()]
    cases += [Case(name, paths) for name, paths in more.items()]
    if not cases:
        alone = [path for path in _entries(root) if not path.is_dir() and _ends_like(path, SUFFIXES, ending)]
        cases = [Case(name, paths) for name, paths in _channels_by_case(alone, {}, numbered=numbered).items()]
    return cases, _notes(skipped, ending)


def with_numbered_channels(cases: Iterable[Case]) -> tuple[list[Case], list[str]]:
    """`cases` with the channels `c_0000`, `c_0001`, ... for an image `c` that is not there; and a note if there are.

    nnU-Net's first version listed its images so.
    """
    folders: dict[Path, dict[str, tuple[Path, ...]]] = {}
    result = []
    count = 0
    for case in cases:
        image = case.image[0]
        files: tuple[Path, ...] = ()
        if len(case.image) == 1 and not os.path.lexists(image):
            if image.parent not in folders:
                there = [path for path in _entries(image.parent) if _ends_like(path, SUFFIXES, "")]
                folders[image.parent] = _channels_by_case(there, {}, numbered=True)
            files = folders[image.parent].get(case_id(image), ())
        if files and all(path.name.endswith(image.name.removeprefix(case_id(image))) for path in files):
            case, count = replace(case, image=files), count + 1
        result.append(case)
    note = f"{count} images of dataset.json were read from their numbered files (_0000, ...), as nnU-Net has them."
    return result, [note] if count else []


def _found(root: Path, names: Iterable[str], endings: Sequence[str], ending: str, skipped: list[Path]) -> list[Path]:
    """Image files, and sub-folders (DICOM series), by name."""
    found = []
    for path in (path for name in names for path in _entries(root / name)):
        if path.is_dir() or _ends_like(path, endings, ending):
            found.append(path)
        else:
            skipped.append(path)
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise unreadable_folder(f"The folder {folder}", error) from error


def _ends_like(path: Path, endings: Sequence[str], ending: str) -> bool:
    name = path.name.lower()
    return name.endswith(tuple(endings)) and name.endswith(ending.lower())


def _labels_by_case(paths: Iterable[Path]) -> dict[str, Path]:
    labels: dict[str, Path] = {}
    for path in paths:
        name = case_id(path)
        if name in labels:
            raise _two_files("label maps", name, [labels[name], path])
        labels[name] = path
    return labels


def _channels_by_case(paths: Iterable[Path], labels: dict[str, Path], *, numbered: bool) -> dict[str, tuple[Path, ...]]:
    """Files of each case, in the order of their channels."""
    cases: dict[str, dict[int, Path]] = {}
    for path in paths:
        name, number = case_id(path), 0
        channel = _CHANNEL.fullmatch(name)
        if channel and name not in labels and (numbered or channel[1] in labels):
            name, number = channel[1], int(channel[2])
        files = cases.setdefault(name, {})
        if number in files:
            raise _two_files("images", name, [files[number], path])
        files[number] = path
    for name, files in cases.items():
        missing = sorted(set(range(max(files) + 1)) - set(files))
        if missing:
            raise DatasetError(
                f"Case {name}: channel {missing[0]} is missing: there is no {name}_{missing[0]:04d} beside "
                f"{files[max(files)].name}.",
                "Number the channels of each case from _0000 on, without gaps.",
            )
    return {name: tuple(files[number] for number in sorted(files)) for name, files in cases.items()}


def _two_files(what: str, name: str, paths: Sequence[Path]) -> DatasetError:
    return DatasetError(
        f"Case {name}: several {what} have this name: {', '.join(path.name for path in paths)}.",
        'Keep one of them, or say which is meant in "cases" of dataset.json.',
    )


def _notes(skipped: Sequence[Path], ending: str) -> list[str]:
    if not skipped:
        return []
    why = f'"file_ending" is {ending}' if ending else "they are not images of a known kind"
    some = ", ".join(f"{path.parent.name}/{path.name}" for path in skipped[:3])
    more = ", ..." if len(skipped) > 3 else ""
    return [f"{len(skipped)} file(s) are not read ({some}{more}): {why}."]
