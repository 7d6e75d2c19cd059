"""What a user says about a case that is to be stored, and what is found when that is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bundle.plain_text import name_problem
from ..errors import ConfigurationError, MAESegmentError
from ..images.labels import Label, loose_name, other_names
from ..images.volume import LabelMap, Volume
from ..images.volumetry import value_counts
from ..text import is_unicode, listed, visible
from ..values import Stored
from .checks import perhaps_a_scan
from .records import ROLES, TRAIN, CaseRecord
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
        if self.role and self.role not in ROLES:
            raise ConfigurationError(f"A case has no role {self.role!r}.", f"Choose one of: {', '.join(ROLES)}.")
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

    `details` are for an offer to the user, e.g. {"case": "case-0001"} for the kind "duplicate".
    """

    kind: str
    severity: str
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def check_submission(
    submission: CaseSubmission,
    volume: Volume,
    label_map: LabelMap,
    *,
    stored: Sequence[CaseRecord] = (),
    model_labels: Sequence[str] = (),
    model_channels: int | None = None,
    image_hash: str = "",
) -> list[CaseIssue]:
    """What is wrong (severity "error") or worth a second look ("warning") before a case is stored.

    `stored` are the cases that are there; `image_hash` (`images.hashing`) says whether this is one of them.
    """
    findings = _check_grids(volume, label_map)
    if findings:
        return findings
    findings += _check_channels(
        volume, model_channels, [record for record in stored if record.id != submission.replace]
    )
    twins = [record.id for record in stored if image_hash == record.image_hash and record.id != submission.replace]
    if twins:
        findings.append(
            CaseIssue(
                "duplicate",
                ERROR,
                f"This scan is stored already, as {twins[0]}.",
                "Update the stored case, or leave it as it is.",
                {"case": twins[0]},
            )
        )
    try:
        part = inside(submission.region, volume.grid) if submission.region else None
    except MAESegmentError as error:
        return [*findings, CaseIssue("region", ERROR, error.message, error.hint)]
    counts = value_counts(label_map.array)
    findings += _check_names(submission, counts)
    findings += _check_labels(submission, label_map, counts, part, stored)
    findings += _check_unknown(submission, [*model_labels, *(name for record in stored for name in record.labels)])
    return findings + _check_group(submission, stored)


def _check_grids(volume: Volume, label_map: LabelMap) -> list[CaseIssue]:
    try:
        volume.grid.check()
    except MAESegmentError as error:
        return [CaseIssue("geometry", ERROR, error.message, error.hint)]
    difference = label_map.grid.difference(volume.grid)
    if not difference:
        return []
    message = f"The segmentation does not lie on the scan's voxel grid: {difference}."
    hint = "Set the scan as the segmentation's source geometry (Segmentations module), then try again."
    return [CaseIssue("geometry", ERROR, message, hint)]


def _check_channels(volume: Volume, wanted: int | None, others: Sequence[CaseRecord]) -> list[CaseIssue]:
    channels = len(volume.array)
    if wanted is not None and channels != wanted:
        message = f"The scan has {channels} channels, the model takes {wanted}."
        return [CaseIssue("channels", ERROR, message, "Give one volume for each channel of the model, in its order.")]
    if others and channels not in {record.channels for record in others}:
        message = f"The scan has {channels} channels, the cases stored before have {others[0].channels}."
        return [CaseIssue("channels", ERROR, message, "Add the same channels in the same order for every case.")]
    return []


def _check_names(submission: CaseSubmission, counts: np.ndarray) -> list[CaseIssue]:
    findings = []
    findings += _check_merged(submission, counts)
    for label in submission.labels:
        if problem := name_problem(" ".join(label.name.split())):
            message = f"The label name {label.name[:80]!r} {problem}."
            findings.append(CaseIssue("name", ERROR, message, "Give the segment another name."))
    reserved = [label.name for label in submission.labels if label.name.casefold() in RESERVED_NAMES]
    if reserved:
        message = f"A label cannot be called {reserved[0]!r}."
        findings.append(CaseIssue("name", ERROR, message, "Give the segment another name."))
    unnamed = sorted(set(np.flatnonzero(counts).tolist()) - {0, *(label.value for label in submission.labels)})
    if unnamed:
        message = f"The label map has values without a name: {listed(unnamed)}.{perhaps_a_scan(len(unnamed))}"
        findings.append(CaseIssue("values", ERROR, message, "Name each value, or clear it."))
    return findings


