"""What the grey values of a scan are like before they are clipped. numpy only, and independent of the size of the scan.

For CT: how the voxels that are not air fall into ranges of HU. Fat is below 0 and bone far above it, so that values
which are not HU show. For MR: where the percentiles lie once the values are normalised, since every scanner scales
them differently; a masked background does not count, since it is not tissue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .intensity import IntensityRecipe

#: Voxels sampled.
SAMPLE = 100_000
#: Air, and the padding around a round field of view, is below; how much of it a scan holds is its crop's choice.
_AIR_HU = -400.0
_HU = (-150.0, -30.0, 20.0, 90.0, 200.0, 600.0, 2000.0)
#: Share of voxels with the lowest value that makes it a background.
_BACKGROUND = 0.01
_PERCENTILES = (2.0, 10.0, 25.0, 40.0, 50.0, 60.0, 75.0, 90.0, 98.0)
#: The contrast of MR differs from scanner to scanner, beyond what the training scans of one show: the limit is as many
#: times as far. What is not this kind of image at all is found by the encoder's features as well.
_MR_TOLERANCE = 1.5
#: Percentiles of normalised values vary this many times as much between scans as the shares' square roots.
_PERCENTILE_SCALE = 0.5


@dataclass(frozen=True, eq=False)
class GreyValues:
    """`description` (d,), `span` the 0.5th and 99.5th percentile of the first channel, `is_blank`: one value only.

    `tolerance` is how many times the limit a description of this kind may be from the training scans'.
    """

    description: np.ndarray
    span: tuple[float, float]
    is_blank: bool
    tolerance: float = 1.0


def describe_grey_values(
    array: Sequence[np.ndarray] | np.ndarray,
    recipe: IntensityRecipe,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> GreyValues:
    """Describe a volume (C, ...) of any real dtype, as if `change` had been applied to its values."""
    samples = [_sample(channel) for channel in array]
    blank = all(sample.size == 0 or float(np.ptp(sample)) <= 1e-6 * float(np.abs(sample).max()) for sample in samples)
    low, high = (float(v) for v in np.percentile(samples[0], (0.5, 99.5))) if samples[0].size else (0.0, 0.0)
    describe = _shares_of_hu if recipe.kind == "ct" else _percentiles
    parts = [describe(change(sample) if change else sample) for sample in samples]
    return GreyValues(np.concatenate(parts), (low, high), blank, tolerance_of(recipe))


def tolerance_of(recipe: IntensityRecipe) -> float:
    """Of grey values that are described for `recipe`; see `GreyValues`."""
    return 1.0 if recipe.kind == "ct" else _MR_TOLERANCE


def _shares_of_hu(values: np.ndarray) -> np.ndarray:
    """Square roots of shares, which makes a share's noise the same wherever it lies."""
    tissue = values[values >= _AIR_HU]
    if tissue.size == 0:
        return np.zeros(len(_HU) + 1)
    counts = np.bincount(np.digitize(tissue, _HU), minlength=len(_HU) + 1)
    result: np.ndarray = np.sqrt(counts / tissue.size)
    return result


def _percentiles(values: np.ndarray) -> np.ndarray:
    """Of clipped, normalised values; those that share the lowest one, as a masked background does, do not count."""
    if values.size and float(np.mean(values == values.min())) > _BACKGROUND:
        values = values[values > values.min()]
    if values.size == 0:
        return np.zeros(len(_PERCENTILES))
    clipped = np.clip(values, *np.percentile(values, (0.5, 99.5)))
    deviation = float(clipped.std())
    normal = (clipped - clipped.mean()) / (deviation or 1.0)
    result: np.ndarray = _PERCENTILE_SCALE * np.percentile(normal, _PERCENTILES)
    return result


def _sample(channel: np.ndarray) -> np.ndarray:
    """At most about `SAMPLE` finite voxels as float64, evenly strided, always the same ones."""
    step = max(1, math.ceil((channel.size / SAMPLE) ** (1 / channel.ndim)))
    values = channel[(slice(step // 2, None, step),) * channel.ndim].astype(np.float64).ravel()
    return values[np.isfinite(values)]
