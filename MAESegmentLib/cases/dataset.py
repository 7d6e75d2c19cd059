"""Read a set of cases: `dataset.json` with a list of cases (MONAI/MSD style), or a folder read by file name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DatasetError

IMAGE_FOLDERS = ("images", "imagesTr")
LABEL_FOLDERS = ("labels", "labelsTr")
UNLABELLED_FOLDERS = ("unlabelled", "unlabeled", "imagesTs")
#: The name, by nnU-Net's convention, of the value of voxels that were not annotated.
IGNORED = "ignore"
_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")
_SEPARATORS = "_-."


@dataclass(frozen=True)
class Case:
    """One image (one file per channel) with or without a label map. Cases of one `group` (patient) stay together.

    `unknown` names labels that were not annotated in this case: what its label map calls background may be these.
    """

    id: str
    image: tuple[Path, ...]
    label: Path | None = None
    group: str = ""
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.id)


@dataclass(frozen=True)
class CaseDataset:
    """`labels` maps name to voxel value (background left out); `splits` holds case or group ids as written.

    Voxels of value `ignore` were not annotated and are not learnt from (in `dataset.json` the label "ignore").
    """

    labels: dict[str, int]
    cases: tuple[Case, ...]
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = ""
    ignore: int | None = None

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
        if name not in self.splits:
            return [piece]
        return self.splits[name][_part(part, what)] if part else self.splits[name]

    def _resolve(self, entry: str, what: str) -> list[Case]:
        found = _matching(entry, self.cases)
        if not found:
            known = ", ".join(self.splits) or "none"
            raise DatasetError(
                f"{entry!r} (asked for by {what!r}) is neither a split nor a case of the dataset.",
                f"Splits: {known}. Cases: {', '.join(case.id for case in self.cases[:5])}, ...",
            )
        return found


def load_dataset(path: str | Path) -> CaseDataset:
    """Read a `dataset.json`, or a folder with `images/`, `labels/`, `unlabelled/` and perhaps a `dataset.json`.

    A folder that has none of these but holds images is read as unlabelled cases.
    """
    path = Path(path)
    if path.is_dir():
        file = path / "dataset.json"
        description = _of_case_store(path) or (_read_json(file) if file.is_file() else {})
        root = path
    elif path.is_file():
        description, root = _of_case_store(path.parent) or _read_json(path), path.parent
    else:
        raise DatasetError(
            f"There is no dataset at {path}.", "Give a folder with images/ and labels/, or a dataset.json."
        )

    labels = _labels(description.get("labels", {}))
    ignore = labels.pop(IGNORED, None)
    listed = description.get("cases", description.get("training"))
    cases = _listed_cases(listed, root) if listed is not None else _folder_cases(root)
    _check_cases(cases, root)
    splits = _splits(description.get("splits", {}), cases)
    return CaseDataset(labels, _grouped(cases, splits), splits, str(description.get("name", root.name)), ignore)


def case_id(path: Path) -> str:
    """File name without its image suffix: "a/pt_1.nii.gz" -> "pt_1"."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def _of_case_store(folder: Path) -> dict[str, Any] | None:
    """A store of corrected cases knows better than its `dataset.json`, which may be older than its last change."""
    from .label_table import is_case_store

    if not is_case_store(folder):
        return None
    from .store import CaseStore

    return CaseStore(folder).description()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read as JSON: {error}", "Correct the file.") from error
    if not isinstance(description, dict):
        raise DatasetError(f"{file} holds a {type(description).__name__}; a JSON object is needed.")
    return description


def _labels(labels: Any) -> dict[str, int]:
    """Accept both {"name": value} and MSD's {"value": "name"}."""
    if not isinstance(labels, Mapping):
        raise DatasetError('"labels" of the dataset is not an object.', 'Write {"background": 0, "liver": 1}.')
    pairs = [(k, v) if not isinstance(v, str) else (v, k) for k, v in labels.items()]
    try:
        by_name = {str(name): int(value) for name, value in pairs}
    except (TypeError, ValueError) as error:
        raise DatasetError(f"A label of the dataset has no whole number: {labels}.") from error
    repeated = [value for value, n in Counter(by_name.values()).items() if n > 1]
    if repeated or len(by_name) < len(pairs):
        raise DatasetError(f"Two labels of the dataset share a name or value: {dict(labels)}.")
    if any(value < 0 for value in by_name.values()):
        raise DatasetError(f"Label values of the dataset are not all positive: {by_name}.")
    return {name: value for name, value in by_name.items() if value != 0}


