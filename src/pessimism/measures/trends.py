"""Correlations that tell a constant series, trend tests that are exact where a table's would be wrong, and Holm.

``alternative`` is always a direction: "greater" = the quantity rises with the order, "less" = it falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from itertools import permutations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pessimism.errors import DataError

Alternative = Literal["greater", "less"]

LARGEST_ENUMERATION = 8
LARGEST_PAGE = 12
JONCKHEERE_RESAMPLES = 9_999
_JONCKHEERE_SEED = 0
_JONCKHEERE_BATCH = 1_000
_ROUNDING = 1e-12


def pearson(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson correlation in [-1, 1]; None below 3 points or where either series is constant."""
    values_x, values_y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(values_x) < 3 or np.ptp(values_x) == 0 or np.ptp(values_y) == 0:
        return None
    return _correlation(values_x, values_y)


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman rank correlation in [-1, 1], ties at their mean rank; None where either is constant or empty.

    ``y`` may hold infinity: a run in which an event never came ranks behind all in which it did.
    """
    x_ranks, y_ranks = _ranks(x), _ranks(y)
    if _constant(x_ranks) or _constant(y_ranks):
        return None
    return _correlation(x_ranks, y_ranks)


def spearman_exact_p(x: ArrayLike, y: ArrayLike, alternative: Alternative = "greater") -> float | None:
    """Chance that a random pairing of ``x`` with ``y`` has a rank correlation at least as far in the direction.

    With 3 points it cannot be below 1/6.

    Returns:
        Probability in (0, 1]; None where there is no correlation or above 8 points, where it is not enumerated.
    """
    observed, null = spearman(x, y), spearman_null(x, y)
    if observed is None or null is None:
        return None
    as_far = null >= observed - _ROUNDING if alternative == "greater" else null <= observed + _ROUNDING
    return float(np.mean(as_far))


def spearman_null(x: ArrayLike, y: ArrayLike) -> np.ndarray | None:
    """(n!,) rank correlation of every pairing of ``x`` with ``y``; None where constant or empty, or above 8 points."""
    x_ranks, y_ranks = _ranks(x), _ranks(y)
    if _constant(x_ranks) or _constant(y_ranks) or len(x_ranks) > LARGEST_ENUMERATION:
        return None
    x_ranks, y_ranks = x_ranks - x_ranks.mean(), y_ranks - y_ranks.mean()
    return np.array(list(permutations(x_ranks))) @ y_ranks / math.sqrt((x_ranks @ x_ranks) * (y_ranks @ y_ranks))


def _ranks(values: ArrayLike) -> np.ndarray:
    return pd.Series(np.asarray(values, dtype=float)).rank().to_numpy()


def _constant(values: np.ndarray) -> bool:
    return not values.size or bool(np.ptp(values) == 0)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def page_trend(values_S_K: ArrayLike, alternative: Alternative = "greater") -> float:
    """Page's test (1963) for a trend over ordered columns, paired by row; exact, with or without ties.

    The statistic L sums the beta's position times the value's rank within its seed over seeds and betas. Under the null
    every order of a seed's values is equally likely, independently of the other seeds, and the distribution of L is the
    convolution of the seeds' own. A constant added to a seed changes nothing.

    Args:
        values_S_K: (S, K) one row per seed, one column per beta in ascending order; infinity ranks last.
        alternative: the direction of the trend.

    Returns:
        Probability in (0, 1] of an L at least as far in the direction.

    Raises:
        DataError: no such table, a missing value, or more than 12 columns.
    """
    ranks_S_K = _doubled_ranks(values_S_K)
    statistic, probability_L = _page_statistic(ranks_S_K), page_null(ranks_S_K)
    tail = probability_L[statistic:] if alternative == "greater" else probability_L[: statistic + 1]
    return min(float(tail.sum()), 1.0)


def page_trend_untied(values_M_S_K: np.ndarray, alternative: Alternative = "greater") -> np.ndarray:
    """:func:`page_trend` of many experiments at once, none of which has equal values within a seed.

    Args:
        values_M_S_K: (M, S, K) experiments, seeds, betas.
        alternative: the direction of the trend.

    Returns:
        (M,) probabilities in (0, 1].

    Raises:
        DataError: two values of a seed are equal.
    """
    _, seeds, betas = values_M_S_K.shape
    order = np.argsort(values_M_S_K, axis=-1)
    if not np.all(np.diff(np.take_along_axis(values_M_S_K, order, axis=-1), axis=-1) > 0):
        raise DataError("found equal or missing values within a seed; expected none: use page_trend, one table a call")
    positions = np.arange(1, betas + 1)
    # The rank-r value stands at position order[r]: summing over ranks needs no second sort.
    statistic_M = ((order + 1) * positions).sum(axis=(-1, -2))
    probability_L = page_null(np.tile(2 * positions, (seeds, 1)))[::2]
    tail_L = np.cumsum(probability_L[::-1])[::-1] if alternative == "greater" else np.cumsum(probability_L)
    return np.minimum(tail_L[statistic_M], 1.0)


def page_smallest_p(seeds: int, betas: int) -> float:
    """Smallest p that :func:`page_trend` can return for this design: one order out of (betas!)^seeds."""
    return 1 / math.factorial(betas) ** seeds


def page_null(ranks_S_K: np.ndarray) -> np.ndarray:
    """Null distribution of Page's L for these doubled ranks: entry l is the probability of 2 L = l.

    Args:
        ranks_S_K: (S, K) twice the rank of each value within its seed, so that tied ranks are whole numbers.
    """
    return _page_null(tuple(sorted(tuple(sorted(row)) for row in ranks_S_K.tolist())))


def trend_correlation(values_S_K: ArrayLike) -> float | None:
    """Correlation of the betas' order with the ranks within seeds, all seeds together: Page's L on a scale of [-1, 1].

    Without ties it is the mean over seeds of Spearman's correlation. None where no seed's values differ.
    """
    ranks_S_K = _doubled_ranks(values_S_K)
    center, scale = _correlation_scale(ranks_S_K)
    return (_page_statistic(ranks_S_K) - center) / scale if scale else None


def _page_statistic(ranks_S_K: np.ndarray) -> int:
    return int((ranks_S_K * np.arange(1, ranks_S_K.shape[1] + 1)).sum())


def _correlation_scale(ranks_S_K: np.ndarray) -> tuple[float, float]:
    """Mean of the statistic over all orders, and how far above it a correlation of 1 would be."""
    seeds, betas = ranks_S_K.shape
    positions = np.arange(1, betas + 1)
    center = float(ranks_S_K.sum() * positions.mean())
    spread = seeds * betas**2 * positions.var() * ranks_S_K.var(axis=1).sum()
    return center, math.sqrt(spread)


def _doubled_ranks(values_S_K: ArrayLike) -> np.ndarray:
    values = np.asarray(values_S_K, dtype=float)
    if values.ndim != 2 or values.shape[0] < 1 or not 2 <= values.shape[1] <= LARGEST_PAGE:
        raise DataError(f"found values of shape {values.shape}; expected (seeds, 2 to {LARGEST_PAGE} betas)")
    if np.isnan(values).any():
        raise DataError("found a missing value; expected one per seed and beta: leave out the seed or the claim")
    return np.rint(2 * pd.DataFrame(values).rank(axis=1).to_numpy()).astype(int)


@lru_cache(maxsize=1024)
def _page_null(rows: tuple[tuple[int, ...], ...]) -> np.ndarray:
    null = reduce(np.convolve, (_seed_null(row) for row in rows))
    null.setflags(write=False)
    return null


@lru_cache(maxsize=1024)
def _seed_null(ranks: tuple[int, ...]) -> np.ndarray:
    """Probability of each position-weighted sum of one seed's doubled ranks over all orders of them.

    Orders are counted by the set of ranks that the first positions have used, 2^K sets instead of K! orders.
    """
    size = sum(position * rank for position, rank in enumerate(ranks, start=1)) + 1
    ways: dict[int, np.ndarray] = {0: np.eye(1, size)[0]}
    for position in range(1, len(ranks) + 1):
        longer: dict[int, np.ndarray] = {}
        for used, count_L in ways.items():
            for index, rank in enumerate(ranks):
                if not used >> index & 1:
                    shift = position * rank
                    longer.setdefault(used | 1 << index, np.zeros(size))[shift:] += count_L[: size - shift]
        ways = longer
    (count_L,) = ways.values()
    return count_L / math.factorial(len(ranks))


def jonckheere(groups: Sequence[ArrayLike], alternative: Alternative = "greater") -> float | None:
    """Jonckheere-Terpstra test for a trend over ordered groups whose values are not paired.

    The statistic counts the pairs from different groups that stand in the groups' order, a tie as half. All
    arrangements are enumerated where there are at most 9,999, as for 3 groups of 3; else as many are drawn, always the
    same ones, and the p counts the observed arrangement among them.

    Args:
        groups: the values of each group, in order; infinity ranks last.
        alternative: the direction of the trend.

    Returns:
        Probability in (0, 1]; None below 2 groups or 2 values in a group.
    """
    from scipy.stats import permutation_test

    sizes = [np.size(group) for group in groups]
    if len(sizes) < 2 or min(sizes) < 2:
        return None
    ranks = _ranks(np.concatenate([np.asarray(group, dtype=float) for group in groups]))
    if np.isnan(ranks).any():
        raise DataError("found a missing value in a group; expected numbers or infinity")
    test: Any = permutation_test(
        np.split(ranks, np.cumsum(sizes)[:-1]),
        _ordered_pairs,
        vectorized=True,
        n_resamples=JONCKHEERE_RESAMPLES,
        batch=_JONCKHEERE_BATCH,
        alternative=alternative,
        rng=np.random.default_rng(_JONCKHEERE_SEED),
    )
    return float(test.pvalue)


def _ordered_pairs(*groups: np.ndarray, axis: int) -> np.ndarray:
    """Pairs in the groups' order minus pairs against it, over the last axis: the statistic but for scale and zero."""
    total: Any = 0
    for index, earlier in enumerate(groups):
        for later in groups[index + 1 :]:
            total = total + np.sign(later[..., None, :] - earlier[..., :, None]).sum(axis=(-1, -2))
    return total


def holm(ps: ArrayLike) -> np.ndarray:
    """Holm's (1979) adjusted p-values of a family: rejecting those <= alpha errs at all with probability <= alpha.

    Args:
        ps: (..., C) p-values of the C tests of each family.

    Returns:
        (..., C) in the order given, each >= its p and <= 1.
    """
    values = np.asarray(ps, dtype=float)
    order = np.argsort(values, axis=-1)
    count = values.shape[-1]
    stepped = np.take_along_axis(values, order, axis=-1) * np.arange(count, 0, -1)
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0), axis=-1)
    return adjusted
