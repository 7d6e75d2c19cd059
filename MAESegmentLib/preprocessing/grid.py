"""The network's view of a grid: canonical axis order (exact flips and permutations) and target spacing (resampling)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ..errors import ConfigurationError, GeometryError
from ..images.limits import MOST_VOXELS, memory_problem
from ..images.orientation import Reordering
from ..images.volume import Grid

#: Voxels of a resampled axis whose weights make one matrix.
_BAND = 16

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

    def resample(self, image: np.ndarray) -> np.ndarray:
        """float32 (D, H, W) at input resolution -> (D, H, W) of `shape`; the same array if nothing changes."""
        return resize(image, self.shape)

    @cached_property
    def _to_canonical(self) -> Reordering:
        return Reordering.to(self.orientation, self.input_grid.ijk_to_ras)


def by(numbers: Sequence[float] | np.ndarray) -> str:
    """Lengths or counts along the axes, e.g. "1 x 1 x 2.5"."""
    return " x ".join(f"{number:.6g}" for number in numbers)


def resize(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Linear, anti-aliased, extent-keeping resampling of float32 (D, H, W)."""
    return resize_depth(resize_planes(image, shape[1:]), shape[0])


def resize_planes(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The first pass of `resize`, (D, H, W) -> (D, *shape)."""
    height, width = shape
    depth, rows, columns = image.shape
    if columns != width:
        narrow = np.empty((depth, rows, width), np.float32)
        for outputs, inputs, weights in _bands(columns, width):
            np.matmul(image[:, :, inputs], weights.T, out=narrow[:, :, outputs])
        image = narrow
    if rows != height:
        low = np.empty((depth, height, width), np.float32)
        for outputs, inputs, weights in _bands(rows, height):
            np.matmul(weights, image[:, inputs], out=low[:, outputs])
        image = low
    return image


def resize_depth(image: np.ndarray, depth: int) -> np.ndarray:
    """The second pass of `resize`, (D, H, W) -> (depth, H, W)."""
    if len(image) == depth:
        return image
    columns = image.reshape(len(image), -1)
    result = np.empty((depth, columns.shape[1]), np.float32)
    for outputs, inputs, weights in _bands(len(image), depth):
        np.matmul(weights, columns[inputs], out=result[outputs])
    return result.reshape(depth, *image.shape[1:])


@lru_cache(maxsize=16)
def _bands(size: int, size_out: int) -> list[tuple[slice, slice, np.ndarray]]:
    """Of a few voxels of the result each: which these are, which of the input they are made of, and the weights.

    The weights are those of torch's anti-aliased interpolation, in its precision. As products of small matrices they
    take no longer than there.
    """
    scale = np.float32(size / size_out)
    reach = max(scale, np.float32(1))
    centre = scale * (np.arange(size_out, dtype=np.float32) + np.float32(0.5))
    first = np.maximum((centre - reach + np.float32(0.5)).astype(int), 0)
    stop = np.minimum((centre + reach + np.float32(0.5)).astype(int), size)
    bands = []
    for begin in range(0, size_out, _BAND):
        outputs = slice(begin, min(begin + _BAND, size_out))
        inputs = slice(int(first[outputs].min()), int(stop[outputs].max()))
        voxels = np.arange(inputs.start, inputs.stop)
        distance = (voxels.astype(np.float32) - centre[outputs, None] + np.float32(0.5)) / reach
        inside = (voxels >= first[outputs, None]) & (voxels < stop[outputs, None])
        weights = np.where(inside, np.maximum(np.float32(1) - np.abs(distance), np.float32(0)), np.float32(0))
        bands.append((outputs, inputs, weights / weights.sum(axis=1, keepdims=True, dtype=np.float32)))
    return bands
