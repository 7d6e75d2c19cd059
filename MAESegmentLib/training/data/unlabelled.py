"""Scans without labels: found, checked and prepared as cases are; each that cannot be used is named and left out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle import Bundle
from ...bundle.scan_statistics import fit_space
from ...bundle.suitability import LIMIT, ScanFacts, mismatch, unlike_cases
from ...cases.case import Case
from ...cases.checks import VALUES_OF_A_SCAN, read_image
from ...cases.dataset import CaseDataset
from ...cases.records import VALIDATION
from ...errors import DatasetError, MAESegmentError
from ...images.hashing import FIRST, voxel_hash
from ...images.scans import find_scans
from ...images.volume import Volume
from ...preprocessing.grey_values import GreyValues, describe_grey_values
from ...preprocessing.plan import Preprocessing
from ...text import listed
from ..run_context import Progress, RunContext
from .holdout import Holdout
from .prepared import CaseCache, PreparedCase, as_array
from .preparing import MAX_NAMED, Prepared, identity_of
from .recognising import Patients

_SUBFOLDER = "unlabelled"
#: What a run by time decides: how many of them it looks at, and how many validation cases that it does not read itself.
SCANS, RESERVED = "scans", "reserved"
#: Of the time of a run by time, what preparing scans may take: they are of no use without steps that learn from them.
PREPARING_SHARE = 0.2


@dataclass(frozen=True)
class Unlabelled:
    """The scans that are learnt from, in the order of the `hashes` of their voxels, and why others are `left_out`."""

    cases: Sequence[PreparedCase]
    hashes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    #: Of how many no header says that they are of nobody who is held out.
    unchecked: int = 0

    @property
    def identity(self) -> str:
        """Equal for the same scans, in whatever order and by whatever names they were given."""
        return hashlib.sha256("".join(self.hashes).encode()).hexdigest()[:16]

    def provenance(self, method: str) -> dict[str, Any]:
        """For the bundle: no names."""
        return {"method": method, "images": list(self.hashes), "left_out": len(self.left_out)}

    def describe(self) -> str:
        """How many there are, without their names: it goes into the bundle."""
        count = len(self.hashes)
        text = f"{count} scan{'' if count == 1 else 's'} without labels to learn from"
        text = f"{text}; {len(self.left_out)} could not be used." if self.left_out else f"{text}."
        if not self.unchecked:
            return text
        which = "it" if count == 1 else "any of them" if self.unchecked == count else f"any of {self.unchecked} of them"
        return (
            f"{text} Whether {which} shows a patient who is held out, which would flatter the validation, was checked "
            "by file names and likeness alone: no DICOM headers say whose they are."
        )

    def warnings(self) -> list[str]:
        """Which were left out, and why; for the log."""
        rest = len(self.left_out) - MAX_NAMED
        more = [f"{rest} more scans without labels are left out."] if rest > 0 else []
        return [f"Left out: {why}" for why in self.left_out[:MAX_NAMED]] + more


def scans_without_labels(places: Sequence[Path]) -> list[Case]:
    """Files, and what is found in folders, each as a case of its own name. Raises if a place is not there, or empty."""
    paths = find_scans(places)
    if places and not paths:
        raise DatasetError(
            f"There is no scan without labels in {listed([str(place) for place in places])}.",
            "Give folders with NIfTI, NRRD, MetaImage, MGZ or DICOM files, or leave the option out.",
        )
    seen: dict[str, int] = {}
    cases = []
    for path in paths:
        count = seen[path.name] = seen.get(path.name, 0) + 1
        cases.append(Case(path.name if count == 1 else f"{path.name} ({count})", (path,)))
    return cases


def prepare_unlabelled(
    scans: Sequence[Case],
    prepared: Prepared,
    holdout: Holdout,
    dataset: CaseDataset,
    base: Bundle,
    preprocessing: Preprocessing,
    context: RunContext,
) -> Unlabelled:
    """`scans` as the network sees them, without those that cannot be read, are nothing like the `prepared` cases, or
    are one of these, or of a patient who is held out, in the validation split of `dataset` too, as far as that shows.

    What the cases left of the memory is theirs; `DatasetError` if none can be used. By time, or once `context` asks to
    stop, those of many that are not reached in a share of the time are left out, in an order that is not theirs.
    """
    preparing = _Preparing(context)
    patients = _patients(prepared, holdout, dataset, preprocessing, preparing)
    known = {hashes["image"]: f"case {name}" for name, hashes in prepared.hashes.items()}
    channels = len(prepared.cases[0].image)
    fits = _Fit(base, preprocessing, [case.grey for case in prepared.cases if case.grey is not None])
    left = max(0.0, prepared.cases.budget - prepared.cases.in_memory)
    cache = CaseCache(left / 1e9, prepared.cases.folder / _SUBFOLDER)
    hashes: list[str] = []
    left_out: list[str] = []
    unchecked = 0
    for number, scan in enumerate(preparing.in_order(scans)):
        context.check_cancelled()
        if preparing.is_over(SCANS, number, may_end=bool(hashes)):
            left_out.append(f"{scan.id}: there was no time to read it.")
            continue
        context.report(Progress("prepare", number / len(scans), preparing.left_s, message=scan.id))
        try:
            reason = patients.by_name(scan)
            if not reason:
                volume = read_image(scan, channels)
                hashed = voxel_hash(volume.array, FIRST)
                same = f"it is the image of {known[hashed]}." if hashed in known else ""
                reason = same or patients.by_headers(volume) or fits.problem(volume)
            if not reason:
                ready = _prepared(scan.id, volume, preprocessing)
                reason = patients.by_image(ready.image)
            if reason:
                left_out.append(f"{scan.id}: {reason}")
                continue
            cache.add(ready)
        except MAESegmentError as error:
            left_out.append(f"{scan.id}: {error.message.removeprefix(f'Case {scan.id}: ')}")
            continue
        known[hashed] = scan.id
        hashes.append(hashed)
        unchecked += not patients.can_check(volume)
    preparing.end(SCANS, len(scans))
    if not hashes:
        raise DatasetError(
            "None of the scans without labels can be used:\n" + "\n".join(left_out[:MAX_NAMED]),
            "Give other scans, or fine-tune without them.",
        )
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    return Unlabelled([cache[n] for n in order], tuple(hashes[n] for n in order), tuple(left_out), unchecked)


class _Preparing:
    """When no more is prepared; a run by time that resumes takes as many as it began with."""

    def __init__(self, context: RunContext) -> None:
        self.context, self._budget = context, None if context.pace is None else context.pace.budget
        if self._budget is not None:
            self._end_s = self._budget.spent_s + PREPARING_SHARE * self._budget.end_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the end of the run; None where steps decide."""
        return None if self._budget is None else self._budget.left_while_preparing_s(0.0, 1.0)

    def in_order(self, scans: Sequence[Case]) -> list[Case]:
        """By time any may be left out, not those of the last scanner in the alphabet."""
        order = range(len(scans)) if self._budget is None else np.random.default_rng(0).permutation(len(scans))
        return [scans[n] for n in order]

    def is_over(self, what: str, number: int, *, may_end: bool = True) -> bool:
        """Whether before the one of this `number`; not yet unless it `may_end`."""
        if self._budget is None:
            return False
        most = self._budget.decided(what)
        if most is None and may_end and (self._budget.spent_s > self._end_s or self.context.all_reduce_stop()):
            most = self._budget.decide(what, number)
        return most is not None and number >= most

    def end(self, what: str, count: int) -> None:
        """So many were looked at, unless fewer were."""
        if self._budget is not None:
            self._budget.decide(what, count)


