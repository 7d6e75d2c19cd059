"""One intensity recipe, written into the bundle and used by training and inference alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigurationError
from .foreground import Background, find_background, sample

IntensityKind = Literal["zscore", "ct"]

#: Air on the CT scale ends below this.
_AIR_HU = -500.0


@dataclass(frozen=True)
class IntensityRecipe:
    """How grey values become network input.

    "zscore" (MR) clips each channel to its own percentiles, then subtracts its mean and divides by its deviation.
    "ct" clips to [lower, upper] HU, then uses the fixed `mean` and `std` of the training set.

    With `foreground`, only the body counts: images are cropped to it, and "zscore" takes its statistics from it. A
    background of one plain value then becomes 0, the body's mean, which is also what lies outside an image.
    """

    kind: IntensityKind
    lower_percentile: float = 0.5
    upper_percentile: float = 99.5
    lower: float = -1000.0
    upper: float = 1000.0
    mean: float = 0.0
    std: float = 500.0
    #: Models that were trained before there was a choice say nothing about it.
    foreground: bool = False

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
        return np.stack([self.normaliser(channel, self.background(channel))(channel) for channel in array])

    def background(self, channel: np.ndarray) -> Background | None:
        """What surrounds the body in `channel` (I, J, K); None where all of it counts."""
        if not self.foreground:
            return None
        return Background(highest=_AIR_HU) if self.kind == "ct" else find_background(channel)

    def normaliser(
        self, channel: np.ndarray, background: Background | None = None
    ) -> Callable[[np.ndarray], np.ndarray]:
        """What makes any part (D', H', W') of `channel` (D, H, W) new float32, with the statistics of all of it.

        `background` is the scan's, of which `channel` may be a part.
        """
        lower, upper, mean, std = self._statistics(channel, background)
        plain = None if background is None else background.plain

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
                if plain is not None:
                    plane[given == plain] = 0.0
                plane_out[...] = plane
            return out

        return normalise

    def _statistics(self, channel: np.ndarray, background: Background | None) -> tuple[float, float, float, float]:
        """Clip bounds, mean and standard deviation for one channel."""
        if self.kind == "ct":
            return self.lower, self.upper, self.mean, self.std
        values = sample(channel, background)
        if values.size == 0:
            return 0.0, 0.0, 0.0, 1.0
        lower, upper = np.percentile(values, [self.lower_percentile, self.upper_percentile])
        values = np.clip(values, lower, upper)
        mean, std = float(values.mean()), float(values.std())
        # Relative, because scanners scale grey values by orders of magnitude; a flat channel stays flat.
        flat = std <= 1e-6 * max(abs(lower), abs(upper))
        return float(lower), float(upper), mean, 1.0 if flat else std

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back. An older reader refuses `foreground`, so it is named only if set."""
        values = asdict(self)
        if not self.foreground:
            del values["foreground"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IntensityRecipe:
        return cls(**data)
