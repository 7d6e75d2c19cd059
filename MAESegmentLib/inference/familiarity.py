"""Whether a model can know a scan: how far the scan lies from those the model was trained on, and in which respect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array, place, to_numpy, without_gradients
from ..bundle.scan_statistics import fit_space
from ..bundle.training_statistics import FamiliarityStatistics, ScanDescription, about_grey_values, read_statistics
from ..device import Device, the_processor
from ..images.volume import Volume
from ..preprocessing.grey_values import GreyValues, describe_grey_values
from ..preprocessing.intensity import IntensityRecipe
from ..preprocessing.plan import Prepared, Preprocessing, pad_to
from .windows import Encode, WindowPlan

#: Statistics of fewer scans say so in their warning.
FEW_SCANS = 12
#: Beyond so many times the limit, a scan is nothing like the training scans.
_NOTHING_LIKE = 2.0


@dataclass(frozen=True)
class Familiarity:
    """How far a scan is from the training scans: `excess` 1 is the limit. `message` is None for a scan within it.

    `terms` holds the excess in each respect: "grey values", "extent" and "stage 0" (the finest) onwards.
    """

    excess: float
    message: str | None
    terms: Mapping[str, float]


def fit_familiarity(scans: Sequence[ScanDescription]) -> FamiliarityStatistics:
    """The statistics of training scans, at least one; the limits are calibrated by cross-validation where they are
    enough, and are wide where they are not. There, several windows of each scan show what differs within one already.
    """
    stages = zip(*(scan.stages for scan in scans), strict=True)
    x, y, z = (float(length) for length in np.max([scan.extent_mm for scan in scans], axis=0))
    low, high = (float(value) for value in np.median([scan.grey.span for scan in scans], axis=0))
    return FamiliarityStatistics(
        len(scans),
        fit_space(np.array([scan.grey.description for scan in scans]), len(scans)),
        tuple(fit_space(np.concatenate(stage), len(scans)) for stage in stages),
        (x, y, z),
        (low, high),
    )


def statistics_of(spec: Any) -> FamiliarityStatistics | None:
    """What the model of this `ModelSpec` says of its training scans; None if nothing, or in another version's format.

    `BundleError` if it cannot be read.
    """
    network = spec.network or spec.autoencoder.encoder
    return read_statistics(spec.familiarity, network.dims, spec.preprocessing.intensity, len(spec.channels))


def compare(
    statistics: FamiliarityStatistics,
    preprocessing: Preprocessing,
    volume: Volume,
    prepared: Prepared,
    encode: Encode,
    *,
    device: Device | None = None,
) -> Familiarity:
    """How far `volume`, of which `preprocessing` made `prepared`, is from the training scans of the model."""
    array = volume.crop(prepared.region).array
    grey = describe_grey_values(array, preprocessing.intensity)
    scan = describe_scan(grey, prepared.image, prepared.grid.spacing, preprocessing.patch_size, encode, device=device)
    return judge(statistics, scan, array, preprocessing.intensity)


def judge(
    statistics: FamiliarityStatistics, scan: ScanDescription, array: np.ndarray, recipe: IntensityRecipe
) -> Familiarity:
    """Whether `scan`, whose voxels are `array` (C, ...), is like the training scans, and if not, why."""
    terms = statistics.excesses(scan)
    excess = max(terms.values())
    if scan.grey.is_blank:
        reasons = ["it is blank, every voxel has the same value"]
        excess = max(excess, _NOTHING_LIKE)
    elif excess <= 1:
        return Familiarity(excess, None, terms)
    else:
        reasons = _reasons(statistics, scan, terms, array, recipe)
    scans = f"{statistics.scans} training scan{'' if statistics.scans == 1 else 's'}"
    few = f" (statistics of {scans} only)" if statistics.scans < FEW_SCANS else ""
    message = f"This scan is unlike the training scans of the model{few}: {'; '.join(reasons)}. Check the result."
    return Familiarity(excess, message, terms)


def _reasons(
    statistics: FamiliarityStatistics,
    scan: ScanDescription,
    terms: Mapping[str, float],
    array: np.ndarray,
    recipe: IntensityRecipe,
) -> list[str]:
    reasons = []
    if terms["grey values"] > 1:
        reasons.append(about_grey_values(statistics, scan.grey, array, recipe))
    if terms["extent"] > 1:
        reasons.append(
            f"it is {_size(scan.extent_mm)} mm, they are {_size(statistics.extent_mm)} mm at most "
            "(draw a region of interest around the structures)"
        )
    stages = [value for name, value in terms.items() if name.startswith("stage")]
    if max(stages) > _NOTHING_LIKE:
        reasons.append("it shows nothing like what they show (another part of the body or kind of image, or turned)")
    elif max(stages[1:], default=0.0) > 1:
        reasons.append("it does not look like them (another part of the body or kind of image, or turned)")
    elif stages[0] > 1:
        reasons.append("its texture is another (noise, sharpness, contrast)")
    return reasons


def _size(lengths: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{length:.0f}" for length in lengths)


def describe_scan(
    grey: GreyValues,
    image: Array,
    spacing: Sequence[float] | np.ndarray,
    patch_size: Sequence[int],
    encode: Encode,
    *,
    windows: int = 1,
    device: Device | None = None,
) -> ScanDescription:
    """Describe a prepared `image` (C, D, H, W) of `spacing` (mm). Deterministic, and alike on every device."""
    extent = np.array(image.shape[1:]) * np.asarray(spacing, dtype=float)
    return ScanDescription(grey, pooled_features(encode, image, patch_size, windows, device=device), extent)


def pooled_features(
    encode: Encode, image: Array, patch_size: Sequence[int], count: int, *, device: Device | None = None
) -> tuple[np.ndarray, ...]:
    """Per stage, mean and standard deviation of each channel over the tokens of the `count` most varied windows.

    Tokens beyond the image, where it is smaller than a window, do not count. To tell scans apart, more windows than one
    cost more and bring no more (measured on the models that ship: one, two or four).
    """
    _, offset = pad_to(image, patch_size)
    ends = [start + n if n < size else size for start, n, size in zip(offset, image.shape[1:], patch_size, strict=True)]
    inside = [(s / size, e / size) for s, e, size in zip(offset, ends, patch_size, strict=True)]
    where = device or the_processor()
    with without_gradients():
        found = [
            [_pooled(tokens, inside) for tokens in encode(place(window[None], where))]
            for window in most_varied(image, patch_size, count)
        ]
    return tuple(np.array(stage) for stage in zip(*found, strict=True))


def most_varied(image: Array, patch_size: Sequence[int], count: int) -> list[Array]:
    """The `count` windows (C, d, h, w) without overlap whose intensities vary most: not the air around a patient."""
    image, _ = pad_to(image, patch_size)
    d, h, w = (int(n) for n in image.shape[1:])
    pd, ph, pw = patch_size
    patches = [image[(slice(None), *block)] for block in WindowPlan((d, h, w), (pd, ph, pw), overlap=0.0).blocks()]
    return sorted(patches, key=lambda patch: float(patch.var()), reverse=True)[:count]


def _between(start: float, end: float, count: int) -> slice:
    first, last = math.ceil(start * count - 0.5), math.ceil(end * count - 0.5)
    return slice(first, last) if first < last else slice(count // 2, count // 2 + 1)


def _pooled(tokens: Array, inside: Sequence[tuple[float, float]]) -> np.ndarray:  # (1, d, h, w, K) -> (2 K,)
    """Over the tokens whose middles lie between the fractions `inside` of each axis, or else the middle one."""
    d, h, w = (_between(*ends, count) for ends, count in zip(inside, tokens.shape[1:4], strict=True))
    flat = to_numpy(tokens[0, d, h, w]).reshape(-1, tokens.shape[-1]).astype(float)
    return np.concatenate([flat.mean(axis=0), flat.std(axis=0)])
