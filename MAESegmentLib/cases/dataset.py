"""Read a set of cases: `dataset.json` with a list of cases (MONAI/MSD style), or a folder read by file name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import DatasetError
from ..images.formats.decoding import unreadable
from .case import Case, check_files_differ
from .dataset_file import DatasetFile, outside, parse_description, read_dataset_file
from .dataset_folder import folder_cases, with_numbered_channels
from .layout import is_case_store
from .records import CHECK, VALIDATION, role_name
from .store import CaseStore

_SEPARATORS = "_-."
_EXPECTED = (
    "Give a folder with images in images/ and label maps of the same names in labels/, or a dataset.json that lists "
    '"cases".'
)


@dataclass(frozen=True)
class CaseDataset:
    """`labels` maps name to voxel value (background left out); `splits` holds case or group ids as written.

    Voxels of value `ignore` were not annotated and are not learnt from (in `dataset.json` the label "ignore").
    `notes` are sentences for the user about what was not read, or looks like a mistake.
    """

    labels: dict[str, int]
    cases: tuple[Case, ...]
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = ""
    ignore: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.label is not None)

    def select(self, what: str) -> tuple[Case, ...]:
        """Cases of comma-separated splits ("pool"), parts of splits, case ids and group ids; each case once.

        Parts are "pool:8" (the first 8 entries), "pool:8:12" (the 9th to 12th) and "pool:8:" (from the 9th on).

        Entries keep their order, so that "pool:4" is a prefix of "pool:8".
        """
        entries = [entry for piece in what.split(",") if piece.strip() for entry in self._entries(piece.strip(), what)]
        if not entries:
            raise DatasetError(f"{what!r} selects no case of the dataset.")
        return tuple({case.id: case for entry in entries for case in self._resolve(entry, what)}.values())

    def _entries(self, piece: str, what: str) -> Sequence[str]:
        """Ids that a split or a part of one lists, else `piece` itself, as an id."""
        name, _, part = piece.partition(":")
        split = self.split_called(name)
        if split is None:
            return [piece]
        return self.splits[split][_part(part, what)] if part else self.splits[split]

    def split_called(self, name: str) -> str | None:
        """As the file calls it: a case store's "validation" is "check" there."""
        return next((split for split in (name, CHECK) if split in self.splits and name in (split, VALIDATION)), None)

    def _resolve(self, entry: str, what: str) -> list[Case]:
        found = _matching(entry, self.cases)
        if not found:
            known = ", ".join(map(role_name, self.splits)) or "none"
            raise DatasetError(
                f"{entry!r} (asked for by {what!r}) is neither a split nor a case of the dataset.",
                f"Splits: {known}. Cases: {', '.join(case.id for case in self.cases[:5])}, ...",
            )
        return found


def load_dataset(path: str | Path, *, expected: str = _EXPECTED) -> CaseDataset:
    """Read a `dataset.json`, or a folder with `images/`, `labels/`, `unlabelled/` and perhaps a `dataset.json`.

    A folder that has none of these but holds images is read as unlabelled cases. `expected` is the advice where there
    is nothing of the kind.
    """
    path = Path(path)
    root = path if path.is_dir() else path.parent
    file = root / "dataset.json" if path.is_dir() else path
    if not path.is_dir() and not path.is_file():
        raise DatasetError(f"{path} does not exist.", expected)
    if path.is_file() and path.suffix.lower() != ".json":
        raise DatasetError(f"{path} is neither a folder nor a dataset.json.", expected)
    # A store of corrected cases knows better than its `dataset.json`, which may be older than its last change.
    is_store = is_case_store(root)
    description = parse_description(CaseStore(root).description(), root) if is_store else _described(file)
    cases, notes = _cases_of(description, root)
    if not cases:
        raise DatasetError(f"No case was found in {root}.", expected)
    _check_cases(cases)
    _check_channels(cases, description)
    _check_splits(description.splits, cases)
    return CaseDataset(
        description.labels,
        _grouped(cases, description.splits),
        description.splits,
        description.name or root.name,
        description.ignore,
        (*description.notes, *notes, *_shared_labels(cases)),
    )


def _described(file: Path) -> DatasetFile:
    if file.is_file():
        return read_dataset_file(file)
    if os.path.lexists(file):
        raise DatasetError(
            f"{file} cannot be read: it is not a file, but a folder, a pipe, a device or a link to nothing.",
            "Put the file itself there, or remove it to read the folder by file names.",
        )
    return DatasetFile()


