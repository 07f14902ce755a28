"""Intervals against SciPy, published numbers, their own coverage and enumeration."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm, ttest_1samp

from pessimism.errors import DataError
from pessimism.measures.intervals import (
    Interval,
    VarianceComponents,
    auroc,
    log_t_interval,
    resample_interval,
    run_resamples,
    t_interval,
    variance_components,
)


def bounds(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


def test_t_interval_equals_scipy() -> None:
    values = [3.0, 4.5, 9.0]
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert bounds(t_interval(values)) == pytest.approx((expected.low, expected.high))


def test_t_interval_covers_three_normal_runs() -> None:
    samples = np.random.default_rng(0).normal(loc=2.0, size=(2000, 3))
    covered = [low <= 2.0 <= high for low, high in map(bounds, map(t_interval, samples))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_one_run_has_no_interval() -> None:
    assert t_interval([3.0]) is None and log_t_interval([3.0]) is None


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [1.0, math.inf], [[1.0], [2.0]]])
def test_a_missing_run_is_refused(bad: list[float]) -> None:
    with pytest.raises(DataError, match="one per run"):
        t_interval(bad)


def test_log_interval_is_a_factor_around_the_geometric_mean() -> None:
    low, high = bounds(log_t_interval([1.0, 10.0, 100.0]))
    assert low * high == pytest.approx(10.0**2)
    assert low == pytest.approx(math.exp(bounds(t_interval(np.log([1.0, 10.0, 100.0])))[0]))
    assert low > 0


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_log_interval_needs_positive_values(value: float) -> None:
    assert log_t_interval([value, 1.0, 2.0]) is None


def test_variance_components_by_hand() -> None:
    """Rows 1 apart, columns 3 apart, nothing else: variances 1/2 and 9/2 of two means each."""
    found = variance_components([[0.0, 3.0], [1.0, 4.0]])
    assert found == VarianceComponents(seed=pytest.approx(0.5), prompt=pytest.approx(4.5), residual=pytest.approx(0.0))


def test_variance_components_are_less_their_share_of_the_residual() -> None:
    """Mean squares over 2 runs and 3 problems: residual 6, rows 8 - 6/3, columns 49/3 - 6/2."""
    found = variance_components([[12.0, 2.0, 2.0], [4.0, 0.0, 0.0]])
    assert (found.seed, found.prompt, found.residual) == pytest.approx((6.0, 49 / 3 - 3.0, 6.0))


def test_variance_components_are_recovered() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(300):
        seed, prompt = generator.normal(scale=2.0, size=(5, 1)), generator.normal(scale=3.0, size=40)
        found.append(variance_components(seed + prompt + generator.normal(scale=1.5, size=(5, 40))))
    assert np.mean([one.seed for one in found]) == pytest.approx(4.0, rel=0.15)
    assert np.mean([one.prompt for one in found]) == pytest.approx(9.0, rel=0.05)
    assert np.mean([one.residual for one in found]) == pytest.approx(2.25, rel=0.05)


def test_a_component_is_never_negative() -> None:
    found = variance_components([[1.0, -1.0], [-1.0, 1.0]])
    assert (found.seed, found.prompt) == (0.0, 0.0) and found.residual == pytest.approx(4.0)
    with pytest.raises(DataError, match="at least 2 runs by 2 problems"):
        variance_components([[1.0, 2.0]])


def test_standard_error_of_two_levels() -> None:
    components = VarianceComponents(seed=4.0, prompt=9.0, residual=2.0)
    assert components.standard_error(seeds=4, prompts=9) == pytest.approx(math.sqrt(1 + 1 + 2 / 36))


def hanley_and_mcneil() -> tuple[np.ndarray, np.ndarray]:
    """Ratings 1 to 5 of 58 normal and 51 abnormal images: Hanley and McNeil, Radiology 143 (1982), table I."""
    counts = [33, 6, 6, 11, 2, 3, 2, 2, 11, 33]
    return np.repeat(np.tile(np.arange(1, 6), 2), counts), np.repeat([0, 1], [58, 51])


def test_auroc_of_a_published_example() -> None:
    """They report an area of 0.893 and a standard error of 0.032; the interval is about twice that to either side."""
    found = auroc(*hanley_and_mcneil())
    assert found is not None and (found.wrong, found.right) == (51, 58)
    assert round(found.value, 3) == 0.893
    low, high = bounds(found.interval)
    assert (high - low) / (2 * norm.ppf(0.975)) == pytest.approx(0.032, abs=0.001)
    assert low < 0.893 - 1.96 * 0.032 < high < 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_mann_whitney_share(answers: list[tuple[int, bool]]) -> None:
    scores, wrong = np.array([score for score, _ in answers]), np.array([flag for _, flag in answers])
    found = auroc(scores, wrong)
    if wrong.all() or not wrong.any():
        assert found is None
        return
    assert found is not None
    expected = mannwhitneyu(scores[wrong], scores[~wrong]).statistic / (wrong.sum() * (~wrong).sum())
    assert found.value == pytest.approx(expected)
    assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1
    turned = auroc(-scores, wrong)
    assert turned is not None
    assert bounds(turned.interval) == pytest.approx((1 - found.interval.high, 1 - found.interval.low), abs=1e-6)


def test_perfect_separation_is_not_certainty() -> None:
    few, many = auroc([1, 2, 3, 4], [0, 0, 1, 1]), auroc(range(100), [0] * 50 + [1] * 50)
    assert few is not None and many is not None
    assert few.value == many.value == few.interval.high == 1.0
    assert few.interval.low < 0.5 < 0.9 < many.interval.low < 1.0


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_auroc_interval_covers(shift: float) -> None:
    generator, true = np.random.default_rng(0), float(norm.cdf(shift / math.sqrt(2)))
    covered = []
    for _ in range(500):
        found = auroc(
            np.concatenate([generator.normal(shift, size=15), generator.normal(size=25)]), [1] * 15 + [0] * 25
        )
        assert found is not None
        covered.append(found.interval.low <= true <= found.interval.high)
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("seeds", [1, 2, 3, 4, 5])
def test_few_paired_seeds_have_all_their_resamples(seeds: int) -> None:
    counts_R_S_K, weight_R = run_resamples(seeds, 2, paired=True)
    assert np.array_equal(counts_R_S_K[..., 0], counts_R_S_K[..., 1])
    found = dict(zip(map(tuple, counts_R_S_K[..., 0].tolist()), weight_R * seeds**seeds, strict=True))
    assert found == pytest.approx(every_resample(seeds))


def every_resample(seeds: int) -> dict[tuple[int, ...], int]:
    """How many of the seeds^seeds draws give each count."""
    expected: dict[tuple[int, ...], int] = {}
    for draw in product(range(seeds), repeat=seeds):
        key = tuple(draw.count(seed) for seed in range(seeds))
        expected[key] = expected.get(key, 0) + 1
    return expected


def test_few_unpaired_runs_have_all_resamples_of_each_beta() -> None:
    counts_R_S_K, weight_R = run_resamples(3, 3, paired=False)
    assert counts_R_S_K.shape == (1000, 3, 3) and weight_R.sum() == pytest.approx(1.0)
    one = every_resample(3)
    for counts_S_K, weight in zip(counts_R_S_K[::97], weight_R[::97], strict=True):
        assert weight * 27**3 == pytest.approx(math.prod(one[tuple(counts)] for counts in counts_S_K.T.tolist()))


@pytest.mark.parametrize(("seeds", "betas", "paired"), [(8, 3, True), (8, 3, False), (3, 6, False)])
def test_many_have_drawn_resamples_always_the_same(seeds: int, betas: int, paired: bool) -> None:
    counts_R_S_K, weight_R = run_resamples(seeds, betas, paired)
    assert counts_R_S_K.shape == (2000, seeds, betas) and np.all(counts_R_S_K.sum(axis=1) == seeds)
    assert weight_R.sum() == pytest.approx(1.0)
    assert counts_R_S_K.mean(axis=0) == pytest.approx(np.ones((seeds, betas)), abs=0.1)
    assert np.array_equal(counts_R_S_K, run_resamples(seeds, betas, paired)[0])
    assert np.array_equal(counts_R_S_K[..., 0], counts_R_S_K[..., 1]) == paired


def test_resample_interval_weighs() -> None:
    assert bounds(resample_interval([9.0, 1.0, 5.0], [0.02, 0.02, 0.96])) == (5.0, 5.0)
    assert bounds(resample_interval([9.0, 1.0, 5.0], [4.0, 4.0, 92.0])) == (1.0, 9.0)
    assert resample_interval([], []) is None
