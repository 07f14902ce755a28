"""Trend tests against SciPy, exhaustive enumeration and published tables; Holm by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import page_trend_test, pearsonr, rankdata, spearmanr

from pessimism.errors import DataError
from pessimism.measures.trends import (
    Alternative,
    holm,
    jonckheere,
    page_null,
    page_smallest_p,
    page_trend,
    page_trend_untied,
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


def all_orders(values_S_K: np.ndarray) -> Iterator[np.ndarray]:
    """Every table that reorders the values within seeds."""
    for rows in product(*(permutations(row) for row in values_S_K.tolist())):
        yield np.array(rows)


def enumerated_p(values_S_K: np.ndarray, alternative: Alternative) -> float:
    """Page's p by counting all orders, sharing no code with the convolution."""
    positions = np.arange(1, values_S_K.shape[1] + 1)
    observed = (rankdata(values_S_K, axis=1) * positions).sum()
    null = np.array([(rankdata(table, axis=1) * positions).sum() for table in all_orders(values_S_K)])
    return float(np.mean(null >= observed) if alternative == "greater" else np.mean(null <= observed))


TIED = [
    [[1, 1, 2], [3, 1, 2], [1, 2, 2]],
    [[1, 1, 1], [2, 1, 3]],
    [[INF, INF, 3], [INF, 12, 9], [INF, INF, INF]],
    [[1, 2, 2, 1], [4, 3, 3, 3]],
    [[0, 1, 2]],
]


@pytest.mark.parametrize("alternative", ["greater", "less"])
@pytest.mark.parametrize("table", TIED)
def test_page_with_ties_equals_exhaustive_enumeration(table: list[list[float]], alternative: Alternative) -> None:
    values = np.array(table, dtype=float)
    assert page_trend(values, alternative) == pytest.approx(enumerated_p(values, alternative), rel=1e-12)


@pytest.mark.parametrize(("seeds", "betas"), [(2, 3), (3, 3), (5, 3), (4, 5), (3, 6)])
def test_page_without_ties_equals_scipy(seeds: int, betas: int) -> None:
    for values in np.random.default_rng(seeds * betas).normal(size=(5, seeds, betas)):
        exact = page_trend_test(values, method="exact").pvalue
        assert page_trend(values) == pytest.approx(exact, rel=1e-9)
        assert page_trend(values[:, ::-1], "less") == pytest.approx(exact, rel=1e-9)


# Smallest L that is significant at 5, 1 and 0.1 %, for 2 to 12 rows: E. B. Page, "Ordered hypotheses for multiple
# treatments", JASA 58 (1963), table 2, as reprinted by Siegel and Castellan (1988), table N, and R's crank. For 6
# columns only to 7 rows: at 8 the table prints 655 for 0.1 %, whose exact probability is 0.001002 here and in SciPy.
CRITICAL = {
    (3, 0.05): [28, 41, 54, 66, 79, 91, 104, 116, 128, 141, 153],
    (3, 0.01): [None, 42, 55, 68, 81, 93, 106, 119, 131, 144, 156],
    (3, 0.001): [None, None, 56, 70, 83, 96, 109, 121, 134, 147, 160],
    (4, 0.05): [58, 84, 111, 137, 163, 189, 214, 240, 266, 292, 317],
    (4, 0.01): [60, 87, 114, 141, 167, 193, 220, 246, 272, 298, 324],
    (4, 0.001): [None, 89, 117, 145, 172, 198, 225, 252, 278, 305, 331],
    (6, 0.05): [166, 244, 321, 397, 474, 550],
    (6, 0.01): [173, 252, 331, 409, 486, 563],
    (6, 0.001): [178, 260, 341, 420, 499, 577],
}


def upper_tail(seeds: int, betas: int) -> np.ndarray:
    """(L,) chance of a statistic of at least L without ties."""
    probability_L = page_null(np.tile(2 * np.arange(1, betas + 1), (seeds, 1)))[::2]
    return np.cumsum(probability_L[::-1])[::-1]


