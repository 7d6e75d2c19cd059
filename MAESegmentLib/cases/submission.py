"""What a user says about a case that is to be stored, and what is found when that is checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bundle.plain_text import name_problem
from ..errors import ConfigurationError, DatasetError, GeometryError
from ..images.labels import Label, loose_name, other_names
from ..images.volume import LabelMap, Volume
from ..images.volumetry import value_counts, voxel_ml
from ..text import is_unicode, listed, visible
from ..values import Stored
from .checks import perhaps_a_scan
from .records import TRAIN, CaseRecord, stored_role
from .region import Part, inside

#: Names that mean something else in a label map.
RESERVED_NAMES = ("background", "ignore")

ERROR = "error"
WARNING = "warning"
#: So many times larger or smaller than in the other cases, a structure is probably another one.
_IMPLAUSIBLE = 10.0


@dataclass(frozen=True)
class CaseSubmission(Stored):
    """The labels of one label map, and what else is to be known of the case.

    `labels` are named by their values in *this* label map; two values of one name are one label. A label without
    voxels counts as not annotated, unless `absent` says that it was looked for. `unknown` are labels that the model or
    the store has and nobody looked for here.

    An empty `role` or `group`, and a `region` of None, mean what the case had if this updates one (`replace`);
    otherwise "train", a group of its own, and the whole scan. `region` is (R0, R1, A0, A1, S0, S1) in RAS mm: what is
    outside was not annotated. An empty `region` is the whole scan in any case.
    """

    labels: tuple[Label, ...]
    unknown: tuple[str, ...] = ()
    role: str = ""
    group: str = ""
    model: Mapping[str, str] | None = None
    region: tuple[float, ...] | None = None
    replace: str = ""
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.role:
            object.__setattr__(self, "role", stored_role(self.role))
        for text in (self.group, *self.absent, *self.unknown, *(label.name for label in self.labels)):
            if not is_unicode(text):
                raise ConfigurationError(
                    f"{visible(text)!r} cannot be stored: it is not Unicode text.", "Give another name."
                )
        if self.region and len(self.region) != 6:
            raise ConfigurationError(
                f"A region has six bounds, not {len(self.region)}.", "Give R0, R1, A0, A1, S0, S1 in mm."
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CaseSubmission:
        """`ConfigurationError` if it is not one."""
        try:
            return super().from_dict(data)
        except ValueError as error:
            raise ConfigurationError(f"The case is not described completely: {error}.") from None


@dataclass(frozen=True)
class CaseIssue:
    """`kind` is a word for programs, `severity` "error" (it cannot be stored) or "warning"; the rest is for the user.

    `details` are for an offer to the user, e.g. {"label": "liver"} for the kind "empty".
    """

    kind: str
    severity: str
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def check_submission(
    submission: CaseSubmission, volume: Volume, label_map: LabelMap, stored: Sequence[CaseRecord] = ()
) -> list[CaseIssue]:
    """What is wrong (severity "error") or worth a second look ("warning") before a case is stored beside `stored`.

    `GeometryError` if the two do not lie on one usable grid, `ConfigurationError` for an empty region.
    """
    volume.grid.check()
    if difference := label_map.grid.difference(volume.grid):
        raise GeometryError(
            f"The segmentation does not lie on the scan's voxel grid: {difference}.",
            "Set the scan as the segmentation's source geometry (Segmentations module), then try again.",
        )
    part = inside(submission.region, volume.grid) if submission.region else None
    others = [record for record in stored if record.id != submission.replace]
    counts = value_counts(label_map.array)
    return [
        *channel_issues(len(volume.array), others),
        *_merged(submission, counts),
        *_name_issues(submission, counts),
        *_label_issues(submission, label_map, counts, part, others),
        *_unknown(submission, [name for record in stored for name in record.labels]),
        *_group_issues(submission, others),
    ]


def warnings_among(issues: Iterable[CaseIssue]) -> list[CaseIssue]:
    """`DatasetError` with all errors among the issues, if there are any."""
    issues = list(issues)
    errors = [issue for issue in issues if issue.severity == ERROR]
    if errors:
        raise DatasetError("\n".join(issue.message for issue in errors), errors[0].hint)
    return issues


def channel_issues(channels: int, others: Sequence[CaseRecord]) -> Iterator[CaseIssue]:
    if others and channels not in {record.channels for record in others}:
        message = f"The scan has {channels} channels, the cases stored before have {others[0].channels}."
        yield CaseIssue("channels", ERROR, message, "Add the same channels in the same order for every case.")


def _name_issues(submission: CaseSubmission, counts: np.ndarray) -> Iterator[CaseIssue]:
    rename = "Give the segment another name."
    for label in submission.labels:
        if problem := name_problem(" ".join(label.name.split())):
            yield CaseIssue("name", ERROR, f"The label name {label.name[:80]!r} {problem}.", rename)
        if label.name.casefold() in RESERVED_NAMES:
            yield CaseIssue("name", ERROR, f"A label cannot be called {label.name!r}.", rename)
    unnamed = sorted(set(np.flatnonzero(counts).tolist()) - {0, *(label.value for label in submission.labels)})
    if unnamed:
        message = f"The label map has values without a name: {listed(unnamed)}.{perhaps_a_scan(len(unnamed))}"
        yield CaseIssue("values", ERROR, message, "Name each value, or clear it.")


def _merged(submission: CaseSubmission, counts: np.ndarray) -> Iterator[CaseIssue]:
    """Values of one name are one label; names that are one by case or spaces alone were perhaps meant to be two."""
    names: dict[str, list[str]] = {}
    for label in submission.labels:
        if label.value < len(counts) and counts[label.value]:
            names.setdefault(loose_name(label.name), []).append(label.name)
    for alike in names.values():
        if len(set(alike)) > 1:
            message = f"{' and '.join(map(repr, dict.fromkeys(alike)))} differ only in case or spaces."
            hint = "Give one of the two another name, or say that both are the same label."
            yield CaseIssue("name", ERROR, message, hint)
        elif len(alike) > 1:
            message = f"{len(alike)} segments are stored as one label, {alike[0]!r}."
            hint = "If they are different structures, give each a label of its own."
            yield CaseIssue("merged", WARNING, message, hint, {"label": alike[0]})


def _label_issues(
    submission: CaseSubmission, label_map: LabelMap, counts: np.ndarray, part: Part | None, others: Sequence[CaseRecord]
) -> Iterator[CaseIssue]:
    ml = voxel_ml(label_map)
    whole = _by_name(counts * ml, submission)
    sizes, at_border = whole, dict.fromkeys(whole, 0.0)
    if part is not None:
        sizes = _by_name(value_counts(part.values(label_map.array)) * ml, submission)
        at_border = _by_name(value_counts(label_map.array[part.block][part.border]), submission)
    if not any(sizes.values()):
        message = "Nothing is annotated in this case: no label has a voxel" + (" inside the region." if part else ".")
        yield CaseIssue("nothing", ERROR, message, "Segment at least one structure, then add the case.")
    empty = other_names((name for name, size in sizes.items() if not size), submission.absent)
    for name, size in sizes.items():
        kind, hint = "border", ""
        if name in empty:
            kind, message = "empty", f"{name!r} lies outside the region." if whole[name] else f"{name!r} has no voxels."
            hint = (
                "It counts as not annotated: nothing is learnt about it from this case. "
                "If the scan really does not show it, say that it is absent."
            )
        elif size < whole[name]:
            message = f"Part of {name!r} lies outside the region."
            hint = "That part is not stored. Make the region larger."
        elif at_border[name]:
            message = f"{name!r} touches the border of the region."
            hint = "If it continues beyond, segment that as well and make the region larger."
        elif size and (usual := _usual_size(name, others)) and not 1 / _IMPLAUSIBLE <= size / usual <= _IMPLAUSIBLE:
            kind, message = "volume", f"{name!r} has {size:.3g} ml here, but {usual:.3g} ml in the other cases."
            hint = "Check that the right structure has this name."
        if hint:
            yield CaseIssue(kind, WARNING, message, hint, {"label": name})


def _by_name(by_value: np.ndarray, submission: CaseSubmission) -> dict[str, float]:
    """Two values of one name are one label."""
    total: dict[str, float] = {}
    for label in submission.labels:
        size = float(by_value[label.value]) if label.value < len(by_value) else 0.0
        total[label.name] = total.get(label.name, 0.0) + size
    return total


def _usual_size(name: str, others: Sequence[CaseRecord]) -> float:
    """Median over the cases where all of it was annotated, in ml; 0 if there is none."""
    known = [record.volumes_ml[name] for record in others if record.volumes_ml.get(name) and not record.partial]
    return float(np.median(known)) if known else 0.0


def _unknown(submission: CaseSubmission, known: Sequence[str]) -> Iterator[CaseIssue]:
    missing = list(other_names((*known, *submission.unknown), [label.name for label in submission.labels]))
    if missing:
        hint = "Nothing is learnt about these from this case. Segment them as well if you can."
        message = f"Not annotated in this case: {', '.join(missing)}."
        yield CaseIssue("unknown", WARNING, message, hint, {"labels": missing})


def _group_issues(submission: CaseSubmission, others: Sequence[CaseRecord]) -> Iterator[CaseIssue]:
    role = submission.role or TRAIN
    same = [record for record in others if submission.group and record.group == submission.group]
    if different := [record.id for record in same if record.role != role]:
        message = (
            f"Scans of this patient ({submission.group}) have different roles: {', '.join(different)} has another one."
        )
        hint = "Give all scans of a patient one role, or the check is not independent."
        yield CaseIssue("group", WARNING, message, hint)
