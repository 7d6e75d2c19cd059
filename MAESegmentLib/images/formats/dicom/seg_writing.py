"""DICOM Segmentation objects through highdicom: the form in which a result goes back to the archive (PACS)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DA, TM, DSfloat, PersonName

from ....errors import GeometryError, OutputError
from ....version import __version__
from ...labels import Code, Label
from ...volume import Grid, LabelMap, Volume
from ..decoding import LPS_TO_RAS
from .headers import open_dicom, quiet_pydicom
from .series import DicomSource

_MANUFACTURER = "MAESegment"
_SERIES_NUMBER = 900
_OTHER_FORMAT = "Write .seg.nrrd or .nii.gz instead."
_UTF8 = "ISO_IR 192"
#: DICOM's limit for a segment's label and a code's meaning.
_LONGEST_TEXT = 64
#: So many slices of so many pixels a side are enough to see whether a series allows a DICOM SEG.
_TRIAL_SLICES, _TRIAL_PIXELS = 3, 2
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


def check_seg_source(source: Volume | None, labels: Sequence[Label] = ()) -> DicomSource:
    """The series a DICOM SEG would refer to, or why there can be none: a small empty one is made, of `labels`."""
    if source is None or not isinstance(source.source, DicomSource):
        raise OutputError(
            "A DICOM SEG refers to the DICOM series it was drawn on, but the input is not DICOM.",
            _OTHER_FORMAT,
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
            f"A DICOM SEG cannot refer to this series, which lacks {', '.join(lost)} (anonymised too far?).",
            _OTHER_FORMAT,
        )
    if len(set(zip(series.instances, series.frames, strict=True))) < len(series.instances):
        raise OutputError(
            "A DICOM SEG cannot refer to this series, in which several images have the same SOPInstanceUID.",
            _OTHER_FORMAT,
        )
    _try(source.grid, series, labels or [Label(1, "trial")])
    return series


def write_dicom_seg(
    path: Path, label_map: LabelMap, labels: Sequence[Label], source: Volume | None, description: str
) -> None:
    """Segment number n is the n-th label; frames refer to the source images. BINARY, which 3D Slicer also reads."""
    series = check_seg_source(source, labels)
    if source is not None and (difference := label_map.grid.difference(source.grid)):
        raise GeometryError(f"The label map does not lie on the grid of its DICOM series: {difference}.")
    numbers = np.zeros(int(max(label.value for label in labels)) + 1, dtype=np.uint16)
    numbers[[label.value for label in labels]] = np.arange(1, len(labels) + 1)
    frames = np.ascontiguousarray(numbers[label_map.array].T)  # (K, J, I)
    _write(path, frames, label_map.grid, series, labels, f"{_MANUFACTURER} {description}".strip())


def _try(grid: Grid, series: DicomSource, labels: Sequence[Label]) -> None:
    """Raise what writing would raise."""
    slices = min(_TRIAL_SLICES, grid.shape[2])
    small = Grid((_TRIAL_PIXELS, _TRIAL_PIXELS, slices), grid.ijk_to_ras)
    _write(io.BytesIO(), np.zeros(small.shape[::-1], np.uint16), small, series, labels, _MANUFACTURER)


def _write(
    target: Path | io.BytesIO,
    frames: np.ndarray,
    grid: Grid,
    series: DicomSource,
    labels: Sequence[Label],
    description: str,
) -> None:
    try:
        with quiet_pydicom():
            segmentation = _segmentation(_source_images(grid, series), frames, labels, description)
            _refer(segmentation, series)
            segmentation.save_as(target)
    except OSError:
        raise
    except Exception as error:  # highdicom and pydicom raise many kinds about headers they do not like
        raise OutputError(f"This series does not allow a DICOM SEG: {error}", _OTHER_FORMAT) from error


def _segmentation(
    images: Sequence[Dataset], frames: np.ndarray, labels: Sequence[Label], description: str
) -> Segmentation:
    names = _segment_labels(labels)
    return Segmentation(
        source_images=images,
        pixel_array=frames,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, name, label) for number, (name, label) in enumerate(zip(names, labels, strict=True), 1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=_MANUFACTURER,
        manufacturer_model_name=_MANUFACTURER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        series_description=_long_string(description),
        specific_character_set=_UTF8,
        omit_empty_frames=bool(frames.any()),
    )


def _source_images(grid: Grid, series: DicomSource) -> list[Dataset]:
    """A header for each slice as highdicom wants it, whatever kind of file the slice is in: see `_refer`.

    Slices lie exactly on the grid, so that every reader takes the segmentation for a regular volume.
    """
    patient = _patient_and_study(open_dicom(series.files[0]))
    ijk_to_lps = LPS_TO_RAS @ grid.ijk_to_ras
    row, column, step = (ijk_to_lps[:3, axis] / grid.spacing[axis] for axis in range(3))
    images = []
    for k in range(grid.shape[2]):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, _stand_in(k)
        image.StudyInstanceUID, image.SeriesInstanceUID = series.identity.study_uid, series.identity.series_uid
        image.FrameOfReferenceUID = series.identity.frame_of_reference
        image.Columns, image.Rows = grid.shape[:2]
        image.ImagePositionPatient = _decimals(ijk_to_lps[:3, 3] + k * grid.spacing[2] * step)
        image.ImageOrientationPatient = _decimals([*row, *column])
        image.PixelSpacing = _decimals([grid.spacing[1], grid.spacing[0]])
        image.SliceThickness = image.SpacingBetweenSlices = _decimals([grid.spacing[2]])[0]
        for element in patient:  # which the images share: after what is an image's own
            if element.tag not in image:
                image.add(element)
        images.append(image)
    return images


def _stand_in(k: int) -> str:
    """The UID by which slice `k` is known until `_refer` names the image that it is."""
    return f"2.25.{k + 1}"


def _refer(segmentation: Segmentation, series: DicomSource) -> None:
    """Replace the stand-ins by the images, with the number of the frame in a file of several."""
    images = {
        _stand_in(k): (uid, frame, series.classes[k])
        for k, (uid, frame) in enumerate(zip(series.instances, series.frames, strict=True))
    }
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence") or []:
            for image in derivation.SourceImageSequence:
                if image.ReferencedSOPInstanceUID not in images:
                    continue  # frames of several segments share it
                uid, frame, kind = images[image.ReferencedSOPInstanceUID]
                image.ReferencedSOPInstanceUID, image.ReferencedSOPClassUID = uid, kind
                if frame:
                    image.ReferencedFrameNumber = frame
    whole = {uid: kind for uid, _, kind in images.values()}
    segmentation.SourceImageSequence = _instances(whole)
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = _instances(whole)


def _instances(kinds: Mapping[str, str]) -> list[Dataset]:
    references = []
    for uid, kind in kinds.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = kind, uid
        references.append(reference)
    return references


def _decimals(values: Sequence[float] | np.ndarray) -> list[DSfloat]:
    """DICOM decimal strings hold 16 characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _segment_labels(labels: Sequence[Label]) -> list[str]:
    """The labels' names as DICOM takes them, no two alike."""
    names: list[str] = []
    for label in labels:
        plain = _long_string(label.name) or f"Segment {label.value}"
        name, number = plain, 1
        while name in names:
            number += 1
            end = f" {number}"
            name = plain[: _LONGEST_TEXT - len(end)] + end
        names.append(name)
    return names


def _long_string(text: str) -> str:
    """Without control characters, and without the backslash, which parts values; at most 64 characters."""
    printable = "".join(c if c.isprintable() else " " for c in text.replace("\\", "/"))
    return printable.strip()[:_LONGEST_TEXT].strip()


def _describe(number: int, name: str, label: Label) -> SegmentDescription:
    terminology = label.terminology
    segment = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=_concept(terminology.category),
        segmented_property_type=_concept(terminology.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_MANUFACTURER, family=codes.cid7162.ArtificialIntelligence, version=__version__
        ),
        display_color=CIELabColor.from_rgb(*label.colour),
    )
    if terminology.modifier is not None:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(terminology.modifier)]
    return segment


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=_long_string(code.meaning))


# --- what it takes over about patient and study: all of it in UTF-8, nothing malformed --------------------------------


def _patient_and_study(header: Dataset) -> Dataset:
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
