"""From stored DICOM values to the units of the modality (CT: HU), by what each frame says about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut
from pydicom.tag import Tag

from ....errors import VolumeReadError
from .headers import EXPORT_AGAIN

RESCALE_TAGS = (
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_NAMES = ("RescaleSlope", "RescaleIntercept")
_TRANSFORMATION = "PixelValueTransformationSequence"


@dataclass(frozen=True, eq=False)
class Rescale:
    """stored x `slope` + `intercept`, or the values of a look-up table.

    `is_given` tells whether the header says so; `assumed` says what of it had to be taken for granted.
    """

    slope: float = 1.0
    intercept: float = 0.0
    table: Dataset | None = None
    is_given: bool = False
    assumed: tuple[str, ...] = ()

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """float32, in the units of the modality."""
        if self.table is not None:
            try:
                return np.asarray(apply_modality_lut(stored, self.table), dtype=np.float32)
            except Exception as error:  # pydicom raises many kinds
                raise VolumeReadError(
                    "The table of its grey values (Modality LUT) is malformed.", EXPORT_AGAIN
                ) from error
        if self.slope == 1 and self.intercept == 0:
            return stored.astype(np.float32)
        return (stored * self.slope + self.intercept).astype(np.float32)


def rescale_of(name: str, dataset: Dataset, index: int) -> Rescale:
    """That of frame `index`; `name` is the file for messages. `VolumeReadError` for what is not a number.

    As the field's readers have it (GDCM, dcm2niix): what is missing, empty, or a slope of 0, changes nothing.
    """
    if dataset.get("ModalityLUTSequence"):
        table = Dataset()
        table.file_meta = dataset.file_meta
        table.ModalityLUTSequence = dataset.ModalityLUTSequence
        if "PixelRepresentation" in dataset:
            table.PixelRepresentation = dataset.PixelRepresentation
        return Rescale(table=table, is_given=True)
    for holder in _holders(dataset, index):
        if any(key in holder for key in _NAMES):
            return _given(name, holder)
    return Rescale()


def rescale_notes(rescales: Sequence[Rescale]) -> tuple[str, ...]:
    """What had to be assumed about the slices of one scan, for the user; () for nothing."""
    notes = []
    for assumed in dict.fromkeys(text for rescale in rescales for text in rescale.assumed):
        count = sum(assumed in rescale.assumed for rescale in rescales)
        notes.append(f"{assumed} ({count} of {len(rescales)} slices).")
    if any(rescale.table is not None for rescale in rescales):
        notes.append("Its grey values come from a table in its header (Modality LUT).")
    bare = sum(not rescale.is_given for rescale in rescales)
    if 0 < bare < len(rescales):
        notes.append(
            f"{bare} of {len(rescales)} slices have neither RescaleSlope nor RescaleIntercept, as the others have: "
            "their values are taken as they are stored. Check the grey values of the scan."
        )
    return tuple(notes)


def _holders(dataset: Dataset, index: int) -> Iterator[Dataset]:
    """What may hold a frame's rescaling: its own functional group, the shared one, the top of the file."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    groups: Iterable[Dataset] = [*own[index : index + 1], *shared[:1]]
    for group in groups:
        yield from list(group.get(_TRANSFORMATION) or [])[:1]
    yield dataset


def _given(name: str, holder: Dataset) -> Rescale:
    slope, intercept = (_number(name, holder, key) for key in _NAMES)
    assumed = []
    if slope is None:
        assumed.append("RescaleSlope is missing or empty, and taken as 1")
    elif slope == 0:
        assumed.append("RescaleSlope is 0, which would blank the scan, and taken as 1")
    if intercept is None:
        assumed.append("RescaleIntercept is missing or empty, and taken as 0")
    return Rescale(slope or 1.0, intercept or 0.0, is_given=True, assumed=tuple(assumed))


def _number(name: str, holder: Dataset, key: str) -> float | None:
    """None if it is missing or empty. Read from the text itself: pydicom would give up on the whole file."""
    if key not in holder:
        return None
    element = holder.get_item(Tag(key))
    value = element.value if isinstance(element, RawDataElement | DataElement) else None
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else "" if value is None else str(value)
    text = text.strip(" \0")
    if not text:
        return None
    try:
        number = float(text.replace("_", "?"))  # which Python alone takes for part of a number
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise VolumeReadError(
            f"{name}: its {key} {text[:20]!r} is not a number, so the scale of its grey values is not known.",
            EXPORT_AGAIN,
        )
    return number
