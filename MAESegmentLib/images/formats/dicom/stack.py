"""From the frames of one DICOM series to one regular grid, or the reason why they do not make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ....errors import GeometryError, VolumeReadError
from ...limits import check_size
from ...volume import RESAMPLE, SHEAR_TOLERANCE, Grid, slice_tolerance
from ..decoding import LPS_TO_RAS, named
from .headers import Instance, Plane

#: With two files a missing one between them could not be noticed; one file of two frames is complete.
_FEWEST_SLICES = 3
_COMPLETE_EXPORT = "Export the complete series again from the archive (PACS)."
_ONE_FRAME = "Export or pick one phase (in 3D Slicer: load with the MultiVolume importer, choose one frame, save it)."
_ONE_FILE = "Each file may be a volume of its own: copy the one that is meant to a folder of its own, and give that."
_PIXEL_SPACING_TOLERANCE = 1e-3  # relative
_DIRECTION_TOLERANCE = 1e-3
#: How far a direction may be from unit length: what rounding to one decimal explains.
_LENGTH_TOLERANCE = 0.1
#: Beyond this difference it is said.
_LENGTH_SAID = 1e-3
#: The most (radians) that is put down to rounding: what two decimals explain.
_MOST_TURNED = 0.02


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame of a file: the whole of a single-frame one."""

    instance: Instance
    index: int
    plane: Plane

    def name(self, other: Slice) -> str:
        """For messages about it and `other`."""
        frame = f" (frame {self.index + 1})" if self.instance.frames > 1 else ""
        return _place(self.instance, other.instance) + frame


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Frames in slice order (along the normal of the slices) and their grid; `notes` say what had to be assumed."""

    slices: tuple[Slice, ...]
    grid: Grid
    notes: tuple[str, ...] = ()


def stack_slices(name: str, instances: Sequence[Instance]) -> SliceStack:
    """Check the images of one series and order their frames; `name` is the series for messages."""
    _check_one_scan(name, instances)
    slices = _slices(name, instances)
    _check_alike(name, slices)
    directions = directions_of(name, np.asarray(slices[0].plane.orientation))
    normal = directions.normal
    heights = np.array([one.plane.position for one in slices]) @ normal
    ordered = [slices[index] for index in np.argsort(heights, kind="stable")]
    positions = np.array([one.plane.position for one in ordered])
    _check_duplicates(name, ordered, positions @ normal)
    if len(ordered) < (_FEWEST_SLICES if len(instances) > 1 or instances[0].frames == 1 else 2):
        raise VolumeReadError(
            f"{name} has only {len(ordered)} slice(s); at least {_FEWEST_SLICES} are needed for a 3D volume.",
            _COMPLETE_EXPORT,
        )
    origin, step = fit_line(np.arange(len(ordered)), positions)
    _check_even(name, ordered, positions, origin + np.arange(len(ordered))[:, None] * step, normal)
    origin, step, directions = _straightened(name, origin, step, directions, len(ordered))
    between_rows, between_columns = np.asarray(slices[0].plane.pixel_spacing)
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3] = np.column_stack([directions.row * between_columns, directions.column * between_rows, step, origin])
    grid = Grid((instances[0].columns, instances[0].rows, len(ordered)), LPS_TO_RAS @ ijk_to_lps)
    check_size(name, grid.shape, 4)
    with named(name):
        grid.check()
    return SliceStack(tuple(ordered), grid, directions.notes)


def fit_line(index: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of number 0, and step, of the evenly spaced points nearest to `positions` (K, 3), by least squares.

    `index` (K,) are their numbers, of which two at least differ if K > 1.
    """
    centred = index - index.mean()
    step = centred @ positions / max(float(centred @ centred), 1e-12)
    return positions.mean(axis=0) - index.mean() * step, step


def _check_one_scan(name: str, instances: Sequence[Instance]) -> None:
    """One patient, study, frame of reference and modality: compared, never assumed. Nothing said by any is equal.

    Dates, which help where identifiers were removed, are compared between the images that have them.
    """
    fields: Sequence[tuple[str, str, Callable[[Instance], str]]] = (
        ("PatientID", "patients", lambda one: one.identity.patient_id),
        ("PatientName", "patients", lambda one: _plain_name(one.identity.patient_name)),
        ("StudyInstanceUID", "studies", lambda one: one.identity.study_uid),
        ("FrameOfReferenceUID", "frames of reference", lambda one: one.identity.frame_of_reference),
        ("Modality", "modalities", lambda one: one.identity.modality),
        ("PatientBirthDate", "patients", lambda one: one.identity.birth_date),
        ("StudyDate", "studies", lambda one: "" if one.identity.study_uid else one.identity.study_date),
    )
    for attribute, of_what, value in fields:
        compared = [one for one in instances if value(one)] if attribute.endswith("Date") else instances
        other = next((one for one in compared if value(one) != value(compared[0])), None)
        if other is not None:
            # Neither names nor numbers of patients: what this says may end up in a table or a log.
            raise VolumeReadError(
                f"{name} mixes images of different {of_what}: {attribute} is not the same in "
                f"{_place(compared[0], other)} and {_place(other, compared[0])}, which were taken for one series.",
                "Give the folder of one of them alone, or export each as a series of its own.",
            )


