"""Correlations that tell a constant series, and an exact p where a table's would be wrong at small n."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

LARGEST_ENUMERATION = 8
_ROUNDING = 1e-12


def pearson(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson correlation in [-1, 1]; None below 3 points or where either series is constant."""
    values_x, values_y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(values_x) < 3 or np.ptp(values_x) == 0 or np.ptp(values_y) == 0:
        return None
    return _correlation(values_x, values_y)


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman rank correlation in [-1, 1], ties at their mean rank; None where either series is constant.

    ``y`` may hold infinity: a run in which an event never came ranks behind all in which it did.
    """
    x_ranks, y_ranks = _ranks(x), _ranks(y)
    if np.ptp(x_ranks) == 0 or np.ptp(y_ranks) == 0:
        return None
    return _correlation(x_ranks, y_ranks)


def spearman_exact_p(x: ArrayLike, y: ArrayLike) -> float | None:
    """Chance that a random pairing of ``x`` with ``y`` has at least their rank correlation, by enumeration.

    One-sided, toward a positive trend. With 3 points it cannot be below 1/6.

    Returns:
        Probability in (0, 1]; None where there is no correlation or above 8 points, where it is not enumerated.
    """
    observed = spearman(x, y)
    x_ranks, y_ranks = _ranks(x), _ranks(y)
    if observed is None or len(x_ranks) > LARGEST_ENUMERATION:
        return None
    as_high = [_correlation(np.array(order), y_ranks) >= observed - _ROUNDING for order in permutations(x_ranks)]
    return float(np.mean(as_high))


def _ranks(values: ArrayLike) -> np.ndarray:
    return pd.Series(np.asarray(values, dtype=float)).rank().to_numpy()


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))
