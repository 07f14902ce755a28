"""Correlations against SciPy, the exact test of Spearman's by counting, and Holm by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from pessimism.measures.trends import (
    holm,
    pearson,
    spearman,
    spearman_exact_p,
    trend_correlation,
)
from support.import_closure import SOURCE, libraries_at_start

INF = math.inf


@pytest.mark.parametrize("seed", range(5))
def test_agree_with_scipy(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 6, size=(2, 12)).astype(float)
    assert pearson(x, y) == pytest.approx(pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_nothing_to_correlate() -> None:
    assert pearson([1, 1, 1], [1, 2, 3]) is None
    assert pearson([1, 2], [1, 2]) is None
    assert spearman([1, 2, 3], [4, 4, 4]) is None
    assert spearman([1], [2]) is None
    assert spearman_exact_p([1], [2]) is None
    assert spearman_exact_p([1], [2], "less") is None


def test_never_ranks_behind_every_step() -> None:
    assert spearman([1, 2, 3], [math.inf, 40, 3]) == -1.0


@pytest.mark.parametrize(
    ("y", "rising", "falling"),
    [
        ([1, 2, 3], 1 / 6, 1.0),
        ([1, 3, 2], 3 / 6, 5 / 6),
        ([3, 2, 1], 1.0, 1 / 6),
        ([1, 2, 3, 4], 1 / 24, 1.0),
        ([1, 1, 2], 2 / 6, 1.0),
        ([2, 1, 1], 1.0, 2 / 6),
    ],
)
def test_exact_p_by_counting_orders(y: list[int], rising: float, falling: float) -> None:
    """Of the 6 orders of 3 betas one is perfect; 2 swap one neighbouring pair and tie for second."""
    assert spearman_exact_p(range(len(y)), y) == pytest.approx(rising)
    assert spearman_exact_p(range(len(y)), y, "less") == pytest.approx(falling)


def test_exact_p_is_not_enumerated_for_many_points() -> None:
    assert spearman_exact_p(range(9), range(9)) is None


def test_trend_correlation_of_paired_seeds_is_the_mean_spearman_without_ties() -> None:
    values = np.random.default_rng(0).normal(size=(4, 5))
    by_seed = [spearman(range(5), row) for row in values]
    paired = trend_correlation(values, paired=True)
    assert paired == pytest.approx(np.mean([value for value in by_seed if value is not None]))
    assert trend_correlation([[1, 1, 2]], paired=True) == pytest.approx(spearman([1, 2, 3], [1, 1, 2]))
    assert trend_correlation([[1, 2, 3], [7, 8, 9]], paired=True) == pytest.approx(1.0)
    assert trend_correlation([[1, 1, 1], [2, 2, 2]], paired=True) is None


def test_trend_correlation_of_unpaired_runs_is_spearmans_over_all_of_them() -> None:
    values = np.array([[1, 2, 3], [7, 8, INF]])
    expected = spearman([0, 1, 2, 0, 1, 2], values.ravel())
    assert trend_correlation(values, paired=False) == pytest.approx(expected) and expected is not None and expected < 1
    assert trend_correlation(np.column_stack([values[::-1, 0], values[:, 1:]]), paired=False) == pytest.approx(expected)
    assert trend_correlation(np.ones((3, 3)), paired=False) is None


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([[0.5, 0.9], [0.02, 0.01]]) == pytest.approx(np.array([[1.0, 1.0], [0.02, 0.02]]))
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert np.all(adjusted >= np.array(ps)) and np.all(adjusted <= np.minimum(1, len(ps) * np.array(ps)) + 1e-15)
    assert np.all(np.diff(adjusted[np.argsort(ps)]) >= 0)


@pytest.mark.parametrize("module", ["trends", "contrasts", "intervals", "power", "power_law", "forms", "beta_star"])
def test_scipy_waits_until_it_is_needed(module: str) -> None:
    assert "scipy" not in libraries_at_start(SOURCE / f"pessimism/measures/{module}.py")
    assert "scipy" not in libraries_at_start(SOURCE / "pessimism/claims/verdicts.py")
