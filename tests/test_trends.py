"""Correlations against SciPy and against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from pessimism.analysis.trends import pearson, spearman, spearman_exact_p


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


def test_never_ranks_behind_every_step() -> None:
    assert spearman([1, 2, 3], [math.inf, 40, 3]) == -1.0


@pytest.mark.parametrize(
    ("y", "expected"),
    [([1, 2, 3], 1 / 6), ([1, 3, 2], 3 / 6), ([3, 2, 1], 1.0), ([1, 2, 3, 4], 1 / 24), ([1, 1, 2], 2 / 6)],
)
def test_exact_p_by_counting_orders(y: list[int], expected: float) -> None:
    """Of the 6 orders of 3 betas one is perfect; 2 swap one neighbouring pair and tie for second."""
    assert spearman_exact_p(range(len(y)), y) == pytest.approx(expected)


def test_exact_p_is_not_enumerated_for_many_points() -> None:
    assert spearman_exact_p(range(9), range(9)) is None
