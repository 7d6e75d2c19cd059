"""Whether a DICOM SEG or an RTSTRUCT was drawn on this scan: by what it refers to, not by its shape alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ....errors import VolumeReadError
from ...volume import LabelMap, Volume
from ..overlapping import Overlapping
from .structure_set import StructureSet

if TYPE_CHECKING:
    from .series import DicomSource

_HINT = (
    "Give the scan it was drawn on. If the two do belong together (identifiers replaced in one of them), convert the "
    "segmentation to .seg.nrrd or NIfTI first, which carry no references."
)


@dataclass(frozen=True)
class SegReferences:
    """What a DICOM SEG or an RTSTRUCT (its `source`) says it was drawn on. "" or empty where it says nothing."""

    name: str
    frame_of_reference: str
    series: frozenset[str]
    instances: frozenset[str]
    patient_id: str = ""


def place_on(
    label_map: LabelMap | StructureSet | Overlapping, volume: Volume, leave_out: Collection[int] = ()
) -> tuple[LabelMap, tuple[str, ...]]:
    """`label_map` on the grid of `volume`, which it must have been drawn on; and what had to be assumed about that.

    Of structures that may overlap, those of the values `leave_out` are not placed, and hide no other.
    """
    if isinstance(label_map, Overlapping):
        label_map = label_map.merged(leave_out)
    notes = check_belongs(label_map, volume)
    if isinstance(label_map, StructureSet):
        placed, said = label_map.on_grid(volume.grid, leave_out)
        return placed, (*notes, *said)
    notes = tuple(dict.fromkeys((*notes, *label_map.notes)))
    is_of_slices = volume.source is not None
    if volume.grid.matches(label_map.grid, label_map.tolerance_on(volume.grid, is_of_slices=is_of_slices)):
        return replace(label_map, ijk_to_ras=volume.ijk_to_ras), notes
    return label_map.on_grid(volume.grid, is_of_slices=is_of_slices), notes


def check_belongs(label_map: LabelMap | StructureSet | Overlapping, volume: Volume) -> tuple[str, ...]:
    """Raise `VolumeReadError` if `label_map` refers to another patient, series or frame of reference than `volume`'s.

    Returns what had to be assumed, for the user; () for nothing, and for label maps that refer to no scan.
    """
    references = label_map.layers[0].source if isinstance(label_map, Overlapping) else label_map.source
    if not isinstance(references, SegReferences):
        return ()
    if volume.source is None:
        return (
            f"{references.name} refers to a DICOM series; whether it is this scan, which is not DICOM, is not known.",
        )
    return compare_references(references, volume.source)


def compare_references(references: SegReferences, scan: DicomSource) -> tuple[str, ...]:
    """As `check_belongs`, for a scan of which only the headers were read."""
    if references.patient_id and scan.identity.patient_id and references.patient_id != scan.identity.patient_id:
        # The numbers themselves stay out of tables and logs.
        raise VolumeReadError(
            f"{references.name} belongs to another patient: its PatientID is not the scan's.",
            _HINT,
        )
    frame = scan.identity.frame_of_reference
    if references.frame_of_reference and frame and references.frame_of_reference != frame:
        raise VolumeReadError(
            f"{references.name} belongs to another scan: its frame of reference is not the scan's "
            "(FrameOfReferenceUID).",
            _HINT,
        )
    series = scan.identity.series_uid
    if references.series or references.instances:
        if series in references.series or references.instances & set(scan.instances):
            return ()
        raise VolumeReadError(
            f"{references.name} belongs to another scan: it refers to other images than those of this series "
            "(SeriesInstanceUID and SOPInstanceUID).",
            _HINT,
        )
    if frame and references.frame_of_reference == frame:
        return (
            f"{references.name} names no series; it was taken to belong to this one, whose frame of reference it has.",
        )
    return (f"{references.name} does not say which scan it was drawn on; it was taken to be this one.",)
