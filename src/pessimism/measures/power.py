"""How many seeds a trend of the observed size would need, by simulation."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from pessimism.measures.trends import Alternative, page_trend_untied

POWER = 0.8
MOST_SEEDS = 50
EXPERIMENTS = 2000
_SEED = 0


class Unknown(StrEnum):
    """Why there is no number of seeds."""

    TOO_MANY = "more than 50"
    FEW_VALUES = "fewer than two seeds or two betas leave no spread to plan with"
    NOT_FINITE = "a run has no finite value"
    NO_SPREAD = "seeds do not differ but for a constant"


def seeds_needed(values_S_K: ArrayLike, alpha: float = 0.05, alternative: Alternative = "greater") -> int | Unknown:
    """Smallest number of seeds at which Page's test finds the observed trend in 80 % of experiments.

    2,000 experiments per number of seeds are drawn from a normal distribution with the observed mean of each beta and
    the spread that remains after each seed's and each beta's mean are taken out, always the same ones. The observed
    trend is itself uncertain at few seeds: the number is for planning, not for judging the runs it was made from.

    Args:
        values_S_K: (S, K) one value per seed and beta, betas ascending.
        alpha: level of the test; divide it by the number of claims to plan for Holm's first step.
        alternative: the direction of the trend.

    Returns:
        Seeds, 1 to 50, or why there is no number; a trend that goes the other way needs more than 50.
    """
    values = np.asarray(values_S_K, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2:
        return Unknown.FEW_VALUES
    if not np.isfinite(values).all():
        return Unknown.NOT_FINITE
    means, spread = values.mean(axis=0), residual_sd(values)
    if spread <= 1e-12 * np.abs(values).max():
        return Unknown.NO_SPREAD
    noise = np.random.default_rng(_SEED).normal(size=(EXPERIMENTS, MOST_SEEDS, values.shape[1]))
    drawn = means + spread * noise
    for seeds in range(1, MOST_SEEDS + 1):
        if np.mean(page_trend_untied(drawn[:, :seeds], alternative) <= alpha) >= POWER:
            return seeds
    return Unknown.TOO_MANY


def residual_sd(values_S_K: np.ndarray) -> float:
    """Spread that is left when the mean of each seed and of each beta is taken out."""
    seeds, betas = values_S_K.shape
    rest = values_S_K - values_S_K.mean(axis=1, keepdims=True) - values_S_K.mean(axis=0) + values_S_K.mean()
    return float(np.sqrt((rest**2).sum() / ((seeds - 1) * (betas - 1))))
