"""DICOM Segmentation objects of any origin as label maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat

from ....errors import MAESegmentError, VolumeReadError
from ...labels import Label
from ...limits import check_size
from ...volume import LabelMap, slice_tolerance
from ..decoding import LPS_TO_RAS
from ..overlapping import Overlapping, in_layers
from .belonging import SegReferences
from .codes import read_codes
from .headers import open_dicom, quiet_pydicom
from .pixels import check_complete, frame_count
from .stack import Directions, directions_of, fit_line

#: Frames whose positions differ by less lie in one slice, mm.
_SAME_SLICE_MM = 1e-3
_HINT = "Export it again."


def read_dicom_seg(path: Path) -> tuple[LabelMap | Overlapping, tuple[Label, ...]]:
    """Values are segment numbers; the label map's `source` is a `SegReferences`.

    Empty slices at either end are not stored: see `LabelMap.on_grid`.
    """
    try:
        with quiet_pydicom():
            dataset = open_dicom(path, end=None)
            references = _references(path, dataset)
            _check_frames(path, dataset)
            _even_out(path, dataset)
            segmentation = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
            arrays, ijk_to_ras = _layers(segmentation)
            numbers = [number for number in segmentation.segment_numbers if number > 0]
            labels = tuple(_label(segmentation.get_segment_description(number)) for number in numbers)
            _check_described(path, {int(value) for array in arrays for value in np.unique(array)}, dataset)
    except MAESegmentError:
        raise
    except Exception as error:  # highdicom reports by ValueError, RuntimeError, AttributeError, ...
        raise _refused(path, f"is not a readable DICOM SEG: {error or type(error).__name__}") from error
    layers = tuple(LabelMap(array, ijk_to_ras, references) for array in arrays)
    return (layers[0] if len(layers) == 1 else Overlapping(path.name, labels, layers)), labels


def _layers(segmentation: highdicom.seg.Segmentation) -> tuple[list[np.ndarray], np.ndarray]:
    """(I, J, K) arrays of segment numbers, several where segments overlap, and their IJK-to-RAS."""
    try:
        array, ijk_to_ras = _from_highdicom(segmentation.get_volume(combine_segments=True))
        return [array], ijk_to_ras
    except RuntimeError as error:
        if "segments overlap" not in str(error):
            raise

    def masks() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal ijk_to_ras
        for number in segmentation.segment_numbers:
            array, ijk_to_ras = _from_highdicom(
                segmentation.get_volume(segment_numbers=[number], combine_segments=True)
            )
            yield int(number), array == number

    ijk_to_ras = np.eye(4)
    return in_layers(masks()), ijk_to_ras


def _refused(path: Path, what: str) -> VolumeReadError:
    return VolumeReadError(f"{path.name} {what}", _HINT)


def _references(path: Path, dataset: Dataset) -> SegReferences:
    whole = _items([dataset], "ReferencedSeriesSequence")
    series = {str(item.get("SeriesInstanceUID") or "") for item in whole}
    groups = _items([dataset], "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    images = [
        *_items([dataset], "SourceImageSequence"),
        *_items(whole, "ReferencedInstanceSequence"),
        *_items(_items(groups, "DerivationImageSequence"), "SourceImageSequence"),
    ]
    instances = {str(image.get("ReferencedSOPInstanceUID") or "") for image in images}
    frame = str(dataset.get("FrameOfReferenceUID") or "")
    patient = str(dataset.get("PatientID") or "").strip(" \0")
    return SegReferences(path.name, frame, frozenset(series - {""}), frozenset(instances - {""}), patient)


def _items(holders: Iterable[Dataset], *sequences: str) -> list[Dataset]:
    return [item for holder in holders for name in sequences for item in holder.get(name) or []]


def _check_frames(path: Path, dataset: Dataset) -> None:
    """The header's frames are those that it describes and that are there, each of a segment that it describes."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    promised = frame_count(dataset)
    if groups and promised != len(groups):
        raise _refused(
            path,
            f"contradicts itself: NumberOfFrames is {promised}, but its functional groups describe {len(groups)}.",
        )
    check_complete(path, dataset, _HINT)
    shared = _items([dataset], "SharedFunctionalGroupsSequence")[:1]
    if dataset.get("SegmentationType") == "LABELMAP":  # whose voxels are the numbers
        return
    numbers = [next(filter(None, (_segment_number(group) for group in (frame, *shared))), 0) for frame in groups]
    if not all(numbers):
        raise _refused(path, "does not say which segment its frames belong to.")
    _check_described(path, set(numbers), dataset)


def _segment_number(group: Dataset) -> int:
    """0 if the functional group does not say."""
    holder = next(iter(group.get("SegmentIdentificationSequence") or []), Dataset())
    return int(holder.get("ReferencedSegmentNumber") or 0)


def _check_described(path: Path, numbers: set[int], dataset: Dataset) -> None:
    described = {int(one.SegmentNumber) for one in dataset.get("SegmentSequence") or []}
    lost = sorted(numbers - described - {0})
    if lost:
        raise _refused(
            path,
            f"contradicts itself: it holds voxels of segment {', '.join(map(str, lost[:5]))}, which its list of "
            "segments (SegmentSequence) does not describe.",
        )


