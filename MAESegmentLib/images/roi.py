"""A box in space to which a segmentation is confined."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import ConfigurationError, GeometryError, reason_of
from .volume import Grid

Corner = tuple[float, float, float]
_SAVE_ROI = "Save one ROI of 3D Slicer as .mrk.json, or give R0,R1,A0,A1,S0,S1 in mm."


@dataclass(frozen=True)
class Roi:
    """Axis-aligned box in RAS mm."""

    minimum: tuple[float, float, float]
    maximum: tuple[float, float, float]

    def __post_init__(self) -> None:
        bounds = (*self.minimum, *self.maximum)
        if len(bounds) != 6 or not np.all(np.isfinite(bounds)):
            raise ConfigurationError(f"ROI bounds {bounds} are not six finite numbers.")
        if any(low >= high for low, high in zip(self.minimum, self.maximum, strict=True)):
            raise ConfigurationError(
                f"The ROI is empty: its lower bounds {self.minimum} are not all below its upper bounds {self.maximum}.",
                "Give R0,R1,A0,A1,S0,S1 in mm with R0 < R1, A0 < A1, S0 < S1.",
            )

    @classmethod
    def of(cls, box: Roi | str | os.PathLike[str] | Sequence[float]) -> Roi:
        """From R0, R1, A0, A1, S0, S1 in mm: six numbers, text with commas, or the .mrk.json of an ROI that 3D Slicer
        saved. A box stays as it is.

        Raises `ConfigurationError` if it is neither, or empty.

        >>> Roi.of((-40, -5, -45, 0, -35, 10)) == Roi.of("-40,-5,-45,0,-35,10")
        True
        """
        if isinstance(box, Roi):
            return box
        if isinstance(box, os.PathLike):
            box = os.fspath(box)
        if isinstance(box, str) and box.lower().endswith(".json"):
            return cls(*_corners_in_file(Path(box)))
        try:
            numbers = [float(part) for part in (box.split(",") if isinstance(box, str) else box)]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != 6:
            raise ConfigurationError(
                f"ROI {box!r} is not six numbers.",
                "Give R0,R1,A0,A1,S0,S1 in mm, e.g. -40,-5,-45,0,-35,10, or the .mrk.json of an ROI.",
            )
        r0, r1, a0, a1, s0, s1 = numbers
        return cls((r0, a0, s0), (r1, a1, s1))

    @property
    def bounds(self) -> tuple[float, float, float, float, float, float]:
        """R0, R1, A0, A1, S0, S1 in mm."""
        (r0, a0, s0), (r1, a1, s1) = self.minimum, self.maximum
        return r0, r1, a0, a1, s0, s1

    def voxels(self, grid: Grid) -> tuple[slice, slice, slice]:
        """The smallest block of voxels of `grid` (I, J, K) that holds every voxel whose centre is within the box."""
        corners = np.array([*product(*zip(self.minimum, self.maximum, strict=True))])
        to_ijk = np.linalg.inv(grid.ijk_to_ras)
        ijk = corners @ to_ijk[:3, :3].T + to_ijk[:3, 3]
        low = np.maximum(np.ceil(ijk.min(axis=0) - 1e-6), 0).astype(int)
        high = np.minimum(np.floor(ijk.max(axis=0) + 1e-6) + 1, grid.shape).astype(int)
        if np.any(high - low < 2):
            first, last = _bounds(grid)
            raise GeometryError(
                "The ROI lies outside the volume, or holds less than two voxels along an axis.",
                f"The volume spans {_span(first, last)} mm.",
            )
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return i, j, k

    def holds(self, grid: Grid, block: tuple[slice, slice, slice]) -> npt.NDArray[np.bool_]:
        """Whether the centre of each voxel in `block` (I, J, K) lies in the box, which in an oblique scan is not
        so of all `voxels`."""
        i, j, k = np.ogrid[block]
        held = np.ones([part.stop - part.start for part in block], dtype=bool)
        for row, low, high in zip(grid.ijk_to_ras[:3], self.minimum, self.maximum, strict=True):
            position = row[0] * i + row[1] * j + row[2] * k + row[3]
            held &= (position >= low - 1e-6) & (position <= high + 1e-6)
        return held

    def planes_outside(self, grid: Grid) -> Iterator[tuple[tuple[int, slice, slice], npt.NDArray[np.bool_]]]:
        """Planes (I, J, K) of `voxels` that lie outside the box in part, and where they do: masks (J, K)."""
        i, j, k = self.voxels(grid)
        for index in range(i.start, i.stop):
            (outside,) = ~self.holds(grid, (slice(index, index + 1), j, k))
            if outside.any():
                yield (index, j, k), outside


@dataclass(frozen=True)
class Block(Roi):
    """Voxels of one grid: a box along its axes. Around a box along R, A, S there are more of them in an oblique scan,
    and again more in another box around those. `minimum` and `maximum` are of the RAS box around it."""

    block: tuple[slice, slice, slice]

    @classmethod
    def of_voxels(cls, grid: Grid, block: tuple[slice, slice, slice]) -> Block:
        edges = [(one.start - 0.5, one.stop - 0.5) for one in block]
        corners = np.array([*product(*edges)]) @ grid.ijk_to_ras[:3, :3].T + grid.ijk_to_ras[:3, 3]
        (r0, a0, s0), (r1, a1, s1) = (map(float, side) for side in (corners.min(axis=0), corners.max(axis=0)))
        return cls((r0, a0, s0), (r1, a1, s1), block)

    def voxels(self, grid: Grid) -> tuple[slice, slice, slice]:
        """Of the grid that it was made for."""
        del grid
        return self.block

    def planes_outside(self, grid: Grid) -> Iterator[tuple[tuple[int, slice, slice], npt.NDArray[np.bool_]]]:
        """None: the box is that of the voxels."""
        del grid
        yield from ()


def _corners_in_file(path: Path) -> tuple[Corner, Corner]:
    """Of the box along the axes around the one ROI in a markups file of 3D Slicer, which may be turned."""
    try:
        markups = json.loads(path.read_text(encoding="utf-8"))["markups"]
        (roi,) = (one for one in markups if one["type"] == "ROI")
        turn = np.array(roi.get("orientation", np.eye(3)), np.float64).reshape(3, 3)
        half = np.abs(turn) @ (np.array(roi["size"], np.float64) / 2)
        to_ras = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1)}[roi.get("coordinateSystem", "LPS")]
        centre = np.array(roi["center"], np.float64) * to_ras
        if not {*np.ravel(roi.get("coordinateUnits", "mm"))} <= {"mm"}:
            raise ValueError("lengths in another unit")
        (r0, a0, s0), (r1, a1, s1) = centre - half, centre + half
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {reason_of(error)}.", _SAVE_ROI) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} does not hold one ROI in mm, LPS or RAS.", _SAVE_ROI) from error
    return (float(r0), float(a0), float(s0)), (float(r1), float(a1), float(s1))


def _bounds(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([*product(*[(0, n - 1) for n in grid.shape])])
    ras = corners @ grid.ijk_to_ras[:3, :3].T + grid.ijk_to_ras[:3, 3]
    return ras.min(axis=0), ras.max(axis=0)


def _span(first: np.ndarray, last: np.ndarray) -> str:
    return ", ".join(f"{axis} {a:.0f} to {b:.0f}" for axis, a, b in zip("RAS", first, last, strict=True))
