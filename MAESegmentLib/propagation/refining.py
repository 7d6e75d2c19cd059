"""Interpolated outlines are moved to where grey values change as they do on the drawn slices: a light classifier.

A logistic regression of grey values, their neighbourhood and the interpolated signed distance, for each structure. It
learns on the drawn slices, each interpolated from its neighbours as if it had not been drawn, and is used only where
that foretells drawn slices it did not see better than outlines alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..images.limits import memory_problem
from .interpolation import between

Block = tuple[slice, slice, slice]
#: mm about an interpolated outline that may change.
BAND_MM = 8.0
#: Between drawn slices the outline is as trustworthy as this many outlines of twice the distance.
_TRUST = 2.0
#: Drawn slices are left out in so many parts.
_FOLDS = 5
#: By how much Dice has to be better on drawn slices that were not learnt from.
_BETTER = 0.005
#: A millimetre of the outline counts at least so much.
_LEAST = 0.1
_RIDGE, _ROUNDS, _MOST_SAMPLES, _FEWEST_SAMPLES = 1e-2, 12, 20_000, 20
#: Float32 numbers a voxel of the block that is looked at.
_NUMBERS = 16


@dataclass(frozen=True, eq=False)
class Refinement:
    """What moves the outline of one structure, in mm; `dice` are those of drawn slices that were not learnt from, with
    it and by outlines alone."""

    weights: np.ndarray
    middle: np.ndarray
    spread: np.ndarray
    dice: tuple[float, float]

    def moved(self, distance: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Signed distances (mm) of a slice, given its features (feature, H, W)."""
        near = np.abs(distance) < BAND_MM
        found = distance.copy()
        scaled = _scaled(features[:, near].T, self.middle, self.spread)
        found[near] += (scaled @ self.weights[1:-1] + self.weights[-1]) / (_TRUST * self.weights[0])
        return found


class GreyValues:
    """Features of the planes (C, N, H, W) of a scan, in a block of them, once all `steps` are done."""

    def __init__(self, planes: np.ndarray, block: Block) -> None:
        self.block = block
        self._planes = planes

    def steps(self) -> Iterator[None]:
        """Each may take seconds on a large scan."""
        part = np.asarray(self._planes[(slice(None), *self.block)], np.float32)
        found = []
        for channel in part:
            low, high = np.percentile(channel[:, ::2, ::2], (1, 99))
            clipped = np.clip(channel, low, high)
            found.append(clipped)
            for smoothed in (1, 2):
                yield
                found.append(ndimage.gaussian_filter(clipped, smoothed))
            yield
            found += [ndimage.gaussian_gradient_magnitude(clipped, 1), channel]
        yield
        self._found = np.stack(found)

    def of(self, index: int) -> np.ndarray:
        """(feature, H, W) of the part of a plane that lies in the block."""
        features: np.ndarray = self._found[:, index - self.block[0].start]
        return features


def fits(channels: int, block: Block) -> bool:
    """Whether there is memory for the features of a block."""
    voxels = int(np.prod([part.stop - part.start for part in block], dtype=np.int64))
    return voxels > 0 and not memory_problem(4 * _NUMBERS * channels * voxels)


def learn(
    planes: np.ndarray, value: int, slices: Sequence[int], grey: GreyValues, spacing: Sequence[float]
) -> Refinement | None:
    """From the slices of `planes` (labels (N, H, W)) on which a structure was drawn; None if it would not help."""
    samples = []
    for low, index, high in zip(slices, slices[1:], slices[2:], strict=False):
        masks = [(planes[one] == value)[grey.block[1:]] for one in (low, index, high)]
        (distance,) = between(masks[0], masks[2], [(index - low) / (high - low)], spacing)
        samples.append((distance, masks[1], grey.of(index)))
    if len(samples) < 2:
        return None
    whole = _fitted(samples)
    folds = min(len(samples), _FOLDS)
    without = [_fitted([one for number, one in enumerate(samples) if number % folds != fold]) for fold in range(folds)]
    if whole is None or any(found is None for found in without):
        return None
    counts = np.zeros((2, 2))
    for number, (distance, mask, features) in enumerate(samples):
        other = without[number % folds]
        assert other is not None
        # At the distance that it learnt from, an outline counts once.
        found = _TRUST * (other.moved(distance, features) - distance) + distance > 0
        for row, made in enumerate((found, distance > 0)):
            counts[row] += 2 * np.count_nonzero(made & mask), np.count_nonzero(made) + np.count_nonzero(mask)
    with_it, alone = (float(row[0] / max(row[1], 1)) for row in counts)
    if with_it <= alone + _BETTER:
        return None
    return Refinement(whole.weights, whole.middle, whole.spread, (with_it, alone))


def _fitted(samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Refinement | None:
    near = [np.abs(distance) < BAND_MM for distance, _mask, _features in samples]
    rows = np.concatenate([features[:, where].T for (_d, _m, features), where in zip(samples, near, strict=True)])
    distances = np.concatenate([distance[where] for (distance, _m, _f), where in zip(samples, near, strict=True)])
    truth = np.concatenate([mask[where] for (_d, mask, _f), where in zip(samples, near, strict=True)])
    step = 1 + len(truth) // _MOST_SAMPLES
    rows, distances, truth = rows[::step], distances[::step], truth[::step]
    if min(np.count_nonzero(truth), np.count_nonzero(~truth)) < _FEWEST_SAMPLES:
        return None
    middle, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.maximum(spread, 1e-6 * max(1.0, float(np.abs(middle).max())))
    scaled = _scaled(rows, middle, spread)
    inputs = np.column_stack([distances, scaled, np.ones(len(scaled))]).astype(np.float64)
    weights = _regression(inputs, truth.astype(np.float64))
    if not np.isfinite(weights).all():
        return None
    weights[0] = max(weights[0], _LEAST)  # where grey values say it all, the outline still says about where
    return Refinement(weights, middle, spread, (0.0, 0.0))


def _scaled(rows: np.ndarray, middle: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """With squares, for a structure that is neither the brightest nor the darkest."""
    plain = np.clip((rows - middle) / spread, -4, 4)
    return np.concatenate([plain, plain[:, :3] ** 2], axis=1)


def _regression(inputs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Logistic regression by Newton's method; neither the first weight nor the last is held small."""
    ridge = np.full(inputs.shape[1], 2 * _RIDGE)
    ridge[[0, -1]] = 1e-6
    weights = np.zeros(inputs.shape[1])
    weights[0] = 0.5
    for _round in range(_ROUNDS):
        likely = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (likely - truth) / len(truth) + ridge * weights
        bend = (inputs * (likely * (1 - likely))[:, None]).T @ inputs / len(truth) + np.diag(ridge)
        change = np.linalg.solve(bend, slope)
        weights = weights - np.clip(change, -2, 2)
        if np.abs(change).max() < 1e-4:
            break
    return weights


def block_about(masks: np.ndarray, rim: Sequence[int], values: Mapping[int, Sequence[int]]) -> Block:
    """From the first to the last drawn slice, and so many voxels about what is drawn there, in planes (N, H, W)."""
    first = min(slices[0] for slices in values.values() if slices)
    last = max(slices[-1] for slices in values.values() if slices)
    drawn: np.ndarray = np.any(np.isin(masks[first : last + 1], list(values)), axis=0)
    spans = [np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (
        slice(max(0, int(found[0]) - more), min(size, int(found[-1]) + 1 + more))
        for found, more, size in zip(spans, rim, drawn.shape, strict=True)
    )
    return slice(first, last + 1), rows, columns
