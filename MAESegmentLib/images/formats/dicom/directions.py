"""The directions of a DICOM stack: unit vectors at right angles, whatever rounding in its header made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....errors import GeometryError, VolumeReadError
from ...volume import RESAMPLE, SHEAR_TOLERANCE, slice_tolerance

_EXPORT = "Export the complete series again from the archive (PACS)."
#: How far a direction may be from unit length: what rounding to one decimal explains.
_LENGTH_TOLERANCE = 0.1
#: Beyond this difference it is said.
_LENGTH_SAID = 1e-3
#: The most (radians) that is put down to rounding: what two decimals explain.
_MOST_TURNED = 0.02


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
            _EXPORT,
        )
    row, column = vectors / lengths[:, None]
    rounding = _rounding(values)
    cosine = float(row @ column)
    if abs(cosine) > max(SHEAR_TOLERANCE, 2 * min(rounding, _MOST_TURNED / 2)):
        raise VolumeReadError(
            f"{name}: its ImageOrientationPatient is malformed: its two directions are "
            f"{np.degrees(np.arcsin(min(abs(cosine), 1.0))):.2g} degrees off a right angle.",
            _EXPORT,
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


def straightened(
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
