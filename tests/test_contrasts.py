"""The linear contrast: permutation and t tests against SciPy, names of seeds, levels, intervals."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_1samp, ttest_ind, ttest_rel

from pessimism.errors import DataError
from pessimism.measures import contrasts
from pessimism.measures.contrasts import (
    between_betas,
    combination,
    combination_interval,
    groups_ps,
    left_out,
    permutation_ps,
    positions,
    smallest_p,
    trend_p,
    trend_ps,
    within_seeds,
)
from pessimism.measures.trends import spearman_exact_p

INF = math.inf
TIES = [[1.0, 2.0, 5.0], [3.0, 2.0, 7.0], [2.0, 8.0, 9.0]]
TABLES = [TIES, np.random.default_rng(0).normal(size=(3, 3)).tolist(), [[0.0, 4.0, 1.0, 2.0], [1.0, 0.0, 3.0, 3.0]]]


def drawn(seeds: int, betas: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(seeds, betas)) + 0.5 * np.arange(betas)


def by_permutation(values: np.ndarray, paired: bool) -> tuple[float, float]:
    """The permutation alone, as the module arranges it."""
    seeds, betas = values.shape
    weights = within_seeds(seeds, betas) if paired else between_betas((seeds,) * betas)
    rises, falls = permutation_ps((values if paired else values.T).reshape(1, -1), weights)
    return float(rises[0]), float(falls[0])


def contrast(*columns: np.ndarray, axis: int = -1) -> Any:
    return sum(weight * column.mean(axis=axis) for weight, column in zip(positions(len(columns)), columns, strict=True))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("paired", [False, True])
def test_permutation_equals_scipys_exact_one(table: list[list[float]], paired: bool) -> None:
    """SciPy permutes within rows where ``samples`` are permuted, between groups where they are independent."""
    values = np.array(table)
    kind = "samples" if paired else "independent"
    for alternative, found in zip(("greater", "less"), by_permutation(values, paired), strict=True):
        expected: Any = permutation_test(
            list(values.T), contrast, permutation_type=kind, alternative=alternative, n_resamples=np.inf
        )
        assert found == pytest.approx(expected.pvalue, rel=1e-12)


def test_unequal_groups_equal_scipys() -> None:
    groups = [np.array([1.0, 4.0]), np.array([2.0, 3.0, 7.0]), np.array([5.0, 9.0])]
    sizes = tuple(len(group) for group in groups)
    rises, _ = permutation_ps(np.concatenate(groups)[None], between_betas(sizes))
    expected: Any = permutation_test(groups, contrast, alternative="greater", n_resamples=np.inf)
    assert float(rises[0]) == pytest.approx(expected.pvalue, rel=1e-12)
    assert groups_ps([group[None] for group in groups])[0] >= rises


@pytest.mark.parametrize(("seeds", "betas"), [(3, 3), (2, 4), (4, 2)])
def test_every_arrangement_is_there_once_and_the_observed_one_first(seeds: int, betas: int) -> None:
    unpaired, paired = between_betas((seeds,) * betas).weights, within_seeds(seeds, betas).weights
    assert len({tuple(row) for row in unpaired}) == len(unpaired)
    assert len(unpaired) == math.factorial(seeds * betas) / math.factorial(seeds) ** betas
    assert len({tuple(row) for row in paired}) == len(paired) == math.factorial(betas) ** seeds
    assert unpaired[0] == pytest.approx(np.repeat(positions(betas), seeds) / seeds)
    assert paired[0] == pytest.approx(np.tile(positions(betas), seeds) / seeds)


@pytest.mark.parametrize("paired", [False, True])
def test_p_is_uniform_where_every_arrangement_is_as_likely(paired: bool) -> None:
    """Over all arrangements of one table, the share with a p of at most any level is at most that level, and exact
    at every p that there is where no two contrasts are equal."""
    values = np.random.default_rng(5).normal(size=(2, 3))
    if paired:
        tables = [np.array([a, b]) for a in permutations(values[0]) for b in permutations(values[1])]
    else:
        tables = [np.array(order).reshape(2, 3) for order in permutations(values.ravel())]
    found = np.array([by_permutation(table, paired)[0] for table in tables])
    assert all(np.mean(found <= level + 1e-12) == pytest.approx(level) for level in np.unique(found))


@pytest.mark.parametrize("seeds", [3, 6])
def test_seeds_that_are_not_paired_may_be_named_in_any_way(seeds: int) -> None:
    """Six seeds of three betas are drawn, not enumerated."""
    values, generator = drawn(seeds), np.random.default_rng(1)
    for _ in range(20):
        renamed = generator.permuted(values, axis=0)
        assert trend_p(renamed, paired=False) == trend_p(values, paired=False)


@pytest.mark.parametrize("seeds", [3, 7])
def test_paired_seeds_may_stand_in_any_order_and_may_not_be_torn_apart(seeds: int) -> None:
    levels = 10.0 * np.arange(seeds)[:, None]
    values = drawn(seeds) + levels
    assert trend_p(values[::-1], paired=True) == trend_p(values, paired=True)
    assert trend_p(values, paired=True) == pytest.approx(trend_p(values - levels, paired=True), abs=0.01)
    torn = np.column_stack([values[:, 0], np.roll(values[:, 1], 1), np.roll(values[:, 2], 2)])
    assert trend_p(torn, paired=True)[0] > trend_p(values, paired=True)[0]


@pytest.mark.parametrize(("seeds", "paired"), [(3, False), (6, False), (3, True), (8, True)])
def test_the_unit_of_the_values_does_not_matter(seeds: int, paired: bool) -> None:
    """Six unpaired and eight paired seeds are drawn; a permutation and a t test know no unit and no zero."""
    values = np.round(drawn(seeds, seed=3), 1)
    found = by_both(values, paired)
    for other in (values * 1000, values / 3, 0.1 * values + 7):
        assert by_both(other, paired) == found


def by_both(values: np.ndarray, paired: bool) -> tuple[float, ...]:
    return tuple(round(p, 9) for p in trend_p(values, paired))


def test_the_smaller_p_needs_both_tests() -> None:
    """A permutation cannot go below 1/1680, Welch's t cannot be sure of three runs that spread."""
    certain = np.array([[1.0, 2.0, 3.0], [1.1, 2.1, 3.1], [0.9, 1.9, 2.9]])
    assert trend_p(certain, paired=False)[0] == pytest.approx(1 / 1680) == smallest_p(3, 3, paired=False)
    spread = np.array([[1.0, 5.0, 9.0], [2.0, 6.0, 20.0], [3.0, 7.0, 40.0]])
    rises, _ = trend_p(spread, paired=False)
    welch = ttest_ind(spread[:, 2], spread[:, 0], equal_var=False, alternative="greater").pvalue
    assert by_permutation(spread, paired=False)[0] == pytest.approx(1 / 1680) and rises == pytest.approx(welch)


