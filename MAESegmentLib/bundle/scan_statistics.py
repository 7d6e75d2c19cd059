"""Where a model's training scans lie in a space of descriptions, and how far from them another scan is. numpy only.

A space is fitted as a Gaussian whose covariance is kept along its main directions and is the same along all others,
shrunk towards `PRIOR_SD` by as much as `PRIOR_CASES` cases would weigh. So a distance exists for a single training scan
already, and no direction in which few scans happen to agree can make another scan look far away.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

#: Spread between scans of one kind that is assumed before any is seen, and how many cases that weighs.
PRIOR_SD = 0.06
PRIOR_CASES = 2.0
#: Directions kept, at most, and how many scans there must be for each.
MAX_DIRECTIONS, SCANS_PER_DIRECTION = 12, 5
#: From so many cases on, the limit comes from their own cross-validated distances.
ENOUGH_TO_CALIBRATE = 12
FOLDS = 10
#: The limit is this quantile of the cross-validated distances, times a margin: the first for scanners that none of the
#: n training scans is from, the second, over the square root of n, for how little n scans say of the quantile.
_QUANTILE, _MARGIN, _MARGIN_OF_FEW = 0.98, 1.65, 1.2
#: What the limit of few cases is, in units of the assumed spread; widened by what the mean of n cases is off.
_LIMIT_OF_FEW = 2.5
#: What a file may hold: more would be no description of ours.
_MAX_NUMBERS = 65536


@dataclass(frozen=True, eq=False)
class SpaceStatistics:
    """`mean` (d,), orthonormal `directions` (k, d), `variances` (k,) along them, `rest` along each other direction.

    A scan whose `distance` is above `limit` is unlike the training scans.
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    rest: float
    limit: float = math.inf

    def distances(self, points: np.ndarray) -> np.ndarray:
        """(n, d) -> (n,): root mean square over the d directions, in standard deviations."""
        offsets = np.atleast_2d(points) - self.mean
        along = offsets @ self.directions.T
        others = np.maximum((offsets**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        result: np.ndarray = np.sqrt(((along**2 / self.variances).sum(axis=1) + others / self.rest) / len(self.mean))
        return result

    def excess(self, point: np.ndarray) -> float:
        """The distance of one point (d,) over the limit: above 1, it is unlike the training scans."""
        return float(self.distances(point)[0]) / self.limit

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return {
            "mean": _packed(self.mean),
            "directions": _packed(self.directions.ravel()),
            "variances": [float(f"{v:.6g}") for v in self.variances],
            "rest": float(f"{self.rest:.6g}"),
            "limit": float(f"{self.limit:.6g}"),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpaceStatistics:
        """Raises `ValueError`, `TypeError` or `KeyError` for what `to_dict` cannot have written."""
        mean = _unpacked(data["mean"])
        variances = np.asarray(data["variances"], dtype=float).reshape(-1)
        directions = _unpacked(data["directions"])
        if mean.size == 0 or directions.size != len(variances) * len(mean):
            raise ValueError("directions and mean do not fit")
        rest, limit = float(data["rest"]), float(data["limit"])
        numbers = np.concatenate([variances, [rest, limit]])
        if not np.isfinite(numbers).all() or numbers.min() <= 0:
            raise ValueError("variances and limit must be positive")
        return cls(mean, directions.reshape(len(variances), len(mean)), variances, rest, limit)


def fit_space(points: np.ndarray, scans: int) -> SpaceStatistics:
    """The statistics of `points` (n, d) of so many scans, with a limit that hardly any scan of their kind exceeds."""
    return replace(_fitted(points), limit=_limit(points, scans))


def held_out_distances(points: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """(n,): the distance of each point from the statistics of the folds that it is not in."""
    fold = np.arange(len(points)) % min(folds, len(points))
    result = np.empty(len(points))
    for number in range(int(fold.max()) + 1):
        inside = fold == number
        result[inside] = _fitted(points[~inside]).distances(points[inside])
    return result


def _limit(points: np.ndarray, scans: int) -> float:
    if scans < ENOUGH_TO_CALIBRATE:
        return _LIMIT_OF_FEW * math.sqrt(1 + 1 / scans)
    margin = _MARGIN + _MARGIN_OF_FEW / math.sqrt(scans)
    return margin * float(np.quantile(held_out_distances(points), _QUANTILE))


def _fitted(points: np.ndarray) -> SpaceStatistics:
    points = np.asarray(points, dtype=float)
    count, size = points.shape
    mean = points.mean(axis=0)
    _, lengths, directions = np.linalg.svd(points - mean, full_matrices=False)
    kept = min(MAX_DIRECTIONS, count // SCANS_PER_DIRECTION, size - 1)
    squares = lengths**2
    prior = PRIOR_CASES * PRIOR_SD**2
    variances = (prior + squares[:kept]) / (PRIOR_CASES + count - 1)
    others = size - kept
    rest = (prior * others + float(squares[kept:].sum())) / ((PRIOR_CASES + count - 1 - kept) * others)
    return SpaceStatistics(mean, directions[:kept], variances, rest)


def _packed(values: Sequence[float] | np.ndarray) -> str:
    """float32, little-endian, as base64: a number a line would make a description hundreds of kilobytes long."""
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")


def _unpacked(text: Any) -> np.ndarray:
    if not isinstance(text, str) or len(text) > _MAX_NUMBERS * 6:
        raise ValueError("not numbers in base64, or too many")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(data) % 4:
        raise ValueError("not whole numbers of 4 bytes")
    values = np.frombuffer(data, dtype="<f4").astype(float)
    if not np.isfinite(values).all():
        raise ValueError("numbers are not finite")
    return values
