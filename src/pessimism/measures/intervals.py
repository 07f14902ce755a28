"""Intervals for means over runs, AUROC and any number made from seeds.

The unit of replication is the training run. With three of them a t interval is wide because little is known, and a
percentile bootstrap is narrow because it cannot know that: it covers 75 % at best at three seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pessimism.errors import DataError

CONFIDENCE = 0.95
FEW_SEEDS = 5
RESAMPLES = 2000
_TAIL = (1 - CONFIDENCE) / 2
_RESAMPLE_SEED = 0
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """Lower and upper bound, in the unit of what they bound."""

    low: float
    high: float


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of a held-out change, in its squared unit, each >= 0.

    Attributes:
        seed: between training runs, after averaging over all problems there are.
        prompt: between problems, shared by all runs.
        residual: what is left per run and problem: their interaction and the noise of single answers.
    """

    seed: float
    prompt: float
    residual: float

    def standard_error(self, seeds: int, prompts: int) -> float:
        """Of the mean over this many runs and problems, for new runs on new problems."""
        return math.sqrt(self.seed / seeds + self.prompt / prompts + self.residual / (seeds * prompts))


@dataclass(frozen=True)
class Auroc:
    """How well a score tells wrong from right answers.

    Attributes:
        value: chance that a wrong answer scores above a right one, ties half; 0.5 = says nothing, 1 = tells all.
        interval: 95 %.
        wrong: number of wrong answers.
        right: number of right answers.
    """

    value: float
    interval: Interval
    wrong: int
    right: int


def t_interval(values: ArrayLike) -> Interval | None:
    """95 % t interval of the mean of independent values; None below 2."""
    finite = _finite(values)
    if len(finite) < 2:
        return None
    half = t_quantile(len(finite) - 1) * float(finite.std(ddof=1)) / math.sqrt(len(finite))
    return Interval(float(finite.mean()) - half, float(finite.mean()) + half)


def log_t_interval(values: ArrayLike) -> Interval | None:
    """95 % t interval taken on logarithms, for positive skewed values such as AUGC.

    It bounds the geometric mean (the median of log-normal values), which is below the mean.

    Returns:
        Bounds > 0; None below 2 values or where one is not positive.
    """
    finite = _finite(values)
    on_logs = t_interval(np.log(finite)) if (finite > 0).all() else None
    return None if on_logs is None else Interval(math.exp(on_logs.low), math.exp(on_logs.high))


def _finite(values: ArrayLike) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise DataError(f"found the values {found.tolist()}; expected a series of finite numbers, one per run")
    return found


def t_quantile(degrees: float) -> float:
    """What a t variable of so many degrees of freedom exceeds with probability 2.5 %."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - _TAIL))


def variance_components(values_S_N: ArrayLike) -> VarianceComponents:
    """Split the variance of a held-out change into runs, problems and rest, by the method of moments.

    A two-way layout without replication: each mean square is set equal to its expectation, and a component that comes
    out negative is 0.

    Args:
        values_S_N: (S, N) change of each held-out problem in each run, S and N >= 2.
    """
    values = np.asarray(values_S_N, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise DataError(f"found values of shape {values.shape}; expected finite ones, at least 2 runs by 2 problems")
    seeds, prompts = values.shape
    by_seed, by_prompt = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_prompt + values.mean()
    residual = float((rest**2).sum()) / ((seeds - 1) * (prompts - 1))
    seed = float(by_seed.var(ddof=1)) - residual / prompts
    prompt = float(by_prompt.var(ddof=1)) - residual / seeds
    return VarianceComponents(max(seed, 0.0), max(prompt, 0.0), residual)


def _central(values: np.ndarray, weights: np.ndarray) -> Interval:
    """Values that at most 2.5 % of the weight is below, and at most 2.5 % above."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    low = np.searchsorted(reached, _TAIL + _ROUNDING, side="right")
    high = np.searchsorted(reached, 1 - _TAIL - _ROUNDING, side="left")
    return Interval(float(values[order[low]]), float(values[order[high]]))


