"""The two kinds of image everything else passes around: a volume and a label map, each with its IJK-to-RAS matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import GeometryError
from .orientation import Reordering, axis_codes

#: Largest |cosine| between two axes that is still taken for rounding in a file header rather than shear.
SHEAR_TOLERANCE = 1e-3
RESAMPLE = (
    "Resample it to a regular grid first (in Slicer: harden the acquisition transform, or Resample Scalar Volume)."
)
#: How far a slice may lie off the regular grid: 1 % of the spacing, or what rounding in the header explains.
_RELATIVE_OFFSET, _ROUNDING_MM, _ROUNDING_AT_MOST = 0.01, 0.06, 0.25


def slice_tolerance(spacing: float) -> float:
    """How far (mm) a slice may lie off the regular grid of slices `spacing` mm apart.

    The one tolerance for reading scans, and for putting on them what was drawn on them.
    """
    return max(_RELATIVE_OFFSET * spacing, min(_ROUNDING_MM, _ROUNDING_AT_MOST * spacing))


#: How far apart (mm) two voxels may lie that are the same to us.
SAME_PLACE_MM = 0.01

#: No scanner is so large; beyond it, the single precision of many headers is coarser than voxels.
FARTHEST_MM = 1e6


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel grid in space. `shape` is (I, J, K); `ijk_to_ras` is (4, 4), mm, column vectors, voxel centres."""

    shape: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along I, J, K in mm, shape (3,)."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def axis_codes(self) -> str:
        """Nearest anatomical direction of each axis, e.g. "RAS" or "LPS"."""
        return axis_codes(self.ijk_to_ras)

    @property
    def is_singular(self) -> bool:
        """Whether voxel positions are undefined: not finite, a zero axis, or axes that do not span space."""
        matrix = np.asarray(self.ijk_to_ras, dtype=float)
        if matrix.shape != (4, 4) or not np.all(np.isfinite(matrix)):
            return True
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        return bool(np.any(spacing < 1e-6)) or abs(float(np.linalg.det(matrix[:3, :3] / spacing))) < 1e-3

    def check(self) -> None:
        """Raise `GeometryError` unless this is a 3D grid: 2 or more voxels an axis, finite, invertible, unsheared."""
        size = " x ".join(map(str, self.shape))
        if min(self.shape) < 1:
            raise GeometryError(
                f"The image is empty: its header says {size} voxels.", "Export the scan again from its source."
            )
        if len(self.shape) != 3 or min(self.shape) < 2:
            raise GeometryError(
                f"The image is a single slice ({size} voxels); a 3D volume is needed.",
                "Load the whole series, not one slice.",
            )
        if self.is_singular:
            raise GeometryError(
                "The image's direction matrix is singular: voxel positions in space are not defined.",
                "Export the scan again from its source, or repair the header (sform/qform).",
            )
        away = float(np.abs(self.ijk_to_ras[:3, 3]).max())
        if away > FARTHEST_MM:
            raise GeometryError(
                f"The image lies {away:.3g} mm from the origin of its space: its header is damaged.",
                "Export the scan again from its source, or repair the header.",
            )
        directions = self.ijk_to_ras[:3, :3] / self.spacing
        gram = np.abs(directions.T @ directions - np.eye(3))
        if gram.max() > SHEAR_TOLERANCE:
            raise GeometryError(
                f"The image grid is sheared by {np.degrees(np.arcsin(min(gram.max(), 1.0))):.1f} degrees "
                "(its axes are not at right angles), as from a tilted CT gantry.",
                RESAMPLE,
            )

    def matches(self, other: Grid, tolerance_mm: float = SAME_PLACE_MM) -> bool:
        """Whether both grids put every voxel at the same place: same shape, corners within `tolerance_mm`."""
        return tuple(self.shape) == tuple(other.shape) and self._distance(other) <= tolerance_mm

    def difference(self, other: Grid, tolerance_mm: float = SAME_PLACE_MM) -> str:
        """What keeps this grid from matching `other`, e.g. "origins differ by 0.02 mm"; "" if they match.

        Figures of this grid come first.
        """
        if self.matches(other, tolerance_mm):
            return ""
        if self.is_singular or other.is_singular:
            return "the voxel positions of one are not defined"
        parts = []
        if tuple(self.shape) != tuple(other.shape):
            parts.append(f"shapes differ ({_by(self.shape)} and {_by(other.shape)} voxels)")
        # A hundredth of the tolerance, over the whole grid, is not worth a word beside what is.
        reach = max(*self.shape, *other.shape, 2) - 1
        negligible = tolerance_mm / 100
        if float(np.abs(self.spacing - other.spacing).max()) * reach > negligible:
            first, second = _told_apart(self.spacing, other.spacing)
            parts.append(f"spacings differ ({first} and {second} mm)")
        parts += self._turned(other, negligible / reach)
        apart = float(np.linalg.norm(self.ijk_to_ras[:3, 3] - other.ijk_to_ras[:3, 3]))
        if apart > negligible:
            parts.append(f"origins differ by {_figure(apart)} mm")
        return "; ".join(parts) or f"voxels lie up to {_figure(self._distance(other))} mm apart"

    def _distance(self, other: Grid) -> float:
        """The largest distance between corners of two grids of one shape, mm."""
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1)
        homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
        difference = (self.ijk_to_ras - other.ijk_to_ras) @ homogeneous
        return float(np.linalg.norm(difference[:3], axis=0).max())

    def _turned(self, other: Grid, negligible_mm: float) -> list[str]:
        if self.axis_codes != other.axis_codes:
            return [f"axes run differently ({self.axis_codes} and {other.axis_codes})"]
        mine, theirs = (grid.ijk_to_ras[:3, :3] / grid.spacing for grid in (self, other))
        # Not by the cosine, which says nothing of small angles.
        chords = np.linalg.norm(mine - theirs, axis=0)
        if not np.any(chords * self.spacing > negligible_mm):
            return []
        degrees = float(np.degrees(2 * np.arcsin(min(chords.max() / 2, 1.0))))
        return [f"axes differ by {_figure(degrees)} degrees"]


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar image: `array` is (C, I, J, K), any real dtype; `ijk_to_ras` as in `Grid`.

    `source` is what the reader wants the writer to know (for DICOM: the instances), opaque to everything between.
    `notes` are sentences for the user about what was put right while reading.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    source: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        i, j, k = self.array.shape[1:]
        return Grid((i, j, k), self.ijk_to_ras)

    def crop(self, block: Sequence[slice]) -> Volume:
        """The part in `block` (I, J, K slices with a start), where it lies in space; shares memory with this one."""
        return Volume(self.array[(slice(None), *block)], _moved(self.ijk_to_ras, block))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label image: `array` is (I, J, K), unsigned integers, 0 = background; `ijk_to_ras` as in `Grid`.

    `source` is what its file says it was drawn on, where a file does (DICOM SEG): see `belonging`. `notes` are what
    the reader decided where the file leaves something open, for the user.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    source: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        i, j, k = self.array.shape
        return Grid((i, j, k), self.ijk_to_ras)

    def crop(self, block: Sequence[slice]) -> LabelMap:
        """As `Volume.crop`."""
        return LabelMap(self.array[tuple(block)], _moved(self.ijk_to_ras, block))

    def with_values(self, values: Mapping[int, int]) -> LabelMap:
        """Old value -> new value; what is not in `values` becomes background."""
        highest = max(int(self.array.max(initial=0)), *values, 0)
        table = np.zeros(highest + 1, np.uint8 if max(values.values(), default=0) < 256 else np.uint16)
        for old, new in values.items():
            table[old] = new
        return LabelMap(table[self.array], self.ijk_to_ras)

    def tolerance_on(self, scan: Grid, *, is_of_slices: bool = False) -> float:
        """How far (mm) these voxels may lie off those of `scan`, to which they belong.

        Readers make different grids of DICOM slices (`is_of_slices`, or what DICOM SEG refers to), whose positions are
        rounded; everything else gives its grid as it is.
        """
        if self.source is None and not is_of_slices:
            return SAME_PLACE_MM
        return max(0.05, slice_tolerance(float(scan.spacing.max())))

    def on_grid(self, grid: Grid, *, is_of_slices: bool = False) -> LabelMap:
        """The same labels on `grid`, padded with background or cropped; its voxels must coincide with this one's.

        Segmentation files often hold only the part around the segments (DICOM SEG, cropped `.seg.nrrd`).
        """
        mapping = np.linalg.inv(grid.ijk_to_ras) @ self.ijk_to_ras
        reordering = Reordering.to("RAS", mapping)
        array = reordering.apply(self.array)
        mapping = mapping @ reordering.indices(self.array.shape)
        offset = np.rint(mapping[:3, 3]).astype(int)
        whole = np.eye(4)
        whole[:3, 3] = offset
        nearest = Grid(array.shape, grid.ijk_to_ras @ whole)
        tolerance = self.tolerance_on(grid, is_of_slices=is_of_slices)
        if difference := Grid(array.shape, grid.ijk_to_ras @ mapping).difference(nearest, tolerance):
            raise GeometryError(
                f"The segmentation's voxels do not coincide with the scan's: {difference}.",
                "Resample it to the scan (in Slicer: set the scan as source geometry), then save it again.",
            )
        target = np.zeros(grid.shape, dtype=array.dtype)
        start, stop = np.maximum(offset, 0), np.minimum(offset + array.shape, grid.shape)
        if np.all(stop > start):
            inside = tuple(slice(a, b) for a, b in zip(start - offset, stop - offset, strict=True))
            target[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = array[inside]
        if np.count_nonzero(target) < np.count_nonzero(array):
            raise GeometryError(
                "Parts of the segmentation lie outside the scan.", "Check that the two belong together."
            )
        return LabelMap(target, grid.ijk_to_ras, self.source)


def _by(values: Sequence[object]) -> str:
    return " x ".join(map(str, values))


def _told_apart(first: np.ndarray, second: np.ndarray) -> tuple[str, str]:
    """Both as text, with as many digits as it takes to see the difference."""
    for digits in range(4, 16):
        texts = tuple(_by([f"{value:.{digits}g}" for value in values]) for values in (first, second))
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _moved(ijk_to_ras: np.ndarray, block: Sequence[slice]) -> np.ndarray:
    """The matrix of the part of a grid that begins where `block` does."""
    shift = np.eye(4)
    shift[:3, 3] = [part.start for part in block]
    moved: np.ndarray = ijk_to_ras @ shift
    return moved
