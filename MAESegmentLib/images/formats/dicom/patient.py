"""What a DICOM object made from a series takes over about patient and study: all of it in UTF-8, nothing malformed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import highdicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.valuerep import DA, TM, PersonName

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
        value = Sequence([_decoded(item) for item in value])
    elif element.VR == "PN":
        value = [PersonName(str(one)) for one in value] if isinstance(value, MultiValue) else PersonName(str(value))
    return DataElement(element.tag, element.VR, value)


def _check_writable(element: DataElement) -> None:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_data_element(stream, element, ["utf8"])
