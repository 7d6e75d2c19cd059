"""DICOM RT Structure Sets: the contours in which radiotherapy planning systems take a result."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from ....errors import OutputError
from ....version import __version__
from ...labels import UNCODED, Label
from ...volume import Grid, LabelMap, Volume
from ..contours import outlines
from ..decoding import LPS_TO_RAS
from .codes import put_codes
from .headers import open_dicom, quiet_pydicom
from .referring import (
    MANUFACTURER,
    OTHER_FORMAT,
    SERIES_NUMBER,
    UTF8,
    check_refers,
    check_same_grid,
    instances,
    long_string,
    patient_and_study,
    segment_names,
)
from .series import DicomSource

#: Detached Study Management, a retired class by which RTSTRUCTs still refer to a study.
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_CONTOUR_DATA = Tag("ContourData")
#: Of a coordinate in mm.
_DECIMALS = 4


def check_rtstruct_source(source: Volume | None, labels: Sequence[Label] = ()) -> DicomSource:
    """The series an RTSTRUCT would refer to, or why there can be none: an empty one is made, of `labels`."""
    grid, series = check_refers("An RTSTRUCT", source)
    empty = LabelMap(np.zeros((1, 1, grid.shape[2]), np.uint8), grid.ijk_to_ras)
    _write(io.BytesIO(), empty, labels or [Label(1, "trial")], series, MANUFACTURER)
    return series


def write_rtstruct(
    path: Path, label_map: LabelMap, labels: Sequence[Label], source: Volume | None, description: str
) -> None:
    """ROI number n is the n-th label, of one closed contour for each part on a slice; see `outlines`."""
    series = check_rtstruct_source(source, labels)
    check_same_grid(label_map, source)
    _write(path, label_map, labels, series, f"{MANUFACTURER} {description}".strip())


def _write(
    target: Path | io.BytesIO, label_map: LabelMap, labels: Sequence[Label], series: DicomSource, description: str
) -> None:
    try:
        with quiet_pydicom():
            _structure_set(label_map, labels, series, description).save_as(target)
    except OSError:
        raise
    except Exception as error:  # highdicom and pydicom raise many kinds about headers they do not like
        raise OutputError(f"This series does not allow an RTSTRUCT: {error}", OTHER_FORMAT) from error


def _structure_set(
    label_map: LabelMap, labels: Sequence[Label], series: DicomSource, description: str
) -> highdicom.SOPClass:
    patient = patient_and_study(open_dicom(series.files[0]))
    structures = highdicom.SOPClass(
        study_instance_uid=series.identity.study_uid,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        sop_class_uid=RTStructureSetStorage,
        instance_number=1,
        modality="RTSTRUCT",
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number="0",
        series_description=long_string(description),
        specific_character_set=UTF8,
        # Explicit ones have no room for the coordinates of a long contour.
        transfer_syntax_uid=ImplicitVRLittleEndian,
    )
    structures.copy_patient_and_study_information(patient)
    structures.StudyInstanceUID = series.identity.study_uid
    structures.OperatorsName = None
    now = datetime.datetime.now()
    structures.StructureSetLabel = MANUFACTURER
    structures.StructureSetDate, structures.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    structures.ApprovalStatus = "UNAPPROVED"
    structures.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series)]
    names = segment_names(labels)
    structures.StructureSetROISequence = [_roi(number, name, series) for number, name in enumerate(names, 1)]
    slices = np.ascontiguousarray(label_map.array.transpose(2, 0, 1))
    structures.ROIContourSequence = [
        _contours(number, label, slices, label_map.grid, series) for number, label in enumerate(labels, 1)
    ]
    structures.RTROIObservationsSequence = [_observation(number, label) for number, label in enumerate(labels, 1)]
    return structures


def _frame_of_reference(series: DicomSource) -> Dataset:
    images = [_image(series, k) for k in range(len(series.instances))]
    referenced = _item(SeriesInstanceUID=series.identity.series_uid, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=series.identity.study_uid,
        RTReferencedSeriesSequence=[referenced],
    )
    return _item(FrameOfReferenceUID=series.identity.frame_of_reference, RTReferencedStudySequence=[study])


def _image(series: DicomSource, k: int) -> Dataset:
    """What refers to slice `k`."""
    (image,) = instances({series.instances[k]: series.classes[k]})
    if series.frames[k]:
        image.ReferencedFrameNumber = series.frames[k]
    return image


def _roi(number: int, name: str, series: DicomSource) -> Dataset:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=series.identity.frame_of_reference,
        ROIName=name,
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _observation(number: int, label: Label) -> Dataset:
    # Whether it is an organ or a target is for whoever plans to say.
    item = _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
    if label.terminology != UNCODED:
        put_codes(label.terminology, item, "RTROIIdentificationCodeSequence")
    return item


def _contours(number: int, label: Label, slices: np.ndarray, grid: Grid, series: DicomSource) -> Dataset:
    """Without a sequence of contours for a structure that has no voxels."""
    structure = _item(ROIDisplayColor=list(label.colour))
    contours: list[Dataset] = []
    for k, values in enumerate(slices):
        image = _image(series, k)
        for points in outlines(values == label.value):
            contours.append(_contour(len(contours) + 1, points, k, grid, image))
    if contours:
        structure.ContourSequence = contours
    structure.ReferencedROINumber = number
    return structure


def _contour(number: int, points: np.ndarray, k: int, grid: Grid, image: Dataset) -> Dataset:
    contour = _item(
        ContourNumber=number,
        ContourImageSequence=[image],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points),
    )
    ijk = np.column_stack([points, np.full(len(points), k), np.ones(len(points))])
    lps = (ijk @ (LPS_TO_RAS @ grid.ijk_to_ras).T)[:, :3]
    # As bytes, written as they are: an object for every number would take minutes for a body.
    data = "\\".join(f"{value:.{_DECIMALS}f}" for value in lps.ravel()).encode()
    data += b" " * (len(data) % 2)
    contour[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(data), data, 0, True, True)
    contour.set_original_encoding(True, True, default_encoding)
    return contour


def _item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