def _check_merged(submission: CaseSubmission, counts: np.ndarray) -> list[CaseIssue]:
    """Values of one name are one label; names that are one by case or spaces alone were perhaps meant to be two."""
    names: dict[str, list[str]] = {}
    for label in submission.labels:
        if label.value < len(counts) and counts[label.value]:
            names.setdefault(loose_name(label.name), []).append(label.name)
    findings = []
    for alike in names.values():
        if len(set(alike)) > 1:
            message = f"{' and '.join(map(repr, dict.fromkeys(alike)))} differ only in case or spaces."
            hint = "Give one of the two another name, or say that both are the same label."
            findings.append(CaseIssue("name", ERROR, message, hint))
        elif len(alike) > 1:
            message = f"{len(alike)} segments are stored as one label, {alike[0]!r}."
            hint = "If they are different structures, give each a label of its own."
            findings.append(CaseIssue("merged", WARNING, message, hint, {"label": alike[0]}))
    return findings


def _check_labels(
    submission: CaseSubmission, label_map: LabelMap, counts: np.ndarray, part: Part | None, stored: Sequence[CaseRecord]
) -> list[CaseIssue]:
    voxel_ml = abs(float(np.linalg.det(label_map.ijk_to_ras[:3, :3]))) / 1000
    whole = _by_name(counts * voxel_ml, submission)
    sizes, touching = whole, set()
    if part is not None:
        sizes = _by_name(value_counts(part.values(label_map.array)) * voxel_ml, submission)
        at_border = value_counts(label_map.array[part.block][part.border])
        touching = {name for name, size in _by_name(at_border, submission).items() if size}
    findings = [_nothing(part is not None)] if not any(sizes.values()) else []
    empty = other_names((name for name, size in sizes.items() if not size), submission.absent)
    for name, size in sizes.items():
        if name in empty:
            findings.append(_empty(name, is_outside=whole[name] > 0))
        elif size < whole[name] or name in touching:
            findings.append(_cut(name, is_cut=size < whole[name]))
        elif size:
            findings += _check_size(name, size, [record for record in stored if record.id != submission.replace])
    return findings


def _by_name(by_value: np.ndarray, submission: CaseSubmission) -> dict[str, float]:
    """Two values of one name are one label."""
    total: dict[str, float] = {}
    for label in submission.labels:
        size = float(by_value[label.value]) if label.value < len(by_value) else 0.0
        total[label.name] = total.get(label.name, 0.0) + size
    return total


def _nothing(has_region: bool) -> CaseIssue:
    where = " inside the region" if has_region else ""
    message = f"Nothing is annotated in this case: no label has a voxel{where}."
    return CaseIssue("nothing", ERROR, message, "Segment at least one structure, then add the case.")


def _empty(name: str, *, is_outside: bool) -> CaseIssue:
    message = f"{name!r} lies outside the region." if is_outside else f"{name!r} has no voxels."
    hint = (
        "It counts as not annotated: nothing is learnt about it from this case. "
        "If the scan really does not show it, say that it is absent."
    )
    return CaseIssue("empty", WARNING, message, hint, {"label": name})


def _cut(name: str, *, is_cut: bool) -> CaseIssue:
    if is_cut:
        message, hint = f"Part of {name!r} lies outside the region.", "That part is not stored. Make the region larger."
    else:
        message = f"{name!r} touches the border of the region."
        hint = "If it continues beyond, segment that as well and make the region larger."
    return CaseIssue("border", WARNING, message, hint, {"label": name})


def _check_size(name: str, size: float, others: Sequence[CaseRecord]) -> list[CaseIssue]:
    known = [record.volumes_ml[name] for record in others if record.volumes_ml.get(name) and not record.partial]
    if not known:
        return []
    usual = float(np.median(known))
    if usual / _IMPLAUSIBLE <= size <= usual * _IMPLAUSIBLE:
        return []
    message = f"{name!r} has {size:.3g} ml here, but {usual:.3g} ml in the other cases."
    return [CaseIssue("volume", WARNING, message, "Check that the right structure has this name.", {"label": name})]


def _check_unknown(submission: CaseSubmission, known: Sequence[str]) -> list[CaseIssue]:
    missing = list(other_names((*known, *submission.unknown), [label.name for label in submission.labels]))
    if not missing:
        return []
    hint = "Nothing is learnt about these from this case. Segment them as well if you can."
    message = f"Not annotated in this case: {', '.join(missing)}."
    return [CaseIssue("unknown", WARNING, message, hint, {"labels": missing})]


def _check_group(submission: CaseSubmission, stored: Sequence[CaseRecord]) -> list[CaseIssue]:
    role = submission.role or TRAIN
    others = [
        record.id for record in stored if submission.group and record.group == submission.group and record.role != role
    ]
    if not others:
        return []
    message = f"Scans of this patient ({submission.group}) have different roles: {', '.join(others)} has another one."
    return [
        CaseIssue("group", WARNING, message, "Give all scans of a patient one role, or the check is not independent.")
    ]
