"""Whether a scan without labels shows a patient who is held out: by its name, by DICOM headers, by its image.

What is learnt from another scan of such a patient would spoil the validation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool3d

from ...cases.case import Case
from ...images.scans import without_ending
from ...images.volume import Volume
from .holdout import Holdout
from .preparing import Prepared, identity_of

if TYPE_CHECKING:
    from ...images.formats.dicom.headers import Identity

#: Images are compared by so many voxels along each axis.
_VOXELS = 24
#: How far two images of one scan correlate at least, also resampled ones: 0.96 or more where voxels are twice as large,
#: other patients 0.94 at most (hippocampus, head and neck, heart, atrium), in whole brains 0.97. So no less than half
#: way from the most that the cases reach among themselves to 1; of a single patient that is taken to be 0.97.
_CORRELATED, _ALONE = 0.95, 0.97
_COPIES = (1 + _ALONE) / 2
#: Copies have the same size, or nearly so where voxels are of another size.
_SIZE, _SIZE_VOXELS = 0.06, 3
#: What DICOM says only of one patient, unless somebody who removed names wrote the same everywhere.
_HEADERS = ("patient_id", "study_uid", "frame_of_reference")
_NOBODY = frozenset({"", "0", "anon", "anonymous", "anonymised", "anonymized", "none", "unknown"})
#: Folders above a scan: patient, study, series.
_FOLDERS = 3


@dataclass(frozen=True)
class _Known:
    """A case. `name` is what it is called in a sentence."""

    name: str
    group: str
    identity: Identity | None
    shape: np.ndarray
    thumbnail: np.ndarray


class Patients:
    """Of the cases that a run reads, and of those that what comes of it will be measured on."""

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self._groups: dict[str, str] = {}
        self._files: dict[Path, str] = {}
        #: Cases that are held out and that no scan is compared with, but by name.
        self.unread = 0

    def hold_out(self, cases: Iterable[Case], called: str = "case") -> None:
        """These are, whether or not they are read."""
        for case in cases:
            self._groups.setdefault(case.group.casefold(), f"{called} {case.id}")
            self._files.update((path.resolve(), f"{called} {case.id}") for path in case.image)

    def add(self, case: Case, image: np.ndarray, identity: Identity | None) -> None:
        """With its `image` as the network sees it."""
        known = _Known(f"case {case.id}", case.group, identity, np.array(image.shape), _thumbnail(image))
        self._known.append(known)

    @classmethod
    def of(cls, holdout: Holdout, prepared: Prepared) -> Patients:
        """Of the cases that a run reads."""
        patients, cases = cls(), {case.id: case for case in holdout.cases}
        patients.hold_out(case for part in (holdout, *holdout.folds) for case in part.held_out)
        for ready in prepared.cases:
            patients.add(cases[ready.id], ready.image, prepared.identities.get(ready.id))
        return patients

    def by_name(self, scan: Case) -> str:
        """Why it may not be learnt from, in a sentence; "" if nothing speaks against it. So do the others."""
        path = scan.image[0]
        if case := self._files.get(path.resolve()):
            return f"it is the image of {case}."
        name = _plain(without_ending(path.name))
        folders = {_plain(folder.name) for folder in path.parents[:_FOLDERS] if folder.name}
        for group, case in self._groups.items():
            plain = _plain(group)
            if plain in folders or f"{name}_".startswith(f"{plain}_"):
                return f"by its name it is of the patient of {case}, who is held out."
        return ""

    def by_headers(self, volume: Volume) -> str:
        for one in self._known:
            if self._is_held_out(one) and self._same_headers(identity_of(volume), one.identity):
                return f"its DICOM headers are of the patient of {one.name}, who is held out."
        return ""

    def by_image(self, image: np.ndarray) -> str:
        thumbnail, shape = _thumbnail(image), np.array(image.shape)
        for one in self._known:
            if _same_size(shape, one.shape) and float(thumbnail @ one.thumbnail) > self._limit:
                return f"it is the image of {one.name}, or nearly so."
        return ""

    def can_check(self, volume: Volume) -> bool:
        """Whether headers say if it is of a patient who is held out."""
        whose = [identity_of(volume), *(one.identity for one in self._known if self._is_held_out(one))]
        return not self._groups or (not self.unread and all(self._says(one, _HEADERS[0]) for one in whose))

    def across(self) -> list[str]:
        """Notes on cases that are held out from others of the same patient, as far as that shows."""
        notes = []
        for one, other in combinations(self._known, 2):
            if one.group == other.group or not (self._is_held_out(one) or self._is_held_out(other)):
                continue
            why = (
                "are of one patient by their DICOM headers" if self._same_headers(one.identity, other.identity) else ""
            )
            if not why and _same_size(one.shape, other.shape) and float(one.thumbnail @ other.thumbnail) >= _COPIES:
                why = "look the same"
            if why:
                notes.append(
                    f"C{one.name[1:]} and {other.name} {why}, and one is held out from the other, which flatters the "
                    'validation: give them one "group", or leave one out.'
                )
        return notes

    def _is_held_out(self, one: _Known) -> bool:
        return one.group.casefold() in self._groups

    def _same_headers(self, one: Identity | None, other: Identity | None) -> bool:
        return any(self._says(one, field) and self._says(one, field) == self._says(other, field) for field in _HEADERS)

    def _says(self, identity: Identity | None, field: str) -> str:
        """ "" where that tells nobody apart."""
        said = "" if identity is None else str(getattr(identity, field))
        return "" if said.casefold() in _NOBODY or said in self._everywhere else said

    @cached_property
    def _everywhere(self) -> set[str]:
        """What headers of most of several patients say."""
        groups: dict[str, set[str]] = {}
        for one in self._known:
            for field in _HEADERS if one.identity is not None else ():
                groups.setdefault(str(getattr(one.identity, field)), set()).add(one.group)
        count = len({one.group for one in self._known})
        return {said for said, by in groups.items() if len(by) > 1 and 2 * len(by) > count}

    @cached_property
    def _limit(self) -> float:
        pairs = [
            float(one.thumbnail @ other.thumbnail)
            for one, other in combinations(self._known, 2)
            if one.group != other.group
        ]
        # Cases that are one scan stored twice say nothing of patients.
        most = max((value for value in pairs if value < _COPIES), default=_ALONE)
        return max(_CORRELATED, (1 + most) / 2)


def _plain(name: str) -> str:
    """However it is spelt: "Sub 01" as "sub-01", and letters with their accents apart as those with them."""
    return re.sub(r"[-_. ]+", "_", unicodedata.normalize("NFC", name).casefold())


def _same_size(one: np.ndarray, other: np.ndarray) -> bool:
    return len(one) == len(other) and bool(
        np.all(np.abs(one - other) <= np.maximum(_SIZE_VOXELS, _SIZE * np.maximum(one, other))) and one[0] == other[0]
    )


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Of (C, D, H, W): a vector whose product with another is their correlation."""
    small = adaptive_avg_pool3d(torch.as_tensor(np.asarray(image, np.float32))[None], _VOXELS)[0].numpy().ravel()
    small = small - small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9))
