"""Intervals, corrections and crossings against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from model_training.studies.data_efficiency.scores import Scores, aligned
from model_training.studies.data_efficiency.statistics import (
    Resampling,
    crossing,
    difference,
    holm,
    mean,
    seed_spread,
    spread_reduction,
    steps_saved,
)

HOW = Resampling(times=2000, seed=1)
NAN = float("nan")


def _names(count: int) -> list[str]:
    return [f"case_{n}" for n in range(count)]


def _scores(seeds: int = 3, cases: int = 20, labels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.8, 0.05, (seeds, cases, labels))


def test_mean_is_over_labels_of_means_over_cases() -> None:
    values = np.array([[[0.2, 0.6], [0.4, NAN], [0.6, NAN]]])
    assert mean(values) == pytest.approx((0.4 + 0.6) / 2)


def test_a_label_that_no_case_has_is_left_out_of_the_mean() -> None:
    assert mean(np.array([[[0.2, NAN], [0.4, NAN]]])) == pytest.approx(0.3)


def test_interval_by_case_is_that_of_scipy() -> None:
    first, second = _scores(), _scores(seed=1)
    found = difference(first, second, _names(20), HOW)
    assert found is not None
    by_case = (first - second).mean(axis=(0, 2))
    theirs = bootstrap((by_case,), np.mean, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    assert found.by_case.estimate == pytest.approx(by_case.mean())
    assert (found.by_case.low, found.by_case.high) == pytest.approx((theirs.low, theirs.high), abs=2e-3)


def test_cases_that_both_arms_find_hard_do_not_widen_the_interval() -> None:
    hard = np.random.default_rng(3).normal(0.0, 0.3, (1, 20, 1))
    plain, shared = (difference(_scores() + add, _scores(seed=1) + add, _names(20), HOW) for add in (0.0, hard))
    assert plain is not None
    assert shared is not None
    assert shared.by_case.high - shared.by_case.low == pytest.approx(plain.by_case.high - plain.by_case.low)


def test_a_missing_label_counts_in_neither_arm() -> None:
    first, second = _scores(), _scores() - 0.1
    first[:, 3, 1] = NAN
    second[:, 3, 1] = 99.0
    found = difference(first, second, _names(20), HOW)
    assert found is not None
    assert found.by_case.estimate == pytest.approx(0.1)
    assert found.by_case.high == pytest.approx(0.1)


def test_arms_without_a_common_figure_have_no_difference() -> None:
    first, second = _scores(), _scores()
    first[:, :10], second[:, 10:] = NAN, NAN
    assert difference(first, second, _names(20), HOW) is None


def test_seeds_that_disagree_widen_the_interval_by_case_and_seed_only() -> None:
    apart = _scores() + np.array([-0.1, 0.0, 0.1])[:, None, None]
    found = difference(apart, _scores() - 0.05, _names(20), HOW)
    assert found is not None
    assert found.by_case.low == pytest.approx(0.05)
    assert found.by_case_and_seed.low < 0 < found.by_case_and_seed.high
    assert found.p > 0.05


def test_images_of_one_patient_are_resampled_together() -> None:
    effects = np.random.default_rng(5).normal(0.0, 0.1, 10)
    twins = np.repeat(effects, 2)[None, :, None] + np.zeros((3, 20, 2))
    separate = difference(twins, np.zeros_like(twins), _names(20), HOW)
    together = difference(twins, np.zeros_like(twins), [f"patient_{n // 2}" for n in range(20)], HOW)
    assert separate is not None
    assert together is not None
    assert together.by_case.high - together.by_case.low > 1.2 * (separate.by_case.high - separate.by_case.low)


def test_no_difference_is_found_about_as_often_as_the_confidence_says() -> None:
    random = np.random.default_rng(11)
    covered = 0
    for _ in range(100):
        found = difference(random.normal(0, 1, (1, 40, 1)), random.normal(0, 1, (1, 40, 1)), _names(40), HOW)
        assert found is not None
        covered += found.by_case.low <= 0 <= found.by_case.high
    assert 86 <= covered <= 100


def test_holm_multiplies_the_smallest_by_the_number_of_all() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("threshold", "steps"),
    [(0.5, 150.0), (0.8, 300.0), (0.2, 100.0), (0.9, np.inf)],
    ids=["between", "at", "at the first", "never"],
)
def test_steps_are_interpolated_between_checkpoints(threshold: float, steps: float) -> None:
    curve = np.array([[0.4, 0.6, 0.8]])
    assert crossing([100, 200, 300], curve, np.array([threshold]))[0] == pytest.approx(steps)


def test_a_curve_that_falls_again_has_come_there_once() -> None:
    assert crossing([1, 2, 3], np.array([0.0, 1.0, 0.2]), np.array(0.5)) == pytest.approx(1.5)


def test_an_arm_twice_as_fast_saves_half_the_steps_in_every_resample() -> None:
    level = _scores()[:, :, None, :]
    slow = level * np.array([0.0, 0.5, 1.0])[:, None]
    found = steps_saved(([50, 100, 150], slow), ([100, 200, 300], slow), 0.95, _names(20), HOW)
    assert found.steps == pytest.approx(found.reference_steps / 2)
    for interval in found.saved:
        assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_an_arm_that_never_gets_there_saves_nothing() -> None:
    level = _scores()[:, :, None, :]
    slow = level * np.array([0.0, 0.5, 1.0])[:, None]
    found = steps_saved(([100, 200, 300], 0.8 * slow), ([100, 200, 300], slow), 0.95, _names(20), HOW)
    assert found.steps == np.inf
    assert found.saved[0].high == -np.inf


def test_spread_is_that_of_the_seeds_means() -> None:
    values = np.array([0.1, 0.2, 0.3])[:, None, None] + np.zeros((3, 5, 2))
    assert seed_spread(values) == pytest.approx(0.1)
    assert np.isnan(seed_spread(values[:1]))


def test_three_seeds_do_not_show_a_smaller_spread_but_many_do() -> None:
    few, many = (spread_reduction([(0.5, 1.0, seeds)], 0.95) for seeds in (3, 30))
    assert few is not None
    assert many is not None
    assert few.estimate == many.estimate == pytest.approx(0.5)
    assert few.low < 0 < many.low
    assert few.high < 1


def test_arms_are_compared_on_what_both_have_in_one_order() -> None:
    first = Scores(np.array([[[1.0], [2.0]], [[3.0], [4.0]]]), ("0", "1"), ("a", "b"), ("x",))
    second = Scores(np.array([[[9.0], [8.0], [7.0]]]), ("1",), ("c", "b", "a"), ("x",))
    both = aligned(first, second)
    assert both is not None
    assert [scores.cases for scores in both] == [("a", "b")] * 2
    assert [scores.values[..., 0].tolist() for scores in both] == [[[3.0, 4.0]], [[7.0, 8.0]]]
    assert aligned(first, Scores(np.ones((1, 1, 1)), ("5",), ("a",), ("x",))) is None
