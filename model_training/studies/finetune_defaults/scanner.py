"""A made-up second scanner: one fixed change of an image's grey values, the same for every case.

Not a model of any real scanner. It stands for what a model meets elsewhere: another contrast, coil shading, a softer
image in one direction and more noise. Geometry and label maps stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class OtherScanner:
    """`gamma` bends the grey values (robust range 0 to 1), `shading` is the
    relative slope of the coil's field across the image, `blur` is the sigma in voxels along each axis and `noise` the
    standard deviation of Rician noise."""

    gamma: float = 1.0
    shading: tuple[float, float, float] = (0.0, 0.0, 0.0)
    blur: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: float = 0.0

    def apply(self, image: np.ndarray, seed: int) -> np.ndarray:
        """(A, B, C) -> the same shape, float32, grey values of about 0 to 1000; `seed` draws the noise."""
        low, high = np.percentile(image, (0.5, 99.5))
        values = np.clip((image.astype(np.float64) - low) / max(float(high - low), 1e-9), 0.0, 1.0)
        values = gaussian_filter(values**self.gamma, self.blur) * self._field(values.shape)
        rng = np.random.default_rng(seed)
        real, imaginary = (rng.normal(0.0, self.noise, values.shape) for _ in range(2))
        return (1000.0 * np.hypot(values + real, imaginary)).astype(np.float32)

    def _field(self, shape: tuple[int, ...]) -> np.ndarray:
        """1 in the middle, falling or rising linearly along each axis."""
        field = np.ones(shape)
        for axis, (size, slope) in enumerate(zip(shape, self.shading, strict=True)):
            ramp = np.linspace(-0.5, 0.5, size) * slope
            field *= 1.0 + ramp.reshape([-1 if n == axis else 1 for n in range(len(shape))])
        return field