@pytest.mark.parametrize(("betas", "level"), CRITICAL)
def test_page_critical_values_are_the_published_ones(betas: int, level: float) -> None:
    for seeds, expected in enumerate(CRITICAL[betas, level], start=2):
        significant = np.flatnonzero(upper_tail(seeds, betas) <= level + 1e-12)
        assert (int(significant[0]) if significant.size else None) == expected


def test_page_p_of_published_examples() -> None:
    """Cotton fibres, Hollander and Wolfe (example 7.2): L = 158 with l(.0097, 5, 3) = 155, as in R's NSM3::cPage."""
    assert round(float(upper_tail(3, 5)[155]), 4) == 0.0097
    cotton = [[7.46, 7.17, 7.76, 8.14, 7.63], [7.68, 7.57, 7.73, 8.15, 8.00], [7.21, 7.80, 7.74, 7.87, 7.93]]
    assert page_trend(cotton) == pytest.approx(float(upper_tail(3, 5)[158]), rel=1e-12)
    assert upper_tail(3, 5)[158] < 0.0097


def test_smallest_p_of_the_designs() -> None:
    assert page_smallest_p(3, 3) == pytest.approx(1 / 216)
    assert page_trend([[1, 2, 3]] * 3) == pytest.approx(1 / 216)
    assert page_trend([[3, 2, 1]] * 5, "less") == pytest.approx(page_smallest_p(5, 3))
    assert page_trend(np.tile(np.arange(6), (5, 1))) == pytest.approx(page_smallest_p(5, 6))
    assert page_trend(np.tile(np.arange(9), (3, 1))) == pytest.approx(page_smallest_p(3, 9))


@pytest.mark.parametrize("table", TIED)
def test_page_p_is_valid_under_its_null(table: list[list[float]]) -> None:
    """Over all orders of the values found, a p of at most alpha comes with a frequency of at most alpha."""
    p_of_orders = np.array([page_trend(order) for order in all_orders(np.array(table, dtype=float))])
    for alpha in np.unique(p_of_orders):
        assert np.mean(p_of_orders <= alpha + 1e-12) <= alpha + 1e-9


tables = st.integers(2, 5).flatmap(
    lambda betas: st.lists(st.lists(st.integers(0, 4), min_size=betas, max_size=betas), min_size=1, max_size=4)
)


@settings(deadline=None)
@given(tables, st.integers(-3, 3))
def test_page_ignores_seed_levels_and_the_order_of_seeds(table: list[list[int]], level: int) -> None:
    values = np.array(table, dtype=float)
    moved = values[::-1] + level * np.arange(len(values))[:, None]
    assert page_trend(moved) == pytest.approx(page_trend(values), rel=1e-9)
    assert page_trend(-values, "less") == pytest.approx(page_trend(values), rel=1e-9)
    assert page_trend(values) + page_trend(values, "less") >= 1.0 - 1e-9


def test_page_says_nothing_where_all_values_are_equal() -> None:
    assert page_trend([[1, 1, 1]] * 3) == page_trend([[1, 1, 1]] * 3, "less") == 1.0
    assert trend_correlation([[1, 1, 1]] * 3) is None


@pytest.mark.parametrize("bad", [[1, 2, 3], [[1.0], [2.0]], np.zeros((0, 3)), np.zeros((2, 13))])
def test_page_refuses_what_is_no_table(bad: object) -> None:
    with pytest.raises(DataError, match="expected .seeds, 2 to 12 betas"):
        page_trend(bad)  # type: ignore[arg-type]


def test_page_refuses_a_missing_value() -> None:
    with pytest.raises(DataError, match="missing value"):
        page_trend([[1, math.nan, 3]])


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_many_experiments_at_once(alternative: Alternative) -> None:
    experiments = np.random.default_rng(0).normal(size=(50, 4, 5))
    one_by_one = [page_trend(values, alternative) for values in experiments]
    assert page_trend_untied(experiments, alternative) == pytest.approx(one_by_one, rel=1e-9)


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_many_experiments_refuse_ties(value: float) -> None:
    experiments = np.array([[[1.0, 2.0, 3.0], [1.0, value, 3.0]]])
    with pytest.raises(DataError, match="use page_trend"):
        page_trend_untied(experiments)


