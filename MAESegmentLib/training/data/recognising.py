"""Whether a scan without labels shows a patient who is held out: by its name, by DICOM headers, by its image.

What is learnt from another scan of such a patient would spoil the validation.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from ...images.formats.dicom.headers import Identity

#: Images are compared by so many voxels along each axis.
_VOXELS = 24
#: How far two images of one scan correlate at least, also resampled ones: 0.96 or more where voxels are twice as large,
#: other patients 0.94 at most (hippocampus, head and neck, heart, atrium), in whole brains 0.97. So no less than half
#: way from the most that the cases reach among themselves to 1; of a single patient that is taken to be 0.97.
_CORRELATED, _ALONE = 0.95, 0.97
#: Copies have the same size, or nearly so where voxels are of another size.
_SIZE, _SIZE_VOXELS = 0.06, 3
#: What DICOM says only of one patient, unless somebody who removed names wrote the same everywhere.
_HEADERS = ("patient_id", "study_uid", "frame_of_reference")
_SEPARATORS = tuple("_-. ")


@dataclass(frozen=True)
class _Known:
    """A case. `name` is what it is called in a sentence."""

    name: str
    group: str
    is_held_out: bool
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
        is_held_out = case.group.casefold() in self._groups
        self._known.append(
            _Known(f"case {case.id}", case.group, is_held_out, identity, np.array(image.shape), _thumbnail(image))
        )

    def by_name(self, scan: Case) -> str:
        """Why it may not be learnt from, in a sentence; "" if nothing speaks against it. So do the others."""
        path = scan.image[0]
        if case := self._files.get(path.resolve()):
            return f"it is the image of {case}."
        name = without_ending(path.name).casefold()
        for group, case in self._groups.items():
            same = group in (name, path.parent.name.casefold())
            if same or (name.startswith(group) and name[len(group) :].startswith(_SEPARATORS)):
                return f"by its name it is of the patient of {case}, who is held out."
        return ""

    def by_headers(self, volume: Volume) -> str:
        found = identity_of(volume)
        for field in _HEADERS if found is not None else ():
            value = getattr(found, field)
            groups = {one.group for one in self._known if value and _says(one, field) == value}
            # Of most of several patients, it tells nothing.
            if len(groups) > 1 and 2 * len(groups) > len({one.group for one in self._known}):
                continue
            for one in self._known:
                if one.is_held_out and one.group in groups:
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
        held_out = [one for one in self._known if one.is_held_out]
        says = bool(getattr(identity_of(volume), _HEADERS[0], ""))
        return not self._groups or (says and not self.unread and all(_says(one, _HEADERS[0]) for one in held_out))

    @cached_property
    def _limit(self) -> float:
        pairs = [
            float(one.thumbnail @ other.thumbnail)
            for one, other in combinations(self._known, 2)
            if one.group != other.group
        ]
        # Cases that are one scan stored twice say nothing of patients.
        most = max((value for value in pairs if value < (1 + _ALONE) / 2), default=_ALONE)
        return max(_CORRELATED, (1 + most) / 2)


def identity_of(volume: Volume) -> Identity | None:
    """What DICOM headers say of whose it is; None for other files."""
    return getattr(volume.source, "identity", None)


def _says(one: _Known, field: str) -> str:
    return "" if one.identity is None else str(getattr(one.identity, field))


def _same_size(one: np.ndarray, other: np.ndarray) -> bool:
    return len(one) == len(other) and bool(
        np.all(np.abs(one - other) <= np.maximum(_SIZE_VOXELS, _SIZE * np.maximum(one, other))) and one[0] == other[0]
    )


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Of (C, D, H, W): a vector whose product with another is their correlation."""
    small = adaptive_avg_pool3d(torch.as_tensor(np.asarray(image, np.float32))[None], _VOXELS)[0].numpy().ravel()
    small = small - small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9))