def _plain_name(name: str) -> str:
    """Without what two ways of writing the same name differ in."""
    return " ".join(name.replace("^", " ").replace("=", " ").split()).casefold()


def _place(instance: Instance, other: Instance) -> str:
    """The file's name, with its folder if the other one lies elsewhere."""
    path = instance.path
    return path.name if path.parent == other.path.parent else f"{path.parent.name}/{path.name}"


def _slices(name: str, instances: Sequence[Instance]) -> list[Slice]:
    """Every frame, all of them grey-value images that say where they lie and are of one size."""
    if any(instance.is_colour for instance in instances):
        raise VolumeReadError(
            f"{name} is a colour image; the models need grey values.", "Choose the original scan rather than a capture."
        )
    _check_placed(name, instances)
    sizes = sorted({(instance.columns, instance.rows) for instance in instances})
    if len(sizes) > 1:
        raise VolumeReadError(
            f"{name} mixes slices of different sizes: {', '.join(f'{i} x {j}' for i, j in sizes)} pixels.",
            _COMPLETE_EXPORT,
        )
    return [Slice(one, index, plane) for one in instances for index, plane in enumerate(one.planes)]


def _check_placed(name: str, instances: Sequence[Instance]) -> None:
    """Every frame says where it lies."""
    for one in instances:
        if one.n_groups and one.n_groups != one.frames:
            raise VolumeReadError(
                f"{name}: {one.path.name} contradicts itself: NumberOfFrames is {one.frames}, but its functional "
                f"groups describe {one.n_groups}.",
                _COMPLETE_EXPORT,
            )
        malformed = next((plane.malformed for plane in one.planes if plane.malformed), "")
        if malformed:
            raise VolumeReadError(
                f"{name}: where {one.path.name} lies in the patient is not known: {malformed}.", _COMPLETE_EXPORT
            )
    lost = sum(not all(plane.is_known for plane in one.planes) or not one.planes for one in instances)
    if lost:
        raise VolumeReadError(
            f"{name}: {lost} of {len(instances)} images do not say where they lie in the "
            "patient (position, orientation or pixel spacing is missing).",
            "Choose the original scan rather than a screenshot or secondary capture.",
        )


def _check_alike(name: str, slices: Sequence[Slice]) -> None:
    """All slices have one direction and pixel spacing."""
    orientations = np.array([one.plane.orientation for one in slices])
    if np.abs(orientations - orientations[0]).max() > _DIRECTION_TOLERANCE:
        raise VolumeReadError(
            f"{name} has slices in different directions (a localizer, or several stacks in one series).",
            "Choose the series with the scan itself, or split the stacks on export.",
        )
    spacings = np.array([one.plane.pixel_spacing for one in slices])
    if np.any(np.abs(spacings / spacings[0] - 1) > _PIXEL_SPACING_TOLERANCE):
        raise VolumeReadError(
            f"{name} mixes slices of different pixel spacing ({spacings.min():.4g} to {spacings.max():.4g} mm).",
            _COMPLETE_EXPORT,
        )


def _names(ordered: Sequence[Slice], index: int) -> tuple[str, str]:
    """Of a slice and the next one."""
    a, b = ordered[index], ordered[index + 1]
    return a.name(b), b.name(a)


def _check_duplicates(name: str, ordered: Sequence[Slice], heights: np.ndarray) -> None:
    gaps = np.diff(heights)
    same = np.flatnonzero(gaps <= 0.05 * gaps.max(initial=0))
    if same.size:
        first = int(same[0])
        a, b = _names(ordered, first)
        files = {one.instance.path for one in ordered[first : first + 2] if one.instance.frames > 1}
        raise VolumeReadError(
            f"{name} has {same.size} slice position(s) more than once (e.g. {a} and {b}): "
            "several phases, echoes or b-values, or an export mixed with an older one.",
            _ONE_FILE if len(files) > 1 else _ONE_FRAME,
        )


def _check_even(
    name: str, ordered: Sequence[Slice], positions: np.ndarray, expected: np.ndarray, normal: np.ndarray
) -> None:
    """Every slice lies where the regular grid expects it."""
    gaps = np.diff(positions @ normal)
    typical = float(np.median(gaps))
    offset = np.linalg.norm(positions - expected, axis=1).max()
    if offset <= slice_tolerance(typical):
        return
    worst = int(np.argmax(np.abs(gaps - typical)))
    a, b = _names(ordered, worst)
    missing = round(float(gaps[worst]) / typical) - 1
    if missing >= 1 and abs(gaps[worst] - (missing + 1) * typical) < 0.1 * typical:
        raise VolumeReadError(
            f"{name} is incomplete: {missing} slice(s) missing between {a} and {b} "
            f"(gap {gaps[worst]:.4g} mm, elsewhere {typical:.4g} mm).",
            _COMPLETE_EXPORT,
        )
    raise VolumeReadError(
        f"{name} has unevenly spaced slices: {gaps.min():.4g} to {gaps.max():.4g} mm (between {a} and {b} "
        f"{gaps[worst]:.4g} mm).",
        "If slices are missing, export the series again; otherwise resample it to even spacing first.",
    )


