"""The network's view of a grid: canonical axis order (exact flips and permutations) and target spacing (resampling)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel.orientations as orientations
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import ConfigurationError
from ..images.volume import Grid


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
        """The grid nearest to `spacing` (mm, order of `orientation`) that covers the same extent with whole voxels."""
        check_orientation(orientation)
        native = cls(input_grid, orientation, (1, 1, 1))
        extent = np.array(native.canonical_shape) * native.canonical_spacing
        d, h, w = (max(1, round(float(n))) for n in extent / np.asarray(spacing, dtype=float))
        return cls(input_grid, orientation, (d, h, w))

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        """Shape of the input grid once its axes are in canonical order."""
        permutation = np.argsort(self._to_canonical[:, 0])
        d, h, w = (int(self.input_grid.shape[int(axis)]) for axis in permutation)
        return d, h, w

    @property
    def canonical_spacing(self) -> np.ndarray:
        """Spacing of the input grid in mm in canonical order, (3,)."""
        return self.input_grid.spacing[np.argsort(self._to_canonical[:, 0])]

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
        reorder = orientations.inv_ornt_aff(self._to_canonical, self.input_grid.shape)
        return self.input_grid.ijk_to_ras @ reorder @ resample

    @property
    def resamples(self) -> bool:
        """False when the network sees the input's own voxels, only reordered."""
        return self.shape != self.canonical_shape

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """(..., I, J, K) -> (..., D, H, W) at input resolution; a view, so that writing into it fills `array`."""
        return _reorder(array, self._to_canonical)

    def from_canonical(self, array: np.ndarray) -> np.ndarray:
        """Inverse of `to_canonical`; a view."""
        inverse = orientations.ornt_transform(orientations.axcodes2ornt(self.orientation), self._input_orientation)
        return _reorder(array, inverse)

    def resample(self, image: torch.Tensor) -> torch.Tensor:
        """float (D, H, W) at input resolution -> (D, H, W) of `shape`; the same tensor if nothing changes."""
        return resize(image, self.shape)

    @property
    def _input_orientation(self) -> np.ndarray:
        return orientations.io_orientation(self.input_grid.ijk_to_ras)

    @property
    def _to_canonical(self) -> np.ndarray:
        return orientations.ornt_transform(self._input_orientation, orientations.axcodes2ornt(self.orientation))


def resize(image: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Linear, anti-aliased, extent-keeping resampling of (D, H, W); in two passes, as torch anti-aliases in 2D only."""
    d, h, w = shape
    if image.shape[1:] != (h, w):
        image = F.interpolate(image[None], size=(h, w), mode="bilinear", align_corners=False, antialias=True)[0]
    if image.shape[0] != d:
        columns = image.reshape(1, 1, image.shape[0], h * w)
        columns = F.interpolate(columns, size=(d, h * w), mode="bilinear", align_corners=False, antialias=True)
        image = columns.reshape(d, h, w)
    return image


def _reorder(array: np.ndarray, transform: np.ndarray) -> np.ndarray:
    leading = array.ndim - 3
    last = np.moveaxis(array, range(leading), range(3, array.ndim))
    return np.moveaxis(orientations.apply_orientation(last, transform), range(3, array.ndim), range(leading))