def _cases_of(description: DatasetFile, root: Path) -> tuple[Sequence[Case], list[str]]:
    """The cases, and notes about what looks like a mistake."""
    if description.cases is None:
        cases, notes = folder_cases(root, ending=description.file_ending, numbered=description.channels > 0)
    else:
        cases, notes = with_numbered_channels(description.cases)
        away = outside((path for case in cases for path in case.files), root)
        if away:
            notes.append(f"{len(away)} file(s) of dataset.json lie outside its folder, the first: {away[0]}.")
    labelled = sum(case.label is not None for case in cases)
    if description.count is not None and description.count not in (labelled, len(cases)):
        notes.append(f'dataset.json says "numTraining": {description.count}, but {labelled} cases have a label map.')
    return cases, notes


def _check_cases(cases: Sequence[Case]) -> None:
    repeated = [name for name, n in Counter(case.id for case in cases).items() if n > 1]
    if repeated:
        raise DatasetError(
            f"Case {repeated[0]} occurs more than once in the dataset.", "Give each case an id of its own."
        )
    owners: dict[Path, str] = {}
    for case in cases:
        files = [_existing(path, case) for path in case.files]
        check_files_differ(case.image, case.label, f"Case {case.id}: ")
        for place in files[: len(case.image)]:
            if owners.setdefault(place, case.id) != case.id:
                raise DatasetError(
                    f"Cases {owners[place]} and {case.id} have the same image, {place}.",
                    "Leave one of them out, or give it its own image.",
                )


def _shared_labels(cases: Iterable[Case]) -> list[str]:
    count = Counter(case.label for case in cases if case.label is not None)
    return [f"{n} cases have the same label map, {path}." for path, n in count.items() if n > 1]


def _existing(path: Path, case: Case) -> Path:
    """Where the file lies, links followed."""
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        if path.is_symlink():
            reason = unreadable(path, FileNotFoundError())
            raise DatasetError(f"Case {case.id}: {reason.message}", reason.hint) from error
        raise DatasetError(f"Case {case.id}: {path} does not exist.", "Paths are relative to dataset.json.") from error
    except (OSError, ValueError, RuntimeError) as error:  # no permission, a name that no file can have, a ring of links
        raise DatasetError(f"Case {case.id}: {str(path)[:200]!r} cannot be opened: {error}.") from error


def _check_channels(cases: Iterable[Case], description: DatasetFile) -> None:
    for case in cases:
        if description.channels and len(case.image) != description.channels:
            raise DatasetError(
                f'Case {case.id} has {len(case.image)} image file(s); "channel_names" of the dataset names '
                f"{description.channels}.",
                "Give one file per channel.",
            )


def _check_splits(splits: Mapping[str, Sequence[str]], cases: Sequence[Case]) -> None:
    for name, entries in splits.items():
        for entry in entries:
            if not _matching(entry, cases):
                raise DatasetError(f"Split {name!r} names {entry!r}, which is not a case of the dataset.")


def _matching(entry: str, cases: Iterable[Case]) -> list[Case]:
    """The case of this id, else the cases of this group, else ids that begin with it (patient -> scans)."""
    cases = list(cases)
    return (
        [case for case in cases if case.id == entry]
        or [case for case in cases if case.group == entry]
        or [case for case in cases if case.id.startswith(entry) and case.id[len(entry)] in _SEPARATORS]
    )


def _grouped(cases: Sequence[Case], splits: Mapping[str, Sequence[str]]) -> tuple[Case, ...]:
    """Give each case the group its split entry implies, e.g. patient001 for patient001_frame01."""
    groups = {
        case.id: entry
        for entries in splits.values()
        for entry in entries
        for case in _matching(entry, cases)
        if case.group == case.id
    }
    return tuple(replace(case, group=groups.get(case.id, case.group)) for case in cases)


def _part(part: str, what: str) -> slice:
    """ "8" -> the first 8; "8:12" and "8:" as in Python."""
    match = re.fullmatch(r"(\d*)(:?)(\d*)", part)
    if not match:
        raise DatasetError(f"{what!r}: after the colon stands a number of cases (pool:8) or a range (pool:8:12).")
    first, colon, last = match.groups()
    if not colon:
        return slice(int(first))
    return slice(int(first or 0), int(last) if last else None)
