"""How many seeds would settle a trend of the observed size, by simulation of the test that judges it."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from pessimism.measures.contrasts import combination, positions, trend_ps

POWER = 0.8
MOST_SEEDS = 50
EXPERIMENTS = 500
DRAWS = 999
_SEED = 0


class Unknown(StrEnum):
    """Why there is no number of seeds."""

    TOO_MANY = "more than 50"
    FEW_VALUES = "fewer than two seeds or two betas leave no spread to plan with"
    NOT_FINITE = "a run has no finite value"
    NO_SPREAD = "runs do not differ but for what the design takes out"


def seeds_needed(values_S_K: ArrayLike, alpha: float, paired: bool) -> int | Unknown:
    """Smallest number of seeds at which the observed trend, up or down, is found in 80 % of experiments.

    The trend is the observed one, and its direction too: where it goes against a claim, the number is of seeds that
    contradict the claim. Experiments are drawn from normal distributions with the observed mean of each beta and the
    observed spread (:func:`spread_root`). There are 500 per number of seeds, always the same ones, with 999
    permutations where not all are enumerated. More seeds are taken to find no less. The observed trend is itself
    uncertain at few seeds: the number is for planning, not for judging the runs it was made from.

    Args:
        values_S_K: (S, K) one value per seed and beta, betas ascending.
        alpha: one-sided level of the test; divide it by the number of claims to plan for Holm's first step.
        paired: whether the runs of a row belong together.

    Returns:
        Seeds, 2 to 50, or why there is no number.
    """
    values = np.asarray(values_S_K, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2:
        return Unknown.FEW_VALUES
    if not np.isfinite(values).all():
        return Unknown.NOT_FINITE
    betas = values.shape[1]
    # The names of seeds must not change so much as the rounding.
    values = values[np.lexsort(values.T)] if paired else np.sort(values, axis=0)
    root_K_K = spread_root(values, betas, paired)
    if np.abs(root_K_K).max() <= 1e-12 * np.abs(values).max():
        return Unknown.NO_SPREAD
    noise = np.random.default_rng(_SEED).normal(size=(EXPERIMENTS, MOST_SEEDS, betas))
    drawn = values.mean(axis=0) + noise @ root_K_K
    rising = float(combination(values[None], positions(betas), paired).estimate[0]) >= 0
    return _fewest(drawn if rising else -drawn, alpha, paired)


def _fewest(drawn_E_S_K: np.ndarray, alpha: float, paired: bool) -> int | Unknown:
    """Bisect for the fewest seeds that find a rise with the power."""

    def enough(seeds: int) -> bool:
        rises, _ = trend_ps(drawn_E_S_K[:, :seeds], paired, DRAWS)
        return bool(np.mean(rises <= alpha) >= POWER)

    low, high = 1, MOST_SEEDS
    if not enough(high):
        return Unknown.TOO_MANY
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def spread_root(values_S_N: np.ndarray, betas: int, paired: bool) -> np.ndarray:
    """What turns independent standard normal numbers into noise like that of the seeds: ``noise @ root``.

    Where seeds are paired, it has the covariance of the runs of a seed, without what shifts all betas alike. Where they
    are not, runs of different betas are independent. A beta without spread stays without.

    Args:
        values_S_N: (S, N) one row per seed, S >= 2: the betas of one quantity after those of another.
        betas: of each quantity, a divisor of N.
        paired: whether the runs of a row belong together.

    Returns:
        (N, N) the symmetric square root of the covariance.
    """
    seeds, runs = values_S_N.shape
    tables = values_S_N.reshape(seeds, -1, betas)
    shifts = tables.mean(axis=2, keepdims=True) if paired else 0.0
    covariance = np.cov((tables - shifts).reshape(seeds, runs), rowvar=False)
    beta_N = np.arange(runs) % betas
    sizes, axes = np.linalg.eigh(covariance if paired else covariance * np.equal.outer(beta_N, beta_N))
    return np.asarray(axes * np.sqrt(np.maximum(sizes, 0.0)) @ axes.T)
