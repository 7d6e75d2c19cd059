"""Structures as contours in space (RTSTRUCT), which become voxels on the grid of the scan that they were drawn on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....errors import GeometryError
from ...labels import Label
from ...volume import Grid, LabelMap, slice_tolerance
from ..contours import enclosed
from ..decoding import LPS_TO_RAS
from ..overlapping import paint

_BELONG = "Check that the two belong together: give the series that it was drawn on, or leave the structure out."
#: Of a structure with so many slices and none beside another, the others were left to be interpolated.
_FEWEST_SPARSE = 3


@dataclass(frozen=True, eq=False)
class StructureSet:
    """`contours` (N, 3), closed, in LPS mm, by the values of `labels`; a structure may have none.

    `source` is what the file says it was drawn on; see `belonging`. `notes` are for the user.
    """

    name: str
    labels: tuple[Label, ...]
    contours: Mapping[int, Sequence[np.ndarray]]
    source: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def drawn(self) -> tuple[Label, ...]:
        """Those that have contours: files list all structures of a template."""
        return tuple(label for label in self.labels if self.contours.get(label.value))

    def on_grid(self, grid: Grid, leave_out: Collection[int] = ()) -> tuple[LabelMap, tuple[str, ...]]:
        """The structures but those of the values `leave_out` on the slices of `grid`, and what to know about that.

        A voxel is in a structure if an odd number of its contours enclose the voxel's centre; where structures overlap,
        in the smallest. `GeometryError` for contours that lie beside or between the slices, or on every other one only.
        """
        kind = np.uint8 if len(self.labels) < 256 else np.uint16
        kept = [label for label in self.drawn() if label.value not in leave_out]
        if not kept:
            return LabelMap(np.zeros(grid.shape, kind), grid.ijk_to_ras, self.source), self.notes
        to_ijk = np.linalg.inv(grid.ijk_to_ras) @ LPS_TO_RAS
        placed = {
            label: [points @ to_ijk[:3, :3].T + to_ijk[:3, 3] for points in self.contours[label.value]]
            for label in kept
        }
        axis = self._plane(grid, placed)
        columns, rows = (size for number, size in enumerate(grid.shape) if number != axis)
        notes = list(self.notes)
        filled = {}
        for label, contours in placed.items():
            slices = self._slices(label, contours, grid, axis)
            notes += self._gaps(label, sorted(slices))
            filled[label], said = _filled(slices, (columns, rows))
            notes += [f"{self.name}: {label.name!r}: {one}" for one in said]
        painted = np.zeros((grid.shape[axis], columns, rows), kind)
        notes += self._paint(painted, filled)
        array = np.ascontiguousarray(np.moveaxis(painted, 0, axis))
        return LabelMap(array, grid.ijk_to_ras, self.source), tuple(notes)

    def _plane(self, grid: Grid, placed: Mapping[Label, Sequence[np.ndarray]]) -> int:
        """The axis of `grid` along which every contour has one place."""
        extents = {
            label: np.max([np.ptp(points, axis=0) for points in contours], axis=0) * grid.spacing
            for label, contours in placed.items()
        }
        axis = int(np.argmin(np.max(list(extents.values()), axis=0)))
        for label, extent in extents.items():
            if extent[axis] > _tolerance(grid, axis):
                raise GeometryError(
                    f"{self.name}: contours of {label.name!r} do not lie in slices of this scan: they cross them over "
                    f"{extent[axis]:.3g} mm.",
                    _BELONG,
                )
        return axis

    def _slices(
        self, label: Label, contours: Sequence[np.ndarray], grid: Grid, axis: int
    ) -> dict[int, list[np.ndarray]]:
        """Contours (N, 2) by the number of their slice."""
        slices: dict[int, list[np.ndarray]] = {}
        size = np.delete(grid.shape, axis)
        for points in contours:
            place = float(points[:, axis].mean())
            number = round(place)
            off = abs(place - number) * grid.spacing[axis]
            if off > _tolerance(grid, axis):
                raise GeometryError(
                    f"{self.name}: {label.name!r} was drawn between the slices of this scan, {off:.3g} mm off the "
                    "nearest.",
                    _BELONG,
                )
            across = np.delete(points, axis, axis=1)
            if not 0 <= number < grid.shape[axis] or np.any(across < -1) or np.any(across > size):
                raise GeometryError(f"{self.name}: parts of {label.name!r} lie outside the scan.", _BELONG)
            slices.setdefault(number, []).append(across)
        return slices

    def _gaps(self, label: Label, numbers: Sequence[int]) -> list[str]:
        """What to say of slices without contours between others."""
        steps = np.diff(numbers)
        if len(numbers) >= _FEWEST_SPARSE and steps.min() > 1:
            raise GeometryError(
                f"{self.name}: {label.name!r} is drawn on single slices of this scan only, {steps.min()} or more "
                "apart; what it is between them is not in the file.",
                "Interpolate it where it was drawn and export it again, or leave it out.",
            )
        extent = numbers[-1] - numbers[0] + 1
        if extent == len(numbers):
            return []
        return [
            f"{self.name}: {label.name!r} has no contour on {extent - len(numbers)} of the {extent} slices that it "
            "extends over; there, it was read as absent."
        ]

    def _paint(self, array: np.ndarray, filled: Mapping[Label, Mapping[int, np.ndarray]]) -> list[str]:
        """Put the structures into `array` (K, I, J), the smallest last; says which overlap, and which have no voxel."""
        sizes = {label: sum(int(places.size) for places in slices.values()) for label, slices in filled.items()}
        drawn = sorted((label for label in filled if sizes[label]), key=lambda one: -sizes[one])
        area = array[0].size
        flat = (
            (label, np.concatenate([number * area + places for number, places in filled[label].items()]))
            for label in drawn
        )
        return [
            *paint(array, self.name, flat),
            *(
                f"{self.name}: {label.name!r} is too small for the scan: it encloses no voxel's centre."
                for label in filled
                if not sizes[label]
            ),
        ]


def _tolerance(grid: Grid, axis: int) -> float:
    return max(0.05, slice_tolerance(float(grid.spacing[axis])))


def _filled(
    slices: Mapping[int, Sequence[np.ndarray]], shape: tuple[int, int]
) -> tuple[dict[int, np.ndarray], list[str]]:
    """The voxels inside, by slice, as flat indices; and what to know about them."""
    filled, crossing, repeated = {}, 0, 0
    for number, given in slices.items():
        contours = list({points.tobytes(): points for points in given}.values())
        repeated += len(given) - len(contours)
        try:
            filled[number] = np.flatnonzero(enclosed(contours, shape))
            crossing += len(contours) > 1 and _cross(contours, shape)
        except ValueError as error:
            raise GeometryError(f"A contour is damaged: {error}.", "Export it again, or leave it out.") from error
    notes = [f"{repeated} contours are there twice, and were read once."] if repeated else []
    if crossing:
        notes.append(
            f"contours cross each other on {crossing} slices; what two of them enclose was read as outside, as a hole."
        )
    return filled, notes


def _cross(contours: Sequence[np.ndarray], shape: tuple[int, int]) -> bool:
    """Whether some are neither inside nor outside another, of the voxels they enclose."""
    masks = sorted((enclosed([points], shape) for points in contours), key=lambda mask: -np.count_nonzero(mask))
    depth = np.zeros(shape, np.int32)
    for mask in masks:
        inside = depth[mask]
        if inside.size and inside.min() != inside.max():
            return True
        depth += mask
    return False
