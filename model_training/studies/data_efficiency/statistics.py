"""Bootstrap intervals, Holm's correction and learning-curve crossings, on plain arrays.

Scores are arrays (S, N, L) of seeds, cases and labels, NaN where a figure does not exist (the label is absent from the
reference). The mean of such an array is taken over seeds and cases label by label, and then over labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """How often, and which interval is read from it. Equal seeds resample equal cases in every comparison."""

    times: int = 10_000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """An estimate and its percentile interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A paired difference. `by_case` keeps the seeds, `by_case_and_seed` resamples them too.

    `p` is two-sided, the larger of the two bootstraps' (no smaller than about 2 / times). `better` is the share of
    cases in which the difference of the mean over seeds and labels is above 0.
    """

    by_case: Interval
    by_case_and_seed: Interval
    p: float
    seeds: int
    cases: int
    better: float

    @property
    def intervals(self) -> tuple[Interval, Interval]:
        return self.by_case, self.by_case_and_seed


@dataclass(frozen=True)
class StepsSaved:
    """Steps that two arms need for the same Dice (infinite: not reached).

    `saved` is 1 - steps / reference steps, with the intervals by case and by case and seed.
    """

    steps: float
    reference_steps: float
    saved: tuple[Interval, Interval]
    seeds: int


def difference(first: Array, second: Array, groups: Sequence[str], how: Resampling) -> Difference | None:
    """`first` minus `second`, (S, N, L) each, paired by seed, case and label; None where no pair is complete.

    `groups` names each case's patient: cases of one patient are resampled together.
    """
    pairs = first - second
    if not np.isfinite(pairs).any():
        return None
    cases, seeds = _weights(_numbered(groups), len(pairs), how)
    estimate = float(mean(pairs))
    by_cases, by_both = weighted_mean(pairs, cases, np.ones_like(seeds)), weighted_mean(pairs, cases, seeds)
    by_case = np.array([mean(pairs[:, n : n + 1]) for n in range(pairs.shape[1])])
    return Difference(
        interval(estimate, by_cases, how.confidence),
        interval(estimate, by_both, how.confidence),
        p=max(_p_value(by_cases), _p_value(by_both)),
        seeds=len(pairs),
        cases=int(np.isfinite(by_case).sum()),
        better=float((by_case[np.isfinite(by_case)] > 0).mean()),
    )


def mean_interval(values: Array, groups: Sequence[str], how: Resampling) -> Interval:
    """Of the mean of one arm, over cases and seeds."""
    cases, seeds = _weights(_numbered(groups), len(values), how)
    return interval(float(mean(values)), weighted_mean(values, cases, seeds), how.confidence)


def mean(values: Array) -> Array:
    """(S, N, ..., L) -> (...): over seeds and cases label by label, then over labels."""
    once = np.ones((1, values.shape[1])), np.ones((1, values.shape[0]))
    result: Array = weighted_mean(values, *once)[0]
    return result


def weighted_mean(values: Array, cases: Array, seeds: Array) -> Array:
    """(S, N, ..., L), weights (B, N) and (B, S) -> (B, ...): as `mean`, once per resample."""
    valid = np.isfinite(values)
    total = _weighted(np.where(valid, values, 0.0), cases, seeds)
    count = _weighted(valid.astype(float), cases, seeds)
    with np.errstate(invalid="ignore"):
        labels = total / count
    present = np.isfinite(labels)
    with np.errstate(invalid="ignore"):
        result: Array = np.where(present, labels, 0.0).sum(axis=-1) / present.sum(axis=-1)
    return result


def interval(estimate: float, sample: Array, confidence: float) -> Interval:
    """Percentiles that are values of the sample, so that infinite ones are allowed."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(sample[~np.isnan(sample)], [tail, 1.0 - tail], method="inverted_cdf")
    return Interval(estimate, float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Scand J Stat 6:65, 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def crossing(steps: Sequence[float], curves: Array, thresholds: Array) -> Array:
    """(..., T) and (...) -> (...): where the curve first comes to the threshold, linear between checkpoints.

    Infinite where it never does. Nothing is known before the first checkpoint: a curve that begins above the threshold
    crosses there.
    """
    at = np.asarray(steps, float)
    above = curves >= thresholds[..., None]
    first = above.argmax(axis=-1)
    before = np.maximum(first - 1, 0)
    low = np.take_along_axis(curves, before[..., None], -1)[..., 0]
    high = np.take_along_axis(curves, first[..., None], -1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(first > 0, (thresholds - low) / (high - low), 1.0)
    result: Array = np.where(above.any(axis=-1), at[before] + share * (at[first] - at[before]), np.inf)
    return result


def steps_saved(
    curve: tuple[Sequence[float], Array],
    reference: tuple[Sequence[float], Array],
    fraction: float,
    groups: Sequence[str],
    how: Resampling,
) -> StepsSaved:
    """Steps to `fraction` of the reference's final Dice. Curves are (steps, (S, N, T, L)), paired by seed and case.

    Each resample draws both curves again, and with them the threshold.
    """
    cases, seeds = _weights(_numbered(groups), len(curve[1]), how)
    once = np.ones((1, cases.shape[1])), np.ones((1, seeds.shape[1]))
    (own,), (other,) = _both_crossings(curve, reference, fraction, *once)
    samples = []
    for drawn in (np.ones_like(seeds), seeds):
        mine, theirs = _both_crossings(curve, reference, fraction, cases, drawn)
        samples.append(1.0 - mine / theirs)
    estimate = float(1.0 - own / other)
    by_case, by_both = (interval(estimate, sample, how.confidence) for sample in samples)
    return StepsSaved(float(own), float(other), (by_case, by_both), len(curve[1]))


def seed_spread(values: Array) -> float:
    """Standard deviation between seeds of the mean over cases and labels; NaN for a single seed."""
    means = [float(mean(values[n : n + 1])) for n in range(len(values))]
    return float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")


def spread_reduction(spreads: Sequence[tuple[float, float, int]], confidence: float) -> Interval | None:
    """1 - ratio of two standard deviations, pooled over cells of (first, second, seeds), with the F interval.

    Needs normal, independent seeds; None where there is nothing to divide by.
    """
    from scipy.stats import f

    freedom = sum(seeds - 1 for _, _, seeds in spreads)
    first, second = (sum((seeds - 1) * pair[n] ** 2 for *pair, seeds in spreads) for n in (0, 1))
    if not freedom or not second > 0 or not np.isfinite(first):
        return None
    ratio, tail = first / second, (1.0 - confidence) / 2.0
    bounds = [ratio / float(f.ppf(q, freedom, freedom)) for q in (tail, 1.0 - tail)]
    return Interval(1.0 - ratio**0.5, 1.0 - bounds[0] ** 0.5, 1.0 - bounds[1] ** 0.5)


def _both_crossings(
    curve: tuple[Sequence[float], Array],
    reference: tuple[Sequence[float], Array],
    fraction: float,
    cases: Array,
    seeds: Array,
) -> tuple[Array, Array]:
    own, other = weighted_mean(curve[1], cases, seeds), weighted_mean(reference[1], cases, seeds)
    threshold = fraction * other[..., -1]
    return crossing(curve[0], own, threshold), crossing(reference[0], other, threshold)


def _weighted(values: Array, cases: Array, seeds: Array) -> Array:
    """(S, N, ...), (B, N), (B, S) -> (B, ...)."""
    result: Array = np.einsum("bs,bs...->b...", seeds, np.tensordot(cases, values, axes=(1, 1)))
    return result


def _p_value(sample: Array) -> float:
    sample = sample[~np.isnan(sample)]
    tail = min((sample <= 0).sum(), (sample >= 0).sum())
    return float(min(1.0, 2.0 * (tail + 1) / (len(sample) + 1)))


def _numbered(groups: Sequence[str]) -> tuple[int, ...]:
    numbers = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    return tuple(numbers[group] for group in groups)


@lru_cache(maxsize=64)
def _weights(groups: tuple[int, ...], seeds: int, how: Resampling) -> tuple[Array, Array]:
    """How often each resample draws each case, (B, N), and each seed, (B, S)."""
    random = np.random.default_rng(how.seed)
    patients = max(groups) + 1
    drawn = random.multinomial(patients, np.full(patients, 1.0 / patients), how.times)[:, list(groups)]
    return drawn.astype(float), random.multinomial(seeds, np.full(seeds, 1.0 / seeds), how.times).astype(float)
