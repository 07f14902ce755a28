"""Correlations that tell a constant series, the exact test of Spearman's, and Holm's procedure.

``alternative`` is always a direction: "greater" = the quantity rises with the order, "less" = it falls.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

Alternative = Literal["greater", "less"]

LARGEST_ENUMERATION = 8
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


def trend_correlation(values_S_K: ArrayLike, paired: bool) -> float | None:
    """Rank correlation in [-1, 1] of the betas' order with the values: of all runs, or within each seed where paired.

    Paired and without ties it is the mean over seeds of Spearman's correlation.

    Args:
        values_S_K: (S, K) one row per seed, betas ascending; infinity ranks last.
        paired: whether the runs of a row belong together.

    Returns:
        None where the values do not differ: within any seed where paired.
    """
    values = np.asarray(values_S_K, dtype=float)
    order = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    if not paired:
        return spearman(order.ravel(), values.ravel())
    ranks = pd.DataFrame(values).rank(axis=1).to_numpy()
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    return None if _constant(ranks) else _correlation(order.ravel().astype(float), ranks.ravel())


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
