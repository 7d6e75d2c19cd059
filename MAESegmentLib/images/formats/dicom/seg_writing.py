"""DICOM Segmentation objects through highdicom: the form in which a result goes back to the archive (PACS)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from ....errors import OutputError
from ....version import __version__
from ...labels import Label
from ...volume import Grid, LabelMap, Volume
from ..decoding import LPS_TO_RAS
from .codes import concept, put_modifier
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

#: So many slices of so many pixels a side are enough to see whether a series allows a DICOM SEG.
_TRIAL_SLICES, _TRIAL_PIXELS = 3, 2


def check_seg_source(source: Volume | None, labels: Sequence[Label] = ()) -> DicomSource:
    """The series a DICOM SEG would refer to, or why there can be none: a small empty one is made, of `labels`."""
    grid, series = check_refers("A DICOM SEG", source)
    _try(grid, series, labels or [Label(1, "trial")])
    return series


def write_dicom_seg(
    path: Path, label_map: LabelMap, labels: Sequence[Label], source: Volume | None, description: str
) -> None:
    """Segment number n is the n-th label; frames refer to the source images. BINARY, which 3D Slicer also reads."""
    series = check_seg_source(source, labels)
    check_same_grid(label_map, source)
    numbers = np.zeros(int(max(label.value for label in labels)) + 1, dtype=np.uint16)
    numbers[[label.value for label in labels]] = np.arange(1, len(labels) + 1)
    frames = np.ascontiguousarray(numbers[label_map.array].T)  # (K, J, I)
    _write(path, frames, label_map.grid, series, labels, f"{MANUFACTURER} {description}".strip())


def _try(grid: Grid, series: DicomSource, labels: Sequence[Label]) -> None:
    """Raise what writing would raise."""
    slices = min(_TRIAL_SLICES, grid.shape[2])
    small = Grid((_TRIAL_PIXELS, _TRIAL_PIXELS, slices), grid.ijk_to_ras)
    _write(io.BytesIO(), np.zeros(small.shape[::-1], np.uint16), small, series, labels, MANUFACTURER)


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
        raise OutputError(f"This series does not allow a DICOM SEG: {error}", OTHER_FORMAT) from error


def _segmentation(
    images: Sequence[Dataset], frames: np.ndarray, labels: Sequence[Label], description: str
) -> Segmentation:
    names = segment_names(labels)
    return Segmentation(
        source_images=images,
        pixel_array=frames,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, name, label) for number, (name, label) in enumerate(zip(names, labels, strict=True), 1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        series_description=long_string(description),
        specific_character_set=UTF8,
        omit_empty_frames=bool(frames.any()),
    )


def _source_images(grid: Grid, series: DicomSource) -> list[Dataset]:
    """A header for each slice as highdicom wants it, whatever kind of file the slice is in: see `_refer`.

    Slices lie exactly on the grid, so that every reader takes the segmentation for a regular volume.
    """
    patient = patient_and_study(open_dicom(series.files[0]))
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
    segmentation.SourceImageSequence = instances(whole)
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = instances(whole)


def _decimals(values: Sequence[float] | np.ndarray) -> list[DSfloat]:
    """DICOM decimal strings hold 16 characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _describe(number: int, name: str, label: Label) -> SegmentDescription:
    terminology = label.terminology
    segment = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=concept(terminology.category),
        segmented_property_type=concept(terminology.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=MANUFACTURER, family=codes.cid7162.ArtificialIntelligence, version=__version__
        ),
        display_color=CIELabColor.from_rgb(*label.colour),
    )
    put_modifier(terminology, segment.SegmentedPropertyTypeCodeSequence[0])
    return segment
