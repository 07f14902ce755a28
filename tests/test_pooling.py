"""The world as the unit: by hand, against SciPy, and by simulation of worlds with few seeds."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import f, f_oneway, permutation_test

from pessimism.errors import DataError
from pessimism.measures.intervals import Interval, t_quantile
from pessimism.measures.pooling import heterogeneity, pool, sign_flip_ps

T_OF_2 = 4.302653  # what a t variable of 2 degrees exceeds with probability 2.5 %


def bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_three_worlds_by_hand() -> None:
    """1, 3 and 5: mean 3, standard deviation 2; of the 8 choices of signs one reaches the mean."""
    found = pool(np.array([1.0, 3.0, 5.0]))
    assert (found.estimate, found.error) == pytest.approx((3.0, 2 / math.sqrt(3)))
    assert bounds(found.interval) == pytest.approx((3 - T_OF_2 * 2 / math.sqrt(3), 3 + T_OF_2 * 2 / math.sqrt(3)))
    half = T_OF_2 * 2 * math.sqrt(4 / 3)
    assert bounds(found.another_world) == pytest.approx((3 - half, 3 + half))
    assert (found.p_rises, found.p_falls, found.smallest_p) == (1 / 8, 1.0, 1 / 8)


def test_signs_of_two_worlds_by_hand() -> None:
    """3 and -1 with every choice of signs: sums 2, 4, -2 and -4. Two reach 2, and three do not exceed it."""
    found = pool(np.array([3.0, -1.0]))
    assert (found.p_rises, found.p_falls) == (2 / 4, 3 / 4)


@pytest.mark.parametrize("worlds", [2, 5, 8])
def test_the_test_of_signs_equals_scipys(worlds: int) -> None:
    effects = np.random.default_rng(worlds).normal(0.4, size=worlds)
    found = pool(effects)
    for alternative, p in (("greater", found.p_rises), ("less", found.p_falls)):
        expected = permutation_test(
            (effects,), np.mean, permutation_type="samples", alternative=alternative, n_resamples=np.inf
        )
        assert p == pytest.approx(expected.pvalue)


def test_many_worlds_are_drawn_and_agree_with_enumeration() -> None:
    effects = np.random.default_rng(5).normal(0.4, size=16)
    sums = np.array(list(product((-1, 1), repeat=16))) @ effects
    found = pool(effects)
    assert found.p_rises == pytest.approx((sums >= effects.sum() - 1e-9).mean(), abs=0.01)
    assert found.smallest_p == 1 / 10_000
    assert pool(effects[::-1]).p_rises == found.p_rises, "the order of the worlds must not matter"


@pytest.mark.parametrize("worlds", [5, 6, 10])
def test_the_test_of_signs_keeps_its_level_whatever_the_spreads(worlds: int) -> None:
    """At 5 % it rejects in the largest multiple of 2 to the -W below it, of unequal and heavy-tailed worlds too."""
    generator = np.random.default_rng(worlds)
    effects = generator.standard_t(2, size=(20_000, worlds)) * np.geomspace(0.2, 5, worlds)
    expected = math.floor(0.05 * 2**worlds) / 2**worlds
    for p in sign_flip_ps(effects):
        assert (p <= 0.05).mean() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("worlds", [2, 3, 6])
def test_intervals_cover_with_few_worlds_of_few_seeds(worlds: int, tau: float) -> None:
    """The mean lies in its interval, and a further world's effect in the other, 95 times in 100."""
    generator = np.random.default_rng([worlds, int(10 * tau)])
    experiments, seeds, mean = 2500, 3, 1.5
    truth = mean + tau * generator.normal(size=(experiments, worlds + 1, 1))
    shown = (truth + generator.normal(size=(experiments, worlds + 1, seeds))).mean(axis=2)
    found = [pool(effects) for effects in shown[:, :-1]]
    covered = np.mean([one.interval.low <= mean <= one.interval.high for one in found])
    met = np.mean(
        [one.another_world.low <= new <= one.another_world.high for one, new in zip(found, shown[:, -1], strict=True)]
    )
    assert (covered, met) == pytest.approx((0.95, 0.95), abs=0.015)