def _listed_cases(listed: Any, root: Path) -> list[Case]:
    if not isinstance(listed, list):
        raise DatasetError('"cases" of the dataset is not a list.')
    cases = []
    for number, entry in enumerate(listed):
        entry = {"image": entry} if isinstance(entry, str) else entry
        image = entry.get("image") if isinstance(entry, Mapping) else None
        images = [image] if isinstance(image, str) else image
        if not images or not all(isinstance(i, str) for i in images):
            raise DatasetError(f"Case number {number} of the dataset has no image path.", 'Write {"image": PATH, ...}.')
        label = entry.get("label")
        paths = tuple(root / i for i in images)
        cases.append(
            Case(
                id=str(entry.get("id") or case_id(paths[0])),
                image=paths,
                label=root / label if label else None,
                group=str(entry.get("group") or entry.get("patient") or ""),
                unknown=_unknown(entry, number),
            )
        )
    return cases


def _unknown(entry: Mapping[str, Any], number: int) -> tuple[str, ...]:
    names = entry.get("unknown", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f'"unknown" of case number {number} is not a list of label names.', 'Write ["liver", ...].')
    return tuple(names)


def _folder_cases(root: Path) -> list[Case]:
    """Pair images and labels by name; `x_0000`, `x_0001` beside a label `x` are channels of one case."""
    labels = {case_id(p): p for folder in LABEL_FOLDERS for p in _images_in(root / folder)}
    images: dict[str, list[Path]] = {}
    for folder in IMAGE_FOLDERS:
        for path in _images_in(root / folder):
            stem = case_id(path)
            channel = re.fullmatch(r"(.+)_\d{4}", stem)
            key = channel[1] if channel and channel[1] in labels and stem not in labels else stem
            images.setdefault(key, []).append(path)
    orphans = sorted(set(labels) - set(images))
    if orphans:
        raise DatasetError(f"Case {orphans[0]}: there is a label map but no image of that name in {root}.")
    cases = [Case(key, tuple(paths), labels.get(key)) for key, paths in images.items()]
    cases += [Case(case_id(p), (p,)) for folder in UNLABELLED_FOLDERS for p in _images_in(root / folder)]
    return cases or [Case(case_id(p), (p,)) for p in _images_in(root) if p.is_file()]


def _images_in(folder: Path) -> list[Path]:
    """Image files, and sub-folders (DICOM series), by name."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (path.is_dir() or path.name.lower().endswith(_SUFFIXES))
    ]


def _check_cases(cases: Sequence[Case], root: Path) -> None:
    if not cases:
        raise DatasetError(
            f"No case was found in {root}.",
            'Put images in images/ and label maps of the same names in labels/, or list "cases" in dataset.json.',
        )
    repeated = [name for name, n in Counter(case.id for case in cases).items() if n > 1]
    if repeated:
        raise DatasetError(
            f"Case {repeated[0]} occurs more than once in the dataset.", "Give each case an id of its own."
        )
    for case in cases:
        for path in (*case.image, *([case.label] if case.label else [])):
            if not path.exists():
                raise DatasetError(f"Case {case.id}: {path} does not exist.", "Paths are relative to dataset.json.")


def _splits(splits: Any, cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
    if not isinstance(splits, Mapping):
        raise DatasetError('"splits" of the dataset is not an object.', 'Write {"validation": ["case1", ...]}.')
    result = {}
    for name, entries in splits.items():
        for entry in entries:
            if not _matching(str(entry), cases):
                raise DatasetError(f"Split {name!r} names {entry!r}, which is not a case of the dataset.")
        result[str(name)] = tuple(str(entry) for entry in entries)
    return result


def _matching(entry: str, cases: Iterable[Case]) -> list[Case]:
    """The case of this id, else the cases of this group, else ids that go on after a separator (patient -> scans)."""
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
