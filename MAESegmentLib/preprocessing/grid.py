"""The network's view of a grid: canonical axis order (exact flips and permutations) and target spacing (resampling)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import ConfigurationError, GeometryError
from ..images.limits import MOST_VOXELS, memory_problem
from ..images.orientation import Reordering
from ..images.volume import Grid

CHECK_UNIT = "Check the unit of its voxel size; if it is right, crop or resample the scan first."


def check_orientation(orientation: str) -> None:
    """Raise `ConfigurationError` unless `orientation` names each anatomical axis once, e.g. "RAS" or "PLI"."""
    axes = [next((pair for pair in ("RL", "AP", "SI") if letter in pair), None) for letter in orientation]
    if len(orientation) != 3 or None in axes or len(set(axes)) != 3:
        raise ConfigurationError(
            f"Orientation {orientation!r} does not name each of R/L, A/P and S/I once.",
            'Use three letters, e.g. "RAS".',
        )


@dataclass(frozen=True, eq=False)
class NetworkGrid:
    """The network's voxels: `shape` (D, H, W) follows `orientation`; they cover the extent of `input_grid`."""

    input_grid: Grid
    orientation: str
    shape: tuple[int, int, int]

    @classmethod
    def fit(cls, input_grid: Grid, orientation: str, spacing: Sequence[float]) -> NetworkGrid:
        """The grid nearest to `spacing` (mm, order of `orientation`) that covers the same extent with whole voxels.

        Raises `GeometryError` if an image of it would be too large.
        """
        check_orientation(orientation)
        native = cls(input_grid, orientation, (1, 1, 1))
        extent = np.array(native.canonical_shape) * native.canonical_spacing
        d, h, w = (max(1, round(float(n))) for n in extent / np.asarray(spacing, dtype=float))
        grid = cls(input_grid, orientation, (d, h, w))
        voxels = math.prod(grid.shape)
        problem = f"at most {MOST_VOXELS:,} are possible" if voxels > MOST_VOXELS else memory_problem(4 * voxels)
        if problem:
            raise GeometryError(
                f"{grid.extent}, which is {by(grid.shape)} = {voxels:,} voxels of {by(spacing)} mm for the network: "
                f"{problem}.",
                CHECK_UNIT,
            )
        return grid

    @property
    def extent(self) -> str:
        """How large the input grid is and why, as the beginning of a sentence."""
        size = by(self.canonical_spacing * self.canonical_shape)
        return f"A voxel of {by(self.canonical_spacing)} mm makes the scan {size} mm large"

    # Asked for every row while labels are restored: cached.
    @cached_property
    def canonical_shape(self) -> tuple[int, int, int]:
        """Shape of the input grid once its axes are in canonical order."""
        d, h, w = (int(self.input_grid.shape[axis]) for axis in self._to_canonical.axes)
        return d, h, w

    @cached_property
    def canonical_spacing(self) -> np.ndarray:
        """Spacing of the input grid in mm in canonical order, (3,)."""
        return self.input_grid.spacing[list(self._to_canonical.axes)]

    @property
    def spacing(self) -> np.ndarray:
        """The network's actual voxel size in mm, (3,): near the requested one, such that the extent is kept."""
        return self.canonical_spacing * np.array(self.canonical_shape) / np.array(self.shape)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """(4, 4) from network voxel indices (d, h, w) to RAS mm."""
        scale = np.array(self.canonical_shape) / np.array(self.shape)
        resample = np.diag([*scale, 1.0])
        resample[:3, 3] = 0.5 * scale - 0.5
        reorder = self._to_canonical.indices(self.input_grid.shape)
        return self.input_grid.ijk_to_ras @ reorder @ resample

    @property
    def resamples(self) -> bool:
        """False when the network sees the input's own voxels, only reordered."""
        return self.shape != self.canonical_shape

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """(..., I, J, K) -> (..., D, H, W) at input resolution; a view, so that writing into it fills `array`."""
        return self._to_canonical.apply(array)

    def resample(self, image: torch.Tensor) -> torch.Tensor:
        """float (D, H, W) at input resolution -> (D, H, W) of `shape`; the same tensor if nothing changes."""
        return resize(image, self.shape)

    @cached_property
    def _to_canonical(self) -> Reordering:
        return Reordering.to(self.orientation, self.input_grid.ijk_to_ras)


def by(numbers: Sequence[float] | np.ndarray) -> str:
    """Lengths or counts along the axes, e.g. "1 x 1 x 2.5"."""
    return " x ".join(f"{number:.6g}" for number in numbers)


def resize(image: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Linear, anti-aliased, extent-keeping resampling of (D, H, W); in two passes, as torch anti-aliases in 2D only."""
    return resize_depth(resize_planes(image, shape[1:]), shape[0])


def resize_planes(image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The first pass of `resize`, (D, H, W) -> (D, *shape), plane by plane."""
    if image.shape[1:] == shape:
        return image
    return F.interpolate(image[None], size=shape, mode="bilinear", align_corners=False, antialias=True)[0]


def resize_depth(image: torch.Tensor, depth: int) -> torch.Tensor:
    """The second pass of `resize`, (D, H, W) -> (depth, H, W)."""
    if image.shape[0] == depth:
        return image
    _, h, w = image.shape
    columns = image.reshape(1, 1, image.shape[0], h * w)
    columns = F.interpolate(columns, size=(depth, h * w), mode="bilinear", align_corners=False, antialias=True)
    return columns.reshape(depth, h, w)