def test_the_t_test_is_welchs_or_over_seeds() -> None:
    """The middle one of three betas has no weight; of two, the contrast is half their difference."""
    values = drawn(5, betas=2)
    for paired, expected in (
        (False, ttest_ind(values[:, 1], values[:, 0], equal_var=False, alternative="greater")),
        (True, ttest_rel(values[:, 1], values[:, 0], alternative="greater")),
    ):
        above, below = combination(values[None], positions(2), paired).tails()
        assert float(above[0]) == pytest.approx(expected.pvalue) and float(below[0]) == pytest.approx(
            1 - expected.pvalue
        )
        interval = combination_interval(values, [-1, 1], paired)
        bounds = ttest_ind(values[:, 1], values[:, 0], equal_var=False) if not paired else ttest_rel(*values.T[::-1])
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx(tuple(bounds.confidence_interval(0.95)))


def test_paired_t_of_three_betas_is_of_the_seeds_contrasts() -> None:
    values = drawn(4)
    expected = ttest_1samp(values @ positions(3), 0, alternative="greater").pvalue
    assert float(combination(values[None], positions(3), paired=True).tails()[0][0]) == pytest.approx(expected)


def test_without_spread_a_difference_is_certain_and_none_is_none() -> None:
    rising = np.tile([1.0, 2.0, 3.0], (3, 1))
    assert trend_p(rising, paired=False) == (pytest.approx(1 / 1680), 1.0)
    assert trend_p(rising, paired=True) == (pytest.approx(1 / 216), 1.0)
    assert trend_p(np.ones((3, 3)), paired=False) == trend_p(np.ones((3, 3)), paired=True) == (1.0, 1.0)
    interval = combination_interval(rising, [-1, 0, 1], paired=False)
    assert interval is not None and (interval.low, interval.high) == (2.0, 2.0)
    assert combination_interval(rising[:1], [-1, 0, 1], paired=False) is None


