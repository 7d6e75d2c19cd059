"""Where we differ from the field's readers on purpose, each with its reason. Nothing else may differ."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .subjects import DICOM, DICOM_SEG, NIFTI, NRRD, SEG_NRRD, Subject

_ORIGIN = re.compile(r"place: origins differ by ([0-9.]+) mm\Z")


@dataclass(frozen=True)
class Agreed:
    """A difference that `applies` to a subject, given its description and our reader's notes."""

    why: str
    applies: Callable[[Subject, str, tuple[str, ...]], bool]


AGREED = (
    Agreed(
        "scl_slope is 0 or no number: by the standard, and by nibabel, voxels are then left as they are; ITK adds "
        "scl_inter all the same.",
        lambda subject, _, notes: subject.kind == NIFTI and any("scl_inter" in note for note in notes),
    ),
    Agreed(
        "Voxels without a value (NaN) become the minimum of the others, which a note says; ITK makes them 0.",
        lambda _, difference, notes: difference.startswith("SimpleITK: values") and any("(NaN" in n for n in notes),
    ),
    Agreed(
        "One tolerance for reading scans and their SEG: positions may be rounded by 0.06 mm; highdicom allows less.",
        lambda subject, difference, _: subject.kind == DICOM_SEG and "do not form a regularly-spaced" in difference,
    ),
    Agreed(
        "Slices whose positions are rounded lie on the regular grid nearest to them all, at most 0.06 mm away.",
        lambda subject, difference, _: subject.kind == DICOM and _is_rounding(difference),
    ),
    Agreed(
        "MONOCHROME1 says how to show an image, not what its values are (HU stay HU), which a note says; ITK inverts.",
        lambda subject, difference, notes: (
            subject.kind == DICOM and "values" in difference and any("MONOCHROME1" in note for note in notes)
        ),
    ),
    Agreed(
        "A table of grey values (Modality LUT) is applied, as the standard has it; GDCM passes it over.",
        lambda subject, difference, notes: (
            subject.kind == DICOM and "values" in difference and any("Modality LUT" in note for note in notes)
        ),
    ),
    Agreed(
        "ITK and 3D Slicer cannot read bzip2, which NRRD allows.",
        lambda subject, difference, _: subject.kind == NRRD and "bzip2" in difference,
    ),
    Agreed(
        "A label map of nameless values stays one; 3D Slicer makes up a name for each value.",
        lambda subject, difference, _: subject.kind == SEG_NRRD and difference.startswith("segments [] instead of"),
    ),
)


def _is_rounding(difference: str) -> bool:
    found = _ORIGIN.search(difference)
    return bool(found and float(found[1]) <= 0.06)


def reason_for(subject: Subject, difference: str, notes: tuple[str, ...]) -> str:
    """Why `difference` is agreed upon; "" if it is not."""
    return next((agreed.why for agreed in AGREED if agreed.applies(subject, difference, notes)), "")