def _patients(
    prepared: Prepared, holdout: Holdout, dataset: CaseDataset, preprocessing: Preprocessing, preparing: _Preparing
) -> Patients:
    """Of the prepared cases, and of those that what comes of the run will be measured on all the same."""
    split = dataset.split_called(VALIDATION)
    reserved = dataset.select(split) if split is not None and dataset.splits[split] else ()
    patients = Patients.of(holdout, prepared)
    patients.hold_out(reserved, f"{VALIDATION} case")
    read = {case.id for case in holdout.cases}
    more = [case for case in reserved if case.id not in read]
    channels = len(prepared.cases[0].image)
    for number, case in enumerate(more):
        preparing.context.check_cancelled()
        if preparing.is_over(RESERVED, number):
            patients.unread += 1
            continue
        preparing.context.report(Progress("prepare", 0.0, preparing.left_s, message=case.id))
        try:
            volume = read_image(case, channels)
            patients.add(case, _prepared(case.id, volume, preprocessing).image, identity_of(volume))
        except MAESegmentError:
            patients.unread += 1  # nor can anything be measured on it
    preparing.end(RESERVED, len(more))
    return patients


def _prepared(name: str, volume: Volume, preprocessing: Preprocessing) -> PreparedCase:
    ready = preprocessing.prepare(volume)
    d, h, w = (float(s) for s in ready.grid.spacing)
    return PreparedCase(name, as_array(ready.image), (d, h, w))


class _Fit:
    """Whether a scan is of the kind that is learnt: the base's, or where the cases are not, theirs."""

    def __init__(self, base: Bundle, preprocessing: Preprocessing, cases: Sequence[GreyValues]) -> None:
        self._base = base
        self._recipe = preprocessing.intensity
        self._space = None
        if cases and unlike_cases(base, cases):
            self._space = fit_space(np.array([one.description for one in cases]), len(cases))

    def problem(self, volume: Volume) -> str:
        """Why it is not, in a sentence; "" if it is."""
        values = len(np.unique(volume.array[:, ::2, ::2, ::2]))
        if values <= VALUES_OF_A_SCAN:
            return f"It has {values} different values only, as a label map has."
        if self._space is None:
            return mismatch(self._base, ScanFacts.of(volume))
        grey = describe_grey_values(volume.array, self._recipe)
        if self._space.excess(grey.description) / grey.tolerance <= LIMIT:
            return ""
        return "Its grey values are nothing like those of the cases."
