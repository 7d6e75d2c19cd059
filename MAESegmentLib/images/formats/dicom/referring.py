"""What the DICOM objects that are drawn on a series have in common: what they refer to, names, patient and study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import highdicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM, PersonName

from ....errors import GeometryError, OutputError
from ...labels import Label
from ...volume import Grid, LabelMap, Volume
from .series import DicomSource

MANUFACTURER = "MAESegment"
SERIES_NUMBER = 900
OTHER_FORMAT = "Write .seg.nrrd or .nii.gz instead."
UTF8 = "ISO_IR 192"
#: DICOM's limit for a segment's label and a code's meaning.
_LONGEST_TEXT = 64
_CHARACTER_SET = 0x00080005
#: Identification, patient, clinical trial, acquisition, relationship, visit.
_GROUPS = {0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038}
#: Attributes that must be there, if only empty, also where an anonymised series lacks them.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
_CHECKS: dict[str, Callable[[Any], object]] = {
    "PatientBirthDate": DA,
    "StudyDate": DA,
    "StudyTime": TM,
    "PatientSex": highdicom.PatientSexValues,
}


def check_refers(what: str, source: Volume | None) -> tuple[Grid, DicomSource]:
    """The grid and the series that `what` ("A DICOM SEG") would refer to, or `OutputError`: why it cannot."""
    if source is None or not isinstance(source.source, DicomSource):
        raise OutputError(
            f"{what} refers to the DICOM series it was drawn on, but the input is not DICOM.",
            OTHER_FORMAT,
        )
    series = source.source
    said = {
        "SOPInstanceUID": all(series.instances),
        "SeriesInstanceUID": bool(series.identity.series_uid),
        "StudyInstanceUID": bool(series.identity.study_uid),
        "FrameOfReferenceUID": bool(series.identity.frame_of_reference),
    }
    lost = [attribute for attribute, is_there in said.items() if not is_there]
    if lost:
        raise OutputError(
            f"{what} cannot refer to this series, which lacks {', '.join(lost)} (anonymised too far?).",
            OTHER_FORMAT,
        )
    if len(set(zip(series.instances, series.frames, strict=True))) < len(series.instances):
        raise OutputError(
            f"{what} cannot refer to this series, in which several images have the same SOPInstanceUID.",
            OTHER_FORMAT,
        )
    return source.grid, series


def check_same_grid(label_map: LabelMap, source: Volume | None) -> None:
    if source is not None and (difference := label_map.grid.difference(source.grid)):
        raise GeometryError(f"The label map does not lie on the grid of its DICOM series: {difference}.")


def instances(kinds: Mapping[str, str]) -> list[Dataset]:
    references = []
    for uid, kind in kinds.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = kind, uid
        references.append(reference)
    return references


def segment_names(labels: Sequence[Label]) -> list[str]:
    """The labels' names as DICOM takes them, no two alike."""
    names: list[str] = []
    for label in labels:
        plain = long_string(label.name) or f"Segment {label.value}"
        name, number = plain, 1
        while name in names:
            number += 1
            end = f" {number}"
            name = plain[: _LONGEST_TEXT - len(end)] + end
        names.append(name)
    return names


def long_string(text: str) -> str:
    """Without control characters, and without the backslash, which parts values; at most 64 characters."""
    printable = "".join(c if c.isprintable() else " " for c in text.replace("\\", "/"))
    return printable.strip()[:_LONGEST_TEXT].strip()


# --- what is taken over about patient and study: all of it in UTF-8, nothing malformed --------------------------------


def patient_and_study(header: Dataset) -> Dataset:
    """The attributes of `header` (not its pixels nor functional groups), decoded; those that are malformed left out.

    Those that any object must have are there, empty if `header` does not have them.
    """
    if not header.get("SpecificCharacterSet") and _is_utf8(header):
        header.set_original_encoding(*header.original_encoding, "utf8")
    copy = _decoded(header, _GROUPS)
    for name in _MAY_BE_EMPTY:
        value = copy.get(name)
        try:
            if value and name in _CHECKS:
                _CHECKS[name](value)
        except ValueError:
            value = None
        if not value:
            setattr(copy, name, None)
    return copy


def _is_utf8(header: Dataset) -> bool:
    """Whether texts beyond ASCII, of a series that names no character set, can only be meant as UTF-8."""
    raw = [header.get_item(tag).value for tag in list(header.keys()) if tag >> 16 in _GROUPS]
    texts = [value for value in raw if isinstance(value, bytes) and not value.isascii()]
    try:
        return bool(texts) and all(text.decode("utf-8") is not None for text in texts)
    except UnicodeDecodeError:
        return False


def _decoded(dataset: Dataset, groups: set[int] | None = None) -> Dataset:
    copy = Dataset()
    for tag in list(dataset.keys()):
        if tag == _CHARACTER_SET or tag.is_private or (groups is not None and tag >> 16 not in groups):
            continue
        try:
            element = _element(dataset[tag])
            _check_writable(element)
        except Exception:
            continue
        copy[tag] = element
    return copy


def _element(element: DataElement) -> DataElement:
    value = element.value
    if element.VR == "SQ":
        value = [_decoded(item) for item in value]
    elif element.VR == "PN":
        value = [PersonName(str(one)) for one in value] if isinstance(value, MultiValue) else PersonName(str(value))
    return DataElement(element.tag, element.VR, value)


def _check_writable(element: DataElement) -> None:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_data_element(stream, element, ["utf8"])
