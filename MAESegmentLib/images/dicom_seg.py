"""DICOM Segmentation objects through highdicom: the form in which a result goes back to the archive (PACS)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from .. import __version__
from ..errors import GeometryError, OutputError, VolumeReadError
from ..labels import UNCODED, Code, Label, Terminology
from .decoded import LPS_TO_RAS
from .dicom import DicomSource, from_highdicom
from .dicom_headers import quiet_pydicom
from .volume import LabelMap, Volume

_MANUFACTURER = "MAESegment"
_SERIES_NUMBER = 900
_OTHER_FORMAT = "Write .seg.nrrd or .nii.gz instead."
_MUST_BE_THERE = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
#: Attributes highdicom copies without asking whether an anonymised series still has them.
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


def check_seg_source(source: Volume | None) -> DicomSource:
    """The series a DICOM SEG would refer to, or why there can be none."""
    if source is None or not isinstance(source.source, DicomSource):
        raise OutputError(
            "A DICOM SEG refers to the DICOM series it was drawn on, but the input is not DICOM.",
            _OTHER_FORMAT,
        )
    with quiet_pydicom():
        image = pydicom.dcmread(source.source.files[0], stop_before_pixels=True)
    lost = [attribute for attribute in _MUST_BE_THERE if not image.get(attribute)]
    if lost:
        raise OutputError(
            f"A DICOM SEG cannot refer to this series, which lacks {', '.join(lost)} (anonymised too far?).",
            _OTHER_FORMAT,
        )
    return source.source


def write_dicom_seg(
    path: Path, label_map: LabelMap, labels: Sequence[Label], source: Volume | None, description: str
) -> None:
    """Segment number n is the n-th label; frames refer to the source images. BINARY, which 3D Slicer also reads."""
    series = check_seg_source(source)
    if source is not None and (difference := label_map.grid.difference(source.grid)):
        raise GeometryError(f"The label map does not lie on the grid of its DICOM series: {difference}.")
    images = _source_images(series)
    numbers = np.zeros(int(max(label.value for label in labels)) + 1, dtype=np.uint16)
    numbers[[label.value for label in labels]] = np.arange(1, len(labels) + 1)
    frames = np.ascontiguousarray(numbers[label_map.array].T)  # (K, J, I)
    try:
        segmentation = _segmentation(images, frames, label_map, labels, f"MAESegment {description}".strip()[:64])
    except (ValueError, TypeError, AttributeError) as error:
        raise OutputError(f"This series does not allow a DICOM SEG: {error}", _OTHER_FORMAT) from error
    segmentation.save_as(path)


def _segmentation(
    images: Sequence[Dataset], frames: np.ndarray, label_map: LabelMap, labels: Sequence[Label], description: str
) -> Segmentation:
    multiframe = int(images[0].get("NumberOfFrames", 1) or 1) > 1
    with quiet_pydicom():
        return Segmentation(
            source_images=images,
            pixel_array=_volume(frames, label_map, images[0]) if multiframe else frames,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(number, label) for number, label in enumerate(labels, start=1)],
            series_instance_uid=highdicom.UID(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=_MANUFACTURER,
            manufacturer_model_name=_MANUFACTURER,
            software_versions=__version__,
            device_serial_number="0",
            content_label="SEGMENTATION",
            series_description=description,
            omit_empty_frames=bool(frames.any()),
        )


def read_dicom_seg(path: Path) -> tuple[LabelMap, tuple[Label, ...]]:
    """Values are segment numbers. Empty slices at either end are not stored: see `LabelMap.on_grid`."""
    try:
        with quiet_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"])
            if header.get("Modality") != "SEG":
                raise VolumeReadError(f"{path.name} is not a DICOM SEG.", "Give the segmentation, not the scan.")
            segmentation = highdicom.seg.segread(path)
            volume = segmentation.get_volume(combine_segments=True)
    except (OSError, ValueError, RuntimeError, AttributeError, KeyError, TypeError) as error:
        raise VolumeReadError(f"{path.name} is not a readable DICOM SEG: {error}", "Export it again.") from error
    labels = tuple(
        _label(segmentation.get_segment_description(number)) for number in segmentation.segment_numbers if number > 0
    )
    return LabelMap(*from_highdicom(volume)), labels


def _source_images(source: DicomSource) -> list[Dataset]:
    with quiet_pydicom():
        images = [pydicom.dcmread(file, stop_before_pixels=True) for file in source.files]
    for image in images:
        for name in _MAY_BE_EMPTY:
            if name not in image:
                setattr(image, name, None)
    return images


def _volume(frames: np.ndarray, label_map: LabelMap, image: Dataset) -> highdicom.Volume:
    kji_to_lps = (LPS_TO_RAS @ label_map.ijk_to_ras)[:, [2, 1, 0, 3]]
    return highdicom.Volume(frames, kji_to_lps, "PATIENT", frame_of_reference_uid=image.FrameOfReferenceUID)


def _describe(number: int, label: Label) -> SegmentDescription:
    terminology = label.terminology
    segment = SegmentDescription(
        segment_number=number,
        segment_label=label.name[:64],
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
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning[:64])


def _label(segment: SegmentDescription) -> Label:
    category, kind = segment.segmented_property_category, segment.segmented_property_type
    modifiers = segment.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence")
    terminology = (
        Terminology(_code(category), _code(kind), _code(modifiers[0]) if modifiers else None) if kind else UNCODED
    )
    return Label(int(segment.segment_number), str(segment.segment_label), _colour(segment), terminology)


def _code(concept: Dataset) -> Code:
    return Code(str(concept.CodingSchemeDesignator), str(concept.CodeValue), str(concept.CodeMeaning))


def _colour(segment: SegmentDescription) -> tuple[int, int, int]:
    stored = segment.get("RecommendedDisplayCIELabValue")
    if stored is None:
        return Label.colour
    red, green, blue = CIELabColor.from_dicom_value(stored).to_rgb() if stored else Label.colour
    return int(red), int(green), int(blue)