# --- directions: unit vectors at right angles, whatever rounding in the header made of them ---------------------------


@dataclass(frozen=True, eq=False)
class Directions:
    """Unit vectors (LPS, (3,)) along a row and along a column, from values of `rounding` (radians) at most.

    `notes` say what had to be assumed.
    """

    row: np.ndarray
    column: np.ndarray
    rounding: float
    notes: tuple[str, ...] = ()

    @property
    def normal(self) -> np.ndarray:
        normal: np.ndarray = np.cross(self.row, self.column)
        return normal / np.linalg.norm(normal)

    def turned_to(self, normal: np.ndarray) -> Directions:
        """The nearest ones whose normal is `normal` (unit vector)."""
        row = self.row - (self.row @ normal) * normal
        row /= np.linalg.norm(row)
        degrees = np.degrees(np.arccos(min(float(self.normal @ normal), 1.0)))
        note = (
            f"the directions in ImageOrientationPatient are rounded, and were turned by {degrees:.2g} degrees to that "
            "of the positions of its slices."
        )
        return Directions(row, np.cross(normal, row), self.rounding, (*self.notes, note))


def directions_of(name: str, orientation: np.ndarray) -> Directions:
    """From ImageOrientationPatient (6,); PixelSpacing alone says how large voxels are.

    Raises `VolumeReadError` for vectors that are none of unit length at a right angle, rounding apart.
    """
    values = np.asarray(orientation, dtype=float)
    vectors = values.reshape(2, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    off = float(np.abs(lengths - 1).max())
    if off > _LENGTH_TOLERANCE:
        raise VolumeReadError(
            f"{name}: its ImageOrientationPatient is malformed: its two directions are {lengths[0]:.4g} and "
            f"{lengths[1]:.4g} long instead of 1.",
            _COMPLETE_EXPORT,
        )
    row, column = vectors / lengths[:, None]
    rounding = _rounding(values)
    cosine = float(row @ column)
    if abs(cosine) > max(SHEAR_TOLERANCE, 2 * min(rounding, _MOST_TURNED / 2)):
        raise VolumeReadError(
            f"{name}: its ImageOrientationPatient is malformed: its two directions are "
            f"{np.degrees(np.arcsin(min(abs(cosine), 1.0))):.2g} degrees off a right angle.",
            _COMPLETE_EXPORT,
        )
    notes = []
    if off > _LENGTH_SAID or abs(cosine) > SHEAR_TOLERANCE:
        notes.append(
            f"the directions in ImageOrientationPatient are rounded ({lengths[0]:.4g} and {lengths[1]:.4g} long) and "
            "were made 1 long and at right angles: the scan may be turned by a fraction of a degree."
        )
    if abs(cosine) > SHEAR_TOLERANCE:  # half of it from either
        row, column = row - cosine / 2 * column, column - cosine / 2 * row
        column -= (row @ column) / (row @ row) * row
        row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    return Directions(row, column, rounding, tuple(notes))


def _straightened(
    name: str, origin: np.ndarray, step: np.ndarray, directions: Directions, count: int
) -> tuple[np.ndarray, np.ndarray, Directions]:
    """`origin`, `step` of `count` slices and their directions, at right angles.

    The slices are moved onto the normal if that moves none by more than their tolerance; else the directions are
    turned, as far as their rounding explains. Raises `GeometryError` for a stack that leans by more.
    """
    normal = directions.normal
    distance = float(step @ normal)
    straight = distance * normal
    aside = float(np.linalg.norm(step - straight))
    if aside * (count - 1) <= slice_tolerance(distance):
        return origin + (step - straight) * (count - 1) / 2, straight, directions
    if aside > min(directions.rounding, _MOST_TURNED / 2) * distance:
        angle = float(np.degrees(np.arctan2(aside, distance)))
        raise GeometryError(
            f"{name}: its slices are shifted against each other, {aside * (count - 1):.2g} mm over the stack: the grid "
            f"is sheared by {angle:{'.1f' if angle > 0.95 else '.2g'}} degrees, as from a tilted CT gantry.",
            RESAMPLE,
        )
    return origin, step, directions.turned_to(step / np.linalg.norm(step))


def _rounding(values: np.ndarray) -> float:
    """How far (radians) directions may be off by the few decimals that they are written with."""
    for decimals in range(1, 7):
        if np.allclose(values, np.round(values, decimals), rtol=0, atol=1e-9):
            # Along the axes they are exact.
            is_exact = np.array_equal(np.abs(values), np.round(np.abs(values)))
            return 0.0 if is_exact else 10.0**-decimals
    return 1e-6
