"""A folder of `images/`, `labels/` and `unlabelled/`, paired by file name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DatasetError
from .case import LABEL_SUFFIXES, SUFFIXES, Case, case_id

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
        raise DatasetError(
            f"The folder {folder} cannot be read: {error.strerror or error}.",
            "Check that the disk is connected, and ask for permission to read the folder.",
        ) from error


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