def weighted_covers(effects_W: np.ndarray, errors_W: np.ndarray, mean: float) -> bool:
    """Whether Hartung and Knapp's interval does, with tau of Paule and Mandel and weights by inverse variance."""
    degrees = len(effects_W) - 1

    def weighted(tau_squared: float) -> tuple[float, float, float]:
        weights = 1 / (errors_W**2 + tau_squared)
        center = float(weights @ effects_W / weights.sum())
        return float(weights @ (effects_W - center) ** 2), center, float(weights.sum())

    def excess(tau_squared: float) -> float:
        return weighted(tau_squared)[0] - degrees

    tau_squared = 0.0 if excess(0.0) <= 0 else brentq(excess, 0.0, degrees * float(np.ptp(effects_W)) ** 2)
    spread, center, total = weighted(tau_squared)
    return abs(center - mean) <= t_quantile(degrees) * math.sqrt(spread / degrees / total)


def test_weights_by_inverse_variance_would_cover_too_little() -> None:
    """Why worlds weigh alike: of six equal worlds of three seeds, 87 % of such intervals hold the mean."""
    values_E_W_S = np.random.default_rng(0).normal(size=(4000, 6, 3))
    errors_E_W = values_E_W_S.std(axis=2, ddof=1) / math.sqrt(3)
    effects_E_W = values_E_W_S.mean(axis=2)
    covered = [weighted_covers(*world, 0.0) for world in zip(effects_E_W, errors_E_W, strict=True)]
    alike = [pool(effects).interval for effects in effects_E_W]
    assert np.mean(covered) == pytest.approx(0.87, abs=0.02)
    assert np.mean([found.low <= 0 <= found.high for found in alike]) == pytest.approx(0.95, abs=0.01)


def test_heterogeneity_by_hand() -> None:
    """0 and 4 have variance 8, of which the seeds make 1; two errors of 2 degrees each make one of 4."""
    found = heterogeneity(np.array([0.0, 4.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    assert (found.tau, found.share) == pytest.approx((math.sqrt(7), 7 / 8))
    low, high = 1 - f.ppf(0.975, 1, 4) / 8, 1 - f.ppf(0.025, 1, 4) / 8
    assert low < 0 and bounds(found.share_interval) == pytest.approx((0.0, high))


def test_the_share_is_that_of_an_analysis_of_variance() -> None:
    values_W_S = np.random.default_rng(1).normal(size=(6, 4)) + np.arange(6)[:, None]
    errors = values_W_S.std(axis=1, ddof=1) / math.sqrt(4)
    found = heterogeneity(values_W_S.mean(axis=1), errors, np.full(6, 3.0))
    assert found.share == pytest.approx(1 - 1 / f_oneway(*values_W_S).statistic)


def test_the_interval_of_the_share_covers() -> None:
    """Tau 1 and a standard error of 1/2: four fifths of the variance are between worlds."""
    generator, inside = np.random.default_rng(0), []
    for _ in range(2000):
        values_W_S = generator.normal(size=(6, 1)) + generator.normal(size=(6, 4))
        errors = values_W_S.std(axis=1, ddof=1) / math.sqrt(4)
        found = heterogeneity(values_W_S.mean(axis=1), errors, np.full(6, 3.0)).share_interval
        inside.append(found.low <= 0.8 <= found.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_worlds_closer_than_their_noise_do_not_differ() -> None:
    found = heterogeneity(np.array([1.0, 1.1, 0.9]), np.array([1.0, 1.0, 1.0]), np.full(3, 2.0))
    assert (found.tau, found.share, found.share_interval.low) == (0.0, 0.0, 0.0)


def test_without_noise_all_spread_is_between_worlds_and_without_spread_none_is() -> None:
    nothing, unknown = np.zeros(2), np.full(2, math.nan)
    found = heterogeneity(np.array([1.0, 3.0]), nothing, unknown)
    assert (found.tau, found.share, bounds(found.share_interval)) == (pytest.approx(math.sqrt(2)), 1.0, (1.0, 1.0))
    assert heterogeneity(np.ones(2), np.array([1.0, 0.0]), np.array([2.0, math.nan])).share == 0.0


def test_a_world_without_noise_has_no_degrees() -> None:
    found = heterogeneity(np.array([0.0, 4.0]), np.array([math.sqrt(2), 0.0]), np.array([2.0, math.nan]))
    assert found.share == pytest.approx(7 / 8) and 0 < found.share_interval.high <= 1


@pytest.mark.parametrize("effects", [[1.0], [1.0, math.nan]])
def test_fewer_than_two_worlds_and_a_missing_one_are_refused(effects: list[float]) -> None:
    with pytest.raises(DataError, match="expected 2 or more|expected a series of finite"):
        pool(np.array(effects))
