"""Number of seeds for a trend: strong, weak, absent, and what cannot be planned with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from pessimism.measures.contrasts import trend_ps
from pessimism.measures.power import Unknown, seeds_needed, spread_root


def observed(rise: float, seeds: int = 5, betas: int = 3) -> np.ndarray:
    """(S, K) values whose beta means rise by exactly ``rise`` and whose residual spread is exactly 1."""
    noise = np.random.default_rng(0).normal(size=(seeds, betas))
    noise -= noise.mean(axis=0)
    rest = noise - noise.mean(axis=1, keepdims=True)
    return noise / math.sqrt((rest**2).sum() / ((seeds - 1) * (betas - 1))) + rise * np.arange(betas)


def test_spread_by_hand() -> None:
    """Without the means of seeds and betas -3, 1, 2 and its opposite remain: a covariance of twice their products."""
    values = np.array([[-4.0, 0.0, 1.0], [5.0, 1.0, 0.0]])
    root = spread_root(values, 3, paired=True)
    assert root @ root == pytest.approx(2 * np.outer([3, -1, -2], [3, -1, -2]))
    assert spread_root(values + [[100.0], [0.0]], 3, paired=True) == pytest.approx(root)
    unpaired = spread_root(values, 3, paired=False)
    assert unpaired == pytest.approx(np.diag(values.std(axis=0, ddof=1)))


def test_two_quantities_share_what_their_runs_share() -> None:
    """Betas of an unpaired seed are independent, two quantities of one run are not: the second is twice the first."""
    first = np.random.default_rng(0).normal(size=(6, 2))
    root = spread_root(np.hstack([first, 2 * first]), 2, paired=False)
    low, high = first.var(axis=0, ddof=1)
    assert root @ root == pytest.approx(
        np.array([[low, 0, 2 * low, 0], [0, high, 0, 2 * high], [2 * low, 0, 4 * low, 0], [0, 2 * high, 0, 4 * high]])
    )


def test_a_beta_without_spread_makes_the_others_no_narrower() -> None:
    """As the difference of two arms at the beta where they are one run."""
    ends = observed(1.0)[:, [0, 2]]
    still = np.column_stack([ends[:, 0], np.zeros(5), ends[:, 1]])
    needed = seeds_needed(still, 0.05, True)
    assert isinstance(needed, int)
    changes = ends[:, 1] - ends[:, 0]
    runs = np.random.default_rng(1).normal(changes.mean(), changes.std(ddof=1), size=(2000, needed))
    found = np.mean(runs.mean(axis=1) / runs.std(axis=1, ddof=1) * math.sqrt(needed) > stdtrit(needed - 1, 0.95))
    assert found == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("paired", [False, True])
def test_weaker_trends_and_stricter_levels_need_more(paired: bool) -> None:
    numbers = [seeds_needed(observed(rise), 0.05, paired) for rise in (4.0, 1.0, 0.5)]
    strict = seeds_needed(observed(1.0), 0.05 / 8, paired)
    assert all(isinstance(number, int) for number in [*numbers, strict]) and numbers == sorted(set(numbers))
    assert int(strict) > int(numbers[1])


@pytest.mark.parametrize("paired", [False, True])
def test_the_number_has_its_power_and_one_seed_less_has_not(paired: bool) -> None:
    values = observed(1.0)
    needed = seeds_needed(values, 0.05, paired)
    assert isinstance(needed, int)
    covariance = np.cov(values, rowvar=False) if paired else np.diag(values.var(axis=0, ddof=1))

    def power(seeds: int) -> float:
        runs = np.random.default_rng(99).multivariate_normal(values.mean(axis=0), covariance, size=(1500, seeds))
        return float(np.mean(trend_ps(runs, paired)[0] <= 0.05))

    assert power(needed) >= 0.8 - 0.05 and power(needed - 1) < 0.8 + 0.05


def test_seed_levels_do_not_matter_where_seeds_are_paired() -> None:
    levels = 1000.0 * np.arange(5)[:, None]
    assert seeds_needed(observed(1.0) + levels, 0.05, True) == seeds_needed(observed(1.0), 0.05, True)
    assert seeds_needed(observed(1.0) + levels, 0.05, False) is Unknown.TOO_MANY


def test_names_do_not_matter_where_they_are_not() -> None:
    values = observed(1.0)
    renamed = np.column_stack([values[::-1, 0], values[:, 1], np.roll(values[:, 2], 2)])
    assert seeds_needed(renamed, 0.05, False) == seeds_needed(values, 0.05, False)


@pytest.mark.parametrize("paired", [False, True])
def test_either_direction_is_planned(paired: bool) -> None:
    """A trend against the claim needs as many runs to contradict it as one for it to support it."""
    against, towards = seeds_needed(observed(-2.0), 0.05, paired), seeds_needed(observed(2.0), 0.05, paired)
    assert isinstance(against, int) and isinstance(towards, int) and abs(against - towards) <= 1
    assert seeds_needed(observed(0.0), 0.05, paired) is Unknown.TOO_MANY == "more than 50"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[1.0, 2.0, 3.0]], Unknown.FEW_VALUES),
        ([[1.0], [2.0]], Unknown.FEW_VALUES),
        ([[1.0, math.inf], [2.0, 3.0]], Unknown.NOT_FINITE),
        ([[1.0, 2.0], [3.0, 4.0]], Unknown.NO_SPREAD),  # but for the seeds' levels
        ([[0.0, 0.0], [0.0, 0.0]], Unknown.NO_SPREAD),
    ],
)
def test_nothing_to_plan_with(values: list[list[float]], reason: Unknown) -> None:
    assert seeds_needed(values, 0.05, paired=True) is reason


def test_unpaired_runs_without_spread_cannot_be_planned_with() -> None:
    assert seeds_needed([[1.0, 2.0], [1.0, 2.0]], 0.05, paired=False) is Unknown.NO_SPREAD
