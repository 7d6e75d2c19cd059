"""One intensity recipe, written into the bundle and used by training and inference alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigurationError

IntensityKind = Literal["zscore", "ct"]

#: Statistics of larger volumes come from an evenly strided subset: percentiles of 150 M voxels take half a minute.
MAX_SAMPLE_VOXELS = 4_000_000


@dataclass(frozen=True)
class IntensityRecipe:
    """How grey values become network input.

    "zscore" (MR) clips each channel to its own percentiles, then subtracts its mean and divides by its deviation.
    "ct" clips to [lower, upper] HU, then uses the fixed `mean` and `std` of the training set.
    """

    kind: IntensityKind
    lower_percentile: float = 0.5
    upper_percentile: float = 99.5
    lower: float = -1000.0
    upper: float = 1000.0
    mean: float = 0.0
    std: float = 500.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(IntensityKind):
            raise ConfigurationError(
                f"Intensity recipe {self.kind!r} is unknown; it is one of {get_args(IntensityKind)}."
            )
        if not 0 <= self.lower_percentile < self.upper_percentile <= 100:
            raise ConfigurationError(
                f"Percentiles {self.lower_percentile} and {self.upper_percentile} do not increase within 0..100."
            )
        if not all(map(math.isfinite, (self.lower, self.upper, self.mean, self.std))) or self.lower >= self.upper:
            raise ConfigurationError(f"Intensity window {self.lower} to {self.upper} does not increase.")
        if self.std <= 0:
            raise ConfigurationError(f"Intensity standard deviation {self.std} is not positive.")

    def apply(self, array: np.ndarray) -> np.ndarray:
        """(C, D, H, W) of any real dtype -> new float32. Non-finite voxels become the channel's mean (0)."""
        return np.stack([self.normaliser(channel)(channel) for channel in array])

    def normaliser(self, channel: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """What makes any part (D', H', W') of `channel` (D, H, W) new float32, with the statistics of all of it."""
        lower, upper, mean, std = self._statistics(channel)

        def normalise(part: np.ndarray) -> np.ndarray:
            out = np.empty(part.shape, dtype=np.float32)
            # Plane by plane, which stays in the cache, across the axis along which `part` does not lie in memory:
            # Slicer keeps voxels in the opposite order of the network.
            axis = int(np.argmin(np.abs(part.strides)) == 0)
            for given, plane_out in zip(np.moveaxis(part, axis, 0), np.moveaxis(out, axis, 0), strict=True):
                plane = given.astype(np.float32, order="K")
                np.clip(plane, lower, upper, out=plane)
                plane -= np.float32(mean)
                plane /= np.float32(std)
                if np.issubdtype(given.dtype, np.floating):
                    plane[~np.isfinite(given)] = 0.0
                plane_out[...] = plane
            return out

        return normalise

    def _statistics(self, channel: np.ndarray) -> tuple[float, float, float, float]:
        """Clip bounds, mean and standard deviation for one channel."""
        if self.kind == "ct":
            return self.lower, self.upper, self.mean, self.std
        sample = _sample(channel)
        if sample.size == 0:
            return 0.0, 0.0, 0.0, 1.0
        lower, upper = np.percentile(sample, [self.lower_percentile, self.upper_percentile])
        sample = np.clip(sample, lower, upper)
        mean, std = float(sample.mean()), float(sample.std())
        # Relative, because scanners scale grey values by orders of magnitude; a flat channel stays flat.
        flat = std <= 1e-6 * max(abs(lower), abs(upper))
        return float(lower), float(upper), mean, 1.0 if flat else std

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IntensityRecipe:
        return cls(**data)


def _sample(channel: np.ndarray) -> np.ndarray:
    """At most `MAX_SAMPLE_VOXELS` finite voxels as float64, evenly strided along every axis, always the same ones."""
    step = 1
    while math.prod(math.ceil(n / step) for n in channel.shape) > MAX_SAMPLE_VOXELS:
        step += 1
    values = channel[(slice(step // 2, None, step),) * channel.ndim].astype(np.float64).ravel()
    return values[np.isfinite(values)]