def _even_out(path: Path, dataset: Dataset) -> None:
    """Put the frames of `dataset` on the evenly spaced slices that they lie on but for the scans' tolerance.

    Software of others is less patient with the noise that positions of a scan, and so of a SEG drawn on it, may have.
    """
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())
    check_size(path.name, (int(dataset.Columns), int(dataset.Rows), len(frames)))
    if not dataset.get("FrameOfReferenceUID"):  # which highdicom must have
        dataset.FrameOfReferenceUID = generate_uid()
    if not frames or not all(frame.get("PlanePositionSequence") for frame in frames):
        raise _refused(path, "does not say where its frames lie in the patient.")
    positions = np.array([[float(x) for x in one.PlanePositionSequence[0].ImagePositionPatient] for one in frames])
    orientation = _first([*frames[:1], shared], "PlaneOrientationSequence").ImageOrientationPatient
    directions = directions_of(path.name, np.array([float(x) for x in orientation]))
    if directions.notes:
        _put_directions((shared, *frames), list(orientation), directions)
    measures = _first([*frames[:1], shared], "PixelMeasuresSequence")
    numbers, origin, step = _slices(path, positions, directions.normal, _spacing_hint(measures))
    check_size(path.name, (int(dataset.Columns), int(dataset.Rows), int(np.ptp(numbers)) + 1))
    for frame, position in zip(frames, origin + numbers[:, None] * step, strict=True):
        frame.PlanePositionSequence[0].ImagePositionPatient = [DSfloat(float(x), auto_format=True) for x in position]
    for one in _items((shared, *frames), "PixelMeasuresSequence"):
        one.SpacingBetweenSlices = DSfloat(float(np.linalg.norm(step)), auto_format=True)


def _put_directions(groups: Sequence[Dataset], rounded: list[float], directions: Directions) -> None:
    for one in _items(groups, "PlaneOrientationSequence"):
        if list(one.ImageOrientationPatient) == rounded:
            unit = (*directions.row, *directions.column)
            one.ImageOrientationPatient = [DSfloat(float(x), auto_format=True) for x in unit]


def _first(groups: Sequence[Dataset], name: str) -> Dataset:
    return next(group[name].value[0] for group in groups if group.get(name))


def _spacing_hint(measures: Dataset) -> float:
    """The distance of neighbouring slices, mm, by the header; 0 if it does not say."""
    return abs(float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0))


def _slices(
    path: Path, positions: np.ndarray, normal: np.ndarray, hint: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of each frame's slice, position of slice 0, and step from slice to slice (LPS mm)."""
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    apart = gaps[gaps > _SAME_SLICE_MM]
    if not apart.size:
        return np.zeros(len(positions)), positions.mean(axis=0), normal * (hint or 1.0)
    for spacing in dict.fromkeys((hint, float(apart.min()), float(np.median(apart)))):
        if spacing <= 0:
            continue
        numbers = np.empty(len(positions))
        numbers[order] = np.concatenate([[0], np.cumsum(np.where(gaps > _SAME_SLICE_MM, np.rint(gaps / spacing), 0))])
        # By the header's own spacing if that will do: few slices say little about it.
        given = normal * spacing
        lines = ((positions - numbers[:, None] * given).mean(axis=0), given), fit_line(numbers, positions)
        for origin, step in lines if spacing == hint else lines[1:]:
            off = np.linalg.norm(origin + numbers[:, None] * step - positions, axis=1).max()
            if np.any(numbers > 0) and off <= slice_tolerance(float(np.linalg.norm(step))):
                return numbers, origin, step
    raise VolumeReadError(
        f"{path.name} has unevenly spaced frames: {apart.min():.4g} to {apart.max():.4g} mm.",
        "Draw it on a scan of even slices, or export it again.",
    )


def _from_highdicom(volume: highdicom.Volume) -> tuple[np.ndarray, np.ndarray]:
    """(I, J, K) voxels and their IJK-to-RAS, slices ordered along their normal as in a scan."""
    kji_to_lps = np.asarray(volume.affine)
    array = np.asarray(volume.array)
    slices, column, row = kji_to_lps[:3, :3].T
    if slices @ np.cross(row, column) < 0:
        array = array[::-1]
        kji_to_lps = kji_to_lps.copy()
        kji_to_lps[:3, 3] += (len(array) - 1) * slices
        kji_to_lps[:3, 0] = -slices
    return array.transpose(2, 1, 0), LPS_TO_RAS @ kji_to_lps[:, [2, 1, 0, 3]]


def _label(segment: highdicom.seg.SegmentDescription) -> Label:
    terminology = read_codes(segment, "SegmentedPropertyTypeCodeSequence")
    return Label(int(segment.segment_number), str(segment.segment_label), _colour(segment), terminology)


def _colour(segment: Dataset) -> tuple[int, int, int]:
    stored = segment.get("RecommendedDisplayCIELabValue")
    if stored is None:
        return Label.colour
    red, green, blue = CIELabColor.from_dicom_value(stored).to_rgb() if stored else Label.colour
    return int(red), int(green), int(blue)