@pytest.mark.parametrize("paired", [False, True])
def test_an_event_that_never_came_ranks_last(paired: bool) -> None:
    values = np.array([[INF, 30.0, 9.0], [INF, INF, 6.0], [60.0, 31.0, 8.0]])
    late = np.where(np.isfinite(values), values, 99.0)
    ranks = np.array([[8.0, 4.0, 3.0], [8.0, 8.0, 1.0], [6.0, 5.0, 2.0]])
    within = np.array([[3.0, 2.0, 1.0], [2.5, 2.5, 1.0], [3.0, 2.0, 1.0]])
    assert trend_p(values, paired) == pytest.approx(trend_p(within if paired else ranks, paired))
    assert trend_p(values, paired)[1] < 0.06 and trend_p(late, paired) != trend_p(values, paired)
    assert trend_p(np.full((3, 3), INF), paired) == (1.0, 1.0)


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_what_is_no_table_is_refused(bad: object) -> None:
    with pytest.raises(DataError, match="at least 2 seeds by 2 betas"):
        trend_p(bad, paired=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("paired", [False, True])
def test_a_missing_value_is_refused(paired: bool) -> None:
    with pytest.raises(DataError, match="missing value"):
        trend_p([[1.0, math.nan], [2.0, 3.0]], paired)


@pytest.mark.parametrize("paired", [False, True])
def test_drawn_arrangements_agree_with_enumerated_ones(monkeypatch: pytest.MonkeyPatch, paired: bool) -> None:
    values = drawn(4, seed=3)
    exact = by_permutation(values, paired)
    monkeypatch.setattr(contrasts, "MOST_ENUMERATED", 10)
    for arrange in (between_betas, within_seeds):
        arrange.cache_clear()
    found = by_permutation(values, paired)
    for arrange in (between_betas, within_seeds):
        arrange.cache_clear()
    assert found != exact and found == pytest.approx(exact, abs=0.02)


def test_the_smallest_p_is_of_the_design() -> None:
    assert smallest_p(3, 3, paired=True) == pytest.approx(1 / 216)
    assert smallest_p(4, 3, paired=False) == pytest.approx(1 / 34_650)
    assert smallest_p(5, 3, paired=False) == smallest_p(8, 3, paired=True) == pytest.approx(1 / 10_000)
    certain = np.tile(np.arange(3.0), (5, 1)) + 0.001 * np.arange(5)[:, None]
    assert trend_p(certain, paired=False)[0] == pytest.approx(smallest_p(5, 3, paired=False))


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("spreads", [(1, 2, 4), (4, 2, 1), (4, 1, 4)])
def test_spreads_that_differ_keep_the_level(spreads: tuple[int, ...], paired: bool) -> None:
    """A permutation alone calls one of the last in 8 to 10 %."""
    values = np.random.default_rng(2).normal(size=(3000, 3, 3)) * spreads
    for p_E in trend_ps(values, paired):
        assert np.mean(p_E <= 0.05) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 3000)


def test_a_permutation_alone_does_not_keep_it() -> None:
    values = np.random.default_rng(2).normal(size=(3000, 3, 3)) * (4, 1, 4)
    alone, _ = permutation_ps(values.swapaxes(1, 2).reshape(3000, -1), between_betas((3, 3, 3)))
    assert np.mean(alone <= 0.05) > 0.08


@pytest.mark.parametrize("paired", [False, True])
def test_many_experiments_are_tested_as_one_by_one(paired: bool) -> None:
    tables = np.random.default_rng(4).normal(size=(7, 3, 3))
    tables[2, 0, 1] = INF
    many = np.array(trend_ps(tables, paired)).T
    assert many == pytest.approx(np.array([trend_p(table, paired) for table in tables]))


def test_one_run_per_beta_is_permuted_alone() -> None:
    three, ranks = (
        [np.array([[value]]) for value in values] for values in ([1.0, 2.0, 9.0], [3.0, 1.0, 2.0, 5.0, 4.0])
    )
    assert groups_ps(three) == (pytest.approx([1 / 6]), [1.0])
    assert groups_ps(ranks)[0] == pytest.approx([spearman_exact_p(range(5), [3.0, 1.0, 2.0, 5.0, 4.0])])


def test_groups_of_one_run_beside_larger_ones_keep_the_level() -> None:
    """Their means have unlike spreads: a permutation of means in place of runs rejects 7 % here."""
    values = np.random.default_rng(0).normal(size=(4000, 8))
    rises, _ = groups_ps(np.split(values, [1, 4, 7], axis=1))
    assert 0.03 < (rises <= 0.05).mean() < 0.06


def test_leaving_out_runs_of_a_linear_number_is_welchs_error() -> None:
    values = drawn(4)
    found = left_out(values, lambda means_K: float(means_K @ positions(3)))
    welch = combination(values[None], positions(3), paired=False)
    for one, other in ((found.estimate, welch.estimate), (found.error, welch.error), (found.degrees, welch.degrees)):
        assert one == pytest.approx(other)