def test_trend_correlation_is_the_mean_spearman_without_ties() -> None:
    values = np.random.default_rng(0).normal(size=(4, 5))
    by_seed = [spearman(range(5), row) for row in values]
    assert trend_correlation(values) == pytest.approx(np.mean([value for value in by_seed if value is not None]))
    assert trend_correlation([[1, 1, 2]]) == pytest.approx(spearman([1, 2, 3], [1, 1, 2]))
    assert trend_correlation([[1, 2, 3], [7, 8, 9]]) == pytest.approx(1.0)


def arrangements(values: list[float], sizes: list[int]) -> Iterator[list[list[float]]]:
    """Every way to fill groups of these sizes."""
    if not sizes:
        yield []
        return
    for chosen in combinations(range(len(values)), sizes[0]):
        rest = [value for index, value in enumerate(values) if index not in chosen]
        for others in arrangements(rest, sizes[1:]):
            yield [[values[index] for index in chosen], *others]


def pairs_in_order(groups: list[list[float]]) -> float:
    return sum((a < b) + 0.5 * (a == b) for first, second in combinations(groups, 2) for a, b in product(first, second))


@pytest.mark.parametrize("alternative", ["greater", "less"])
@pytest.mark.parametrize(
    "groups", [[[1, 2, 5], [3, 4, 7], [6, 8, 9]], [[1, 1], [2, 1], [INF, 3, 2]], [[4, 5, 5], [1, INF, 5], [INF, 2, 2]]]
)
def test_jonckheere_equals_exhaustive_enumeration(groups: list[list[float]], alternative: Alternative) -> None:
    pooled = [value for group in groups for value in group]
    null = np.array([pairs_in_order(found) for found in arrangements(pooled, [len(group) for group in groups])])
    observed = pairs_in_order(groups)
    expected = np.mean(null >= observed) if alternative == "greater" else np.mean(null <= observed)
    assert jonckheere(groups, alternative) == pytest.approx(float(expected), rel=1e-12)


def test_jonckheere_smallest_p_at_three_by_three() -> None:
    assert jonckheere([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) == pytest.approx(1 / 1680)
    assert jonckheere([[7, 8, 9], [4, 5, 6], [1, 2, 3]], "less") == pytest.approx(1 / 1680)


def test_jonckheere_of_a_published_example() -> None:
    """Jonckheere's data (1954): J = 71; R's DescTools 0.99 prints the exact two-sided p 0.03368.

    With 63 million arrangements ours draws 9,999; the tolerance is four standard errors of that.
    """
    groups = [[19, 20, 60, 130], [21, 61, 80, 129], [40, 99, 100, 149], [49, 110, 151, 160]]
    assert pairs_in_order([[float(value) for value in group] for group in groups]) == 71
    expected = 0.03368 / 2
    tolerance = 4 * math.sqrt(expected * (1 - expected) / 9_999)
    assert jonckheere(groups) == pytest.approx(expected, abs=tolerance)
    assert jonckheere(groups) == jonckheere(groups)


def test_jonckheere_without_enough_values() -> None:
    assert jonckheere([[1, 2, 3]]) is None
    assert jonckheere([[1], [2], [3]]) is None
    with pytest.raises(DataError, match="missing value"):
        jonckheere([[1, math.nan], [2, 3]])


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([[0.5, 0.9], [0.02, 0.01]]) == pytest.approx(np.array([[1.0, 1.0], [0.02, 0.02]]))
    assert holm([]).tolist() == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert np.all(adjusted >= np.array(ps)) and np.all(adjusted <= np.minimum(1, len(ps) * np.array(ps)) + 1e-15)
    assert np.all(np.diff(adjusted[np.argsort(ps)]) >= 0)


@pytest.mark.parametrize("module", ["trends", "intervals", "power", "power_law", "forms", "beta_star"])
def test_scipy_waits_until_it_is_needed(module: str) -> None:
    assert "scipy" not in libraries_at_start(SOURCE / f"pessimism/measures/{module}.py")
    assert "scipy" not in libraries_at_start(SOURCE / "pessimism/claims/verdicts.py")
