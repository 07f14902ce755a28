"""Number of seeds for a trend: strong, weak, absent, and what cannot be planned with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pessimism.measures.power import Unknown, residual_sd, seeds_needed
from pessimism.measures.trends import page_trend


def observed(rise: float, seeds: int = 5, betas: int = 3) -> np.ndarray:
    """(S, K) values whose beta means rise by exactly ``rise`` and whose residual spread is exactly 1."""
    noise = np.random.default_rng(0).normal(size=(seeds, betas))
    noise -= noise.mean(axis=0)
    rest = noise - noise.mean(axis=1, keepdims=True)
    return noise / math.sqrt((rest**2).sum() / ((seeds - 1) * (betas - 1))) + rise * np.arange(betas)


def test_residual_spread_by_hand() -> None:
    """Without the means of rows and columns 2, -1, -1 and -2, 1, 1 remain: 12 over (2 - 1) (3 - 1)."""
    assert residual_sd(np.array([[12.0, 2.0, 2.0], [4.0, 0.0, 0.0]])) == pytest.approx(math.sqrt(6))


def test_a_certain_trend_needs_as_many_seeds_as_the_smallest_p_asks_for() -> None:
    """Every order is perfect: 1/6 and 1/36 at one and two seeds, 1/216 at three, 1/1296 at four."""
    assert seeds_needed(observed(100.0)) == 2
    assert seeds_needed(observed(100.0), alpha=0.01) == 3
    assert seeds_needed(observed(100.0), alpha=0.001) == 4


def test_weaker_trends_and_stricter_levels_need_more() -> None:
    numbers = [seeds_needed(observed(rise)) for rise in (2.0, 1.0, 0.5)]
    assert all(isinstance(number, int) for number in numbers) and numbers == sorted(set(numbers))
    strict = seeds_needed(observed(1.0), alpha=0.05 / 8)
    assert isinstance(strict, int) and strict > numbers[1]


def test_the_number_has_its_power_and_one_seed_less_has_not() -> None:
    needed = seeds_needed(observed(1.0))
    assert isinstance(needed, int)
    generator = np.random.default_rng(99)

    def power(seeds: int) -> float:
        runs = generator.normal(size=(1500, seeds, 3)) + np.arange(3.0)
        return float(np.mean([page_trend(values) <= 0.05 for values in runs]))

    assert power(needed) >= 0.8 - 0.04 and power(needed - 1) < 0.8 + 0.04


def test_seed_levels_do_not_matter() -> None:
    levels = 1000.0 * np.arange(5)[:, None]
    assert seeds_needed(observed(1.0) + levels) == seeds_needed(observed(1.0))


def test_the_direction_counts() -> None:
    assert seeds_needed(-observed(2.0)) is Unknown.TOO_MANY
    assert seeds_needed(-observed(2.0), alternative="less") == seeds_needed(observed(2.0))
    assert Unknown.TOO_MANY == "more than 50"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[1.0, 2.0, 3.0]], Unknown.FEW_VALUES),
        ([[1.0], [2.0]], Unknown.FEW_VALUES),
        ([[1.0, math.inf], [2.0, 3.0]], Unknown.NOT_FINITE),
        ([[1.0, 2.0], [3.0, 4.0]], Unknown.NO_SPREAD),
        ([[0.0, 0.0], [0.0, 0.0]], Unknown.NO_SPREAD),
    ],
)
def test_nothing_to_plan_with(values: list[list[float]], reason: Unknown) -> None:
    assert seeds_needed(values) is reason