def auroc(scores: ArrayLike, wrong: ArrayLike) -> Auroc | None:
    """AUROC of a score, such as the ensemble's disagreement, for answers being wrong.

    The interval inverts the score test with the variance of Hanley and McNeil (1982) as modified by Newcombe (2006,
    method 5). Unlike DeLong's it keeps a width where the answers are told apart perfectly. It takes answers as
    independent.

    Args:
        scores: (N,) one score per answer.
        wrong: (N,) whether the answer is wrong.

    Returns:
        None where all answers are right, or all wrong.
    """
    is_wrong = np.asarray(wrong, dtype=bool)
    ranks = pd.Series(_finite(scores)).rank().to_numpy()
    positives, negatives = int(is_wrong.sum()), int((~is_wrong).sum())
    if not positives or not negatives:
        return None
    above = float(ranks[is_wrong].sum()) - positives * (positives + 1) / 2
    value = above / (positives * negatives)
    return Auroc(value, _auroc_interval(value, positives, negatives), positives, negatives)


def _auroc_interval(value: float, positives: int, negatives: int) -> Interval:
    from scipy.optimize import brentq
    from scipy.special import ndtri

    quantile = float(ndtri(1 - _TAIL))

    def excess(true: float) -> float:
        return (value - true) ** 2 - quantile**2 * _auroc_variance(true, positives, negatives)

    # At the estimate the excess is negative, or 0 where the estimate is 0 or 1: start just beside it.
    low = brentq(excess, 0.0, value - _ROUNDING) if value > 0 else 0.0
    high = brentq(excess, value + _ROUNDING, 1.0) if value < 1 else 1.0
    return Interval(float(low), float(high))


def _auroc_variance(value: float, positives: int, negatives: int) -> float:
    """Hanley and McNeil's variance with both counts but one replaced by their mean (Newcombe 2006)."""
    others = (positives + negatives) / 2 - 1
    spread = 1 + others * (1 - value) / (2 - value) + others * value / (1 + value)
    return value * (1 - value) * spread / (positives * negatives)


def run_resamples(seeds: int, betas: int, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap resamples of runs: how often each is drawn, and the resample's probability.

    Where seeds are paired, whole seeds are drawn; where they are not, each beta's runs by themselves. Where up to 5
    seeds have at most 2,000 different resamples these are all, equal ones once with their probability; else 2,000 drawn
    ones, always the same.

    Returns:
        counts (R, S, K), each summing to S over seeds, and probabilities (R,), summing to 1.
    """
    groups = 1 if paired else betas
    if seeds > FEW_SEEDS or math.comb(2 * seeds - 1, seeds) ** groups > RESAMPLES:
        drawn = np.random.default_rng(_RESAMPLE_SEED).multinomial(
            seeds, np.full(seeds, 1 / seeds), size=(RESAMPLES, groups)
        )
        return _over_betas(drawn, betas), np.full(RESAMPLES, 1 / RESAMPLES)
    counts, weights = _every_resample(seeds)
    chosen = np.array(list(product(range(len(counts)), repeat=groups)))
    return _over_betas(counts[chosen], betas), weights[chosen].prod(axis=1)


def _over_betas(counts_R_G_S: np.ndarray, betas: int) -> np.ndarray:
    """(R, S, K): the counts of every beta's runs, which are the same for all betas where there is one group."""
    return np.broadcast_to(counts_R_G_S.swapaxes(1, 2), (len(counts_R_G_S), counts_R_G_S.shape[2], betas))


def _every_resample(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    draws = combinations_with_replacement(range(seeds), seeds)
    counts = np.array([np.bincount(draw, minlength=seeds) for draw in draws])
    orders = [math.factorial(seeds) / math.prod(math.factorial(count) for count in row) for row in counts.tolist()]
    return counts, np.array(orders) / seeds**seeds


def resample_interval(estimates_R: ArrayLike, weight_R: ArrayLike) -> Interval | None:
    """Central 95 % of an estimate over resamples; None where there is none.

    Args:
        estimates_R: (R,) the estimate of each resample.
        weight_R: (R,) its probability, up to a common factor.
    """
    estimates, weights = np.asarray(estimates_R, dtype=float), np.asarray(weight_R, dtype=float)
    return _central(estimates, weights / weights.sum()) if estimates.size else None
