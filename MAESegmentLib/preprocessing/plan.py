"""The one preprocessing object that training and inference share, so that they cannot drift apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..arrays import Array, pad
from ..errors import ConfigurationError, GeometryError
from ..images.volume import LabelMap, Volume
from .foreground import Background, Block
from .grid import CHECK_UNIT, NetworkGrid, by, check_orientation, resize_depth, resize_planes
from .intensity import IntensityRecipe

#: Planes prepared at a time: int16 voxels of so many fill whole cache lines, also where planes lie across memory.
_PLANES = 32


@dataclass(frozen=True, eq=False)
class Prepared:
    """Network input: `image` is float32 (C, D, H, W) on `grid`, which covers block `region` (I, J, K) of the volume."""

    image: np.ndarray
    grid: NetworkGrid
    region: Block


@dataclass(frozen=True)
class Preprocessing:
    """What a network was trained with: spacing in mm and patch in voxels follow the axes of `orientation`."""

    orientation: str
    spacing: tuple[float, float, float]
    patch_size: tuple[int, int, int]
    intensity: IntensityRecipe

    def __post_init__(self) -> None:
        check_orientation(self.orientation)
        if len(self.spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in self.spacing):
            raise ConfigurationError(f"Spacing {self.spacing} is not three positive lengths in mm.")
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise ConfigurationError(f"Patch size {self.patch_size} is not three positive numbers of voxels.")

    def grid_for(self, volume: Volume | LabelMap) -> NetworkGrid:
        """Raises `GeometryError` if an image on it would be too large, or hold nothing to see."""
        grid = NetworkGrid.fit(volume.grid, self.orientation, self.spacing)
        if grid.shape == (1, 1, 1):
            raise GeometryError(
                f"{grid.extent}: the network, with voxels of {by(self.spacing)} mm, would see a single one.", CHECK_UNIT
            )
        return grid

    def region(self, volume: Volume, within: Block | None = None) -> Block:
        """The block (I, J, K) of `volume` that the network is shown: all of it, or the box of the body, `within`."""
        return self._find(volume, within)[0]

    def prepare(self, volume: Volume, within: Block | None = None) -> Prepared:
        """Canonical order, normalised intensities, target spacing; one channel at a time to keep memory low.

        What lies outside `within` (I, J, K) counts only to find the scan's background.
        """
        region, backgrounds = self._find(volume, within)
        part = volume.crop(region)
        grid = self.grid_for(part)
        canonical = grid.to_canonical(part.array)
        if len(canonical) == 1:
            return Prepared(self._prepare_channel(canonical[0], grid, backgrounds[0])[None], grid, region)
        image = np.empty((len(canonical), *grid.shape), np.float32)
        for index, channel in enumerate(canonical):
            image[index] = self._prepare_channel(channel, grid, backgrounds[index])
        return Prepared(image, grid, region)

    def _find(self, volume: Volume, within: Block | None) -> tuple[Block, list[Background | None]]:
        """The region, and each channel's background. The region holds the bodies of all channels."""
        i, j, k = (slice(0, n) for n in volume.grid.shape)
        block = within or (i, j, k)
        backgrounds = [self.intensity.background(channel) for channel in volume.array]
        part = volume.crop(block)
        spacing = [float(mm) for mm in part.grid.spacing]
        boxes = [
            None if background is None else background.box(channel, spacing)
            for channel, background in zip(part.array, backgrounds, strict=True)
        ]
        found = [box for box in boxes if box is not None]
        if not found or any(background is None for background in backgrounds):
            return block, backgrounds
        i, j, k = (_span(outer, [box[axis] for box in found]) for axis, outer in enumerate(block))
        return (i, j, k), backgrounds

    def prepare_labels(self, label_map: LabelMap, grid: NetworkGrid) -> np.ndarray:
        """Label values on the network's grid, (D, H, W), uint8 or int64: each label interpolated, the largest wins."""
        if difference := label_map.grid.difference(grid.input_grid):
            raise GeometryError(
                f"The label map does not lie on its image's grid: {difference}.",
                "Resample the label map to the image, or pair it with the image it was drawn on.",
            )
        canonical = grid.to_canonical(label_map.array)
        dtype = np.uint8 if canonical.max(initial=0) < 256 else np.int64
        if not grid.resamples:
            return canonical.astype(dtype)
        best = np.full(grid.shape, -1.0, np.float32)
        labels = np.zeros(grid.shape, dtype)
        for value in np.unique(canonical):
            share = grid.resample((canonical == value).astype(np.float32))
            labels[share > best] = int(value)
            np.maximum(best, share, out=best)
        return labels

    def _prepare_channel(
        self, channel: np.ndarray, grid: NetworkGrid, background: Background | None
    ) -> np.ndarray:  # (D', H', W') -> (D, H, W)
        """A few planes at a time, so that normalised voxels never exist at the input's resolution all at once."""
        normalise = self.intensity.normaliser(channel, background)
        planes = np.empty((len(channel), *grid.shape[1:]), np.float32)
        for first in range(0, len(channel), _PLANES):
            part = normalise(channel[first : first + _PLANES])
            planes[first : first + _PLANES] = resize_planes(part, grid.shape[1:])
        return resize_depth(planes, grid.shape[0])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return {**asdict(self), "intensity": self.intensity.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        first, second, third = (float(s) for s in data["spacing"])
        d, h, w = (int(n) for n in data["patch_size"])
        return cls(
            str(data["orientation"]), (first, second, third), (d, h, w), IntensityRecipe.from_dict(data["intensity"])
        )


def pad_to(image: Array, size: Sequence[int]) -> tuple[Array, tuple[int, int, int]]:
    """Pad (..., D, H, W) evenly on both sides with 0 (the mean) up to `size`; also the index where the image starts."""
    missing = [max(0, target - n) for target, n in zip(size, image.shape[-3:], strict=True)]
    d, h, w = (m // 2 for m in missing)
    if not any(missing):
        return image, (0, 0, 0)
    return pad(image, [(before, n - before) for before, n in zip((d, h, w), missing, strict=True)]), (d, h, w)


def _span(outer: slice, parts: Sequence[slice]) -> slice:
    """From the first start to the last stop of `parts`, which are counted from where `outer` starts."""
    return slice(outer.start + min(part.start for part in parts), outer.start + max(part.stop for part in parts))
