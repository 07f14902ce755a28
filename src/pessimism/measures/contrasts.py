"""A trend over betas by a linear contrast of the runs: exact by permutation, and robust to spreads that differ.

The contrast weighs each beta's mean by the beta's position around the middle one. Two tests must both hold, so the p is
the larger of theirs. The first permutes runs: between betas where seeds are not paired, within each seed where they
are. It is exact where nothing depends on beta. The second is a t test of the contrast, Welch's where seeds are not
paired. It keeps its level where means are equal and spreads are not, which a permutation cannot.

Values that are not all finite, such as an event that never came, are replaced by their ranks: over all runs, or within
each seed where seeds are paired. The names of the seeds change nothing but which values are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations, product
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike

from pessimism.errors import DataError
from pessimism.measures.intervals import Interval, t_quantile

MOST_ENUMERATED = 50_000
RESAMPLES = 9_999
_SEED = 0
_ROUNDING = 1e-9
_DIGITS = 11
_AT_ONCE = 300_000


@dataclass(frozen=True)
class Combination:
    """A weighted sum of the betas' means in many experiments, (E,) each.

    Attributes:
        estimate: of the sum.
        error: its standard error.
        degrees: of freedom of that error, > 0; nan where it is 0.
    """

    estimate: np.ndarray
    error: np.ndarray
    degrees: np.ndarray

    def tails(self) -> tuple[np.ndarray, np.ndarray]:
        """P of a one-sided t test against 0: that the sum is above, and that it is below."""
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.estimate / self.error
        # Without spread a difference is certain, and no difference is none.
        sure = [np.where(sign * self.estimate > 0, 0.0, 1.0) for sign in (1, -1)]
        tested = [stdtr(self.degrees, -found), stdtr(self.degrees, found)]
        above, below = (np.where(self.error > 0, *pair) for pair in zip(tested, sure, strict=True))
        return above, below

    def interval(self) -> Interval:
        """95 % t interval of the sum in the first experiment."""
        estimate, error = float(self.estimate[0]), float(self.error[0])
        half = t_quantile(float(self.degrees[0])) * error if error > 0 else 0.0
        return Interval(estimate - half, estimate + half)


@dataclass(frozen=True)
class Arrangements:
    """Weights of the linear contrast for N runs, and how else they might have fallen.

    Attributes:
        observed: (N,) weight of each run as it was.
        weights: (P, N) every arrangement, or some that were drawn.
        drawn: whether they were drawn; the observed one is then not among them.
        block: number of neighbouring runs that change places among themselves alone.
    """

    observed: np.ndarray
    weights: np.ndarray
    drawn: bool
    block: int


def positions(betas: int) -> np.ndarray:
    """(K,) weights of the linear contrast: -1, 0, 1 for three betas."""
    return np.arange(betas) - (betas - 1) / 2


def trend_p(values_S_K: ArrayLike, paired: bool) -> tuple[float, float]:
    """P of a rise and of a fall over betas, each one-sided, of one table.

    Args:
        values_S_K: (S, K) one row per seed, S and K >= 2, betas ascending; infinity ranks last.
        paired: whether the runs of a row belong together.

    Returns:
        Two probabilities in (0, 1].

    Raises:
        DataError: no such table, or a missing value.
    """
    values = np.asarray(values_S_K, dtype=float)
    if values.ndim != 2 or min(values.shape) < 2:
        raise DataError(f"found values of shape {values.shape}; expected at least 2 seeds by 2 betas")
    rises, falls = trend_ps(values[None], paired)
    return float(rises[0]), float(falls[0])


def trend_ps(values_E_S_K: np.ndarray, paired: bool, draws: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """:func:`trend_p` of many experiments at once, (E,) each.

    Up to 50,000 arrangements of the runs are enumerated; above, ``draws`` are drawn, the same ones for values in the
    same order whatever their unit, and the observed arrangement counts among them.
    """
    if not paired:
        return groups_ps([values_E_S_K[..., beta] for beta in range(values_E_S_K.shape[-1])], draws)
    values = _finite(values_E_S_K)
    moved = _in_order(_of_one_unit(values - values.mean(axis=-1, keepdims=True)))
    arranged = permutation_ps(moved.reshape(len(values), -1), within_seeds(*values.shape[1:], draws))
    return _larger(arranged, combination(values, positions(values.shape[-1]), paired=True).tails())


def groups_ps(groups_E_S: Sequence[np.ndarray], draws: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """:func:`trend_ps` of unpaired runs, (E, S) each beta's, ascending; their number S >= 1 may differ.

    Where a beta has one run nothing tells its spread, and the permutation of runs counts alone. It is exact where
    nothing depends on beta.
    """
    sizes = tuple(group.shape[1] for group in groups_E_S)
    values = _finite(np.concatenate([np.sort(group, axis=1) for group in groups_E_S], axis=1))
    arranged = permutation_ps(_of_one_unit(values - values.mean(axis=1, keepdims=True)), between_betas(sizes, draws))
    if min(sizes) < 2:
        return arranged
    groups = np.split(values, np.cumsum(sizes)[:-1], axis=1)
    return _larger(arranged, _welch(groups, positions(len(sizes))).tails())


def permutation_ps(values_E_N: np.ndarray, arranged: Arrangements) -> tuple[np.ndarray, np.ndarray]:
    """P of a rise and of a fall by permutation alone, (E,) each: the share of arrangements at least as far.

    Args:
        values_E_N: (E, N) values, in the order of the weights.
        arranged: of the same N runs.
    """
    shuffled = _shuffled(values_E_N, arranged.block) if arranged.drawn else values_E_N
    own = int(arranged.drawn)  # the observed arrangement, which is not among those drawn
    tails, chunk = [], max(1, _AT_ONCE // len(arranged.weights))
    for start in range(0, len(values_E_N), chunk):
        values = values_E_N[start : start + chunk]
        rounding = _ROUNDING * (np.abs(values) @ np.abs(arranged.observed))[:, None]
        observed = (values @ arranged.observed)[:, None]
        contrast_E_P = shuffled[start : start + chunk] @ arranged.weights.T
        counts = [(contrast_E_P >= observed - rounding).sum(axis=1), (contrast_E_P <= observed + rounding).sum(axis=1)]
        tails.append((np.array(counts) + own) / (len(arranged.weights) + own))
    rises, falls = np.concatenate(tails, axis=1)
    return rises, falls


def _shuffled(values_E_N: np.ndarray, block: int) -> np.ndarray:
    """Runs in an order within blocks that their ranks seed, so that two tables do not meet the same draws."""
    from scipy.stats import rankdata

    blocks = values_E_N.reshape(len(values_E_N), -1, block)
    seed = crc32(rankdata(values_E_N, axis=-1).tobytes())
    return np.random.default_rng(seed).permuted(blocks, axis=-1).reshape(values_E_N.shape)


@lru_cache(maxsize=64)
def between_betas(sizes: tuple[int, ...], draws: int = RESAMPLES) -> Arrangements:
    """Ways to deal runs to betas of these sizes."""
    observed = np.repeat(positions(len(sizes)) / np.array(sizes), sizes)
    if _ways(sum(sizes), sizes) > MOST_ENUMERATED:
        drawn = np.random.default_rng(_SEED).permuted(np.tile(observed, (draws, 1)), axis=1)
        return Arrangements(observed, drawn, True, len(observed))
    dealt = np.array(list(_deals(tuple(range(sum(sizes))), sizes)))
    weights_P_N = np.empty(dealt.shape)
    np.put_along_axis(weights_P_N, dealt, np.broadcast_to(observed, dealt.shape), axis=1)
    return Arrangements(observed, weights_P_N, False, len(observed))


@lru_cache(maxsize=64)
def within_seeds(seeds: int, betas: int, draws: int = RESAMPLES) -> Arrangements:
    """Ways to order the runs within every seed, seed after seed."""
    weights_K = positions(betas) / seeds
    observed = np.tile(weights_K, seeds)
    if math.factorial(betas) ** seeds > MOST_ENUMERATED:
        drawn = np.random.default_rng(_SEED).permuted(np.tile(weights_K, (draws, seeds, 1)), axis=2)
        return Arrangements(observed, drawn.reshape(draws, -1), True, betas)
    every = np.array([np.concatenate(rows) for rows in product(permutations(weights_K), repeat=seeds)])
    return Arrangements(observed, every, False, betas)


def smallest_p(seeds: int, betas: int, paired: bool) -> float:
    """Smallest p that :func:`trend_p` can return for this design."""
    ways = math.factorial(betas) ** seeds if paired else _ways(seeds * betas, (seeds,) * betas)
    return 1 / (ways if ways <= MOST_ENUMERATED else RESAMPLES + 1)


def combination(values_E_S_K: np.ndarray, weights_K: np.ndarray, paired: bool) -> Combination:
    """A weighted sum of the betas' means, with the error of its design: over seeds where paired, else Welch's."""
    if not paired:
        return _welch([values_E_S_K[..., beta] for beta in range(len(weights_K))], weights_K)
    sums_E_S = values_E_S_K @ weights_K
    seeds = sums_E_S.shape[1]
    error = _nothing_below_rounding(sums_E_S.std(axis=1, ddof=1) / math.sqrt(seeds), values_E_S_K)
    return Combination(sums_E_S.mean(axis=1), error, np.full(len(sums_E_S), float(seeds - 1)))


def combination_interval(values_S_K: np.ndarray, weights_K: ArrayLike, paired: bool) -> Interval | None:
    """95 % t interval of a weighted sum of the betas' means; None below 2 seeds."""
    if len(values_S_K) < 2:
        return None
    return combination(values_S_K[None], np.asarray(weights_K, dtype=float), paired).interval()


def left_out(values_S_K: np.ndarray, of: Callable[[np.ndarray], float]) -> Combination:
    """A number made from the betas' means of unpaired runs, with the jackknife's error: each run left out in turn.

    Args:
        values_S_K: (S, K) values, S >= 2.
        of: the number, from (K,) means; nan where they have none.

    Returns:
        One experiment, with Satterthwaite's degrees; nan where a number is missing.
    """
    seeds, betas = values_S_K.shape
    means_K = values_S_K.mean(axis=0)
    without_S_K = (seeds * means_K - values_S_K) / (seeds - 1)
    found_S_K = np.empty((seeds, betas))
    for seed, beta in np.ndindex(seeds, betas):
        found_S_K[seed, beta] = of(np.where(np.arange(betas) == beta, without_S_K[seed], means_K))
    parts_K = (seeds - 1) / seeds * ((found_S_K - found_S_K.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(invalid="ignore"):
        degrees = np.array([parts_K.sum() ** 2 / (parts_K**2 / (seeds - 1)).sum()])
    return Combination(np.array([of(means_K)]), np.sqrt([parts_K.sum()]), degrees)


def _welch(groups_E_S: Sequence[np.ndarray], weights_K: np.ndarray) -> Combination:
    """Welch's (1947) error of a sum of means of groups with spreads of their own, with Satterthwaite's degrees."""
    estimate = sum(weight * group.mean(axis=1) for weight, group in zip(weights_K, groups_E_S, strict=True))
    sizes = np.array([group.shape[1] for group in groups_E_S])
    variance_K_E = np.array([group.var(axis=1, ddof=1) for group in groups_E_S])
    parts_K_E = (weights_K**2 / sizes)[:, None] * variance_K_E
    with np.errstate(invalid="ignore"):
        degrees = parts_K_E.sum(axis=0) ** 2 / (parts_K_E**2 / (sizes - 1)[:, None]).sum(axis=0)
    error = _nothing_below_rounding(np.sqrt(parts_K_E.sum(axis=0)), np.concatenate(groups_E_S, axis=1))
    return Combination(np.asarray(estimate), error, degrees)


def _nothing_below_rounding(error_E: np.ndarray, values: np.ndarray) -> np.ndarray:
    scale = np.abs(values).reshape(len(values), -1).max(axis=1)
    return np.where(error_E <= 1e-12 * scale, 0.0, error_E)


def _larger(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(first[0], second[0]), np.maximum(first[1], second[1])


def _finite(values: np.ndarray) -> np.ndarray:
    """Values as they are, or ranks over the last axis in those experiments, (E, ...), that hold an infinity."""
    from scipy.stats import rankdata

    if np.isnan(values).any():
        raise DataError("found a missing value; expected one per seed and beta: leave out the seed or the claim")
    endless = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    found = values.copy()
    if endless.any():
        found[endless] = rankdata(values[endless], axis=-1)
    return found


def _of_one_unit(values: np.ndarray) -> np.ndarray:
    """Values of each experiment, (E, ...), over the largest of them, without the rounding in which units differ."""
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    return np.asarray(np.round(values / np.where(largest > 0, largest, 1.0), _DIGITS))


def _in_order(values_E_S_K: np.ndarray) -> np.ndarray:
    """The seeds of each experiment in the order of their values: names do not matter where arrangements are drawn."""
    order = np.lexsort(np.moveaxis(values_E_S_K, -1, 0)[::-1], axis=-1)
    return np.take_along_axis(values_E_S_K, order[..., None], axis=1)


def _ways(runs: int, sizes: Sequence[int]) -> int:
    return math.factorial(runs) // math.prod(math.factorial(size) for size in sizes)


def _deals(runs: tuple[int, ...], sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every way to deal runs to groups, as the runs of the first group, then of the second, and so on."""
    if not sizes:
        yield ()
        return
    for first in combinations(runs, sizes[0]):
        rest = tuple(run for run in runs if run not in first)
        for others in _deals(rest, sizes[1:]):
            yield (*first, *others)
