"""Effects of several worlds taken together, with the world as the unit.

Every world has the same design, so that the error of each is of one size but for chance, and few seeds tell it badly.
Worlds therefore weigh alike. Weights by inverse variance favour worlds whose few seeds happen to lie close: with three
seeds and six worlds the interval of Hartung and Knapp then covers 87 % instead of 95 % where worlds do not differ.
With equal weights it is the t interval of the worlds' effects, which is exact where these are normal, whatever part of
their spread is between worlds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from pessimism.errors import DataError
from pessimism.measures.contrasts import MOST_ENUMERATED, RESAMPLES, Arrangements, permutation_ps
from pessimism.measures.intervals import CONFIDENCE, Interval, t_interval, t_quantile

_SEED = 0


@dataclass(frozen=True)
class Heterogeneity:
    """How far worlds differ beyond the noise of their seeds.

    Attributes:
        tau: standard deviation of the true effects between worlds, >= 0, in the effect's unit.
        share: I squared, in [0, 1]: the share of the variance of the worlds' effects that is between worlds.
        share_interval: 95 %, wide with few worlds.
    """

    tau: float
    share: float
    share_interval: Interval


@dataclass(frozen=True)
class Pooled:
    """The mean effect over worlds, in the effect's unit.

    Attributes:
        estimate: mean over worlds.
        error: its standard error, between and within worlds together.
        interval: 95 % t interval, worlds - 1 degrees of freedom.
        another_world: 95 % prediction interval of the effect that one more world of this design would show, the noise
            of its seeds included.
        p_rises: exact one-sided p by flipping signs, that the mean is above 0; in (0, 1].
        p_falls: that it is below 0.
        smallest_p: that so many worlds can give.
    """

    estimate: float
    error: float
    interval: Interval
    another_world: Interval
    p_rises: float
    p_falls: float
    smallest_p: float


def pool(effects_W: np.ndarray) -> Pooled:
    """Random effects with equal weights.

    Args:
        effects_W: (W,) effect of each world, W >= 2.

    Raises:
        DataError: fewer than two worlds, or an effect that is not finite.
    """
    interval = t_interval(effects_W)
    if interval is None:
        raise DataError("found 1 world; expected 2 or more: one has no spread between worlds")
    worlds, spread = len(effects_W), float(effects_W.std(ddof=1))
    mean, half = float(effects_W.mean()), t_quantile(worlds - 1) * spread * math.sqrt(1 + 1 / worlds)
    rises, falls = sign_flip_ps(effects_W[None])
    return Pooled(
        estimate=mean,
        error=spread / math.sqrt(worlds),
        interval=interval,
        another_world=Interval(mean - half, mean + half),
        p_rises=float(rises[0]),
        p_falls=float(falls[0]),
        smallest_p=1 / _count(_flips(worlds)),
    )


def heterogeneity(effects_W: np.ndarray, errors_W: np.ndarray, degrees_W: np.ndarray) -> Heterogeneity:
    """Split the variance of the effects into worlds and seeds, by the method of moments (Hedges and Olkin 1985).

    The variance between effects is set equal to its expectation, tau squared plus the mean squared error. Their ratio
    follows an F distribution but for the factor that the share determines, with Satterthwaite's degrees of the mean.

    Args:
        effects_W: (W,) effect of each world, W >= 2.
        errors_W: (W,) its standard error from seeds.
        degrees_W: (W,) degrees of freedom of that error; nan where it is 0.
    """
    from scipy.special import fdtri

    between, parts_W = float(effects_W.var(ddof=1)), errors_W**2 / len(errors_W)
    within = float(parts_W.sum())
    if within == 0 or between == 0:
        share = float(between > 0)
        return Heterogeneity(math.sqrt(between), share, Interval(share, share))
    noisy = parts_W > 0
    degrees = within**2 / float((parts_W[noisy] ** 2 / degrees_W[noisy]).sum())
    ratio, tail = between / within, (1 - CONFIDENCE) / 2
    bounds = [fdtri(len(effects_W) - 1, degrees, level) / ratio for level in (1 - tail, tail)]
    low, high = (max(0.0, 1 - float(bound)) for bound in bounds)
    return Heterogeneity(math.sqrt(max(0.0, between - within)), max(0.0, 1 - 1 / ratio), Interval(low, high))


def sign_flip_ps(effects_E_W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P of a mean above 0 and of one below, (E,) each: the share of all choices of signs that give one as far.

    Exact where a world's effect is as likely to be of one sign as of the other. Up to 15 worlds all choices are
    enumerated; above, 9,999 are drawn, and the observed one counts among them.
    """
    return permutation_ps(np.sort(effects_E_W, axis=1), _flips(effects_E_W.shape[1]))


@lru_cache(maxsize=16)
def _flips(worlds: int) -> Arrangements:
    observed = np.full(worlds, 1 / worlds)
    if 2**worlds > MOST_ENUMERATED:
        signs = np.random.default_rng(_SEED).choice([-1, 1], size=(RESAMPLES, worlds))
        return Arrangements(observed, signs / worlds, True, 1)
    return Arrangements(observed, np.array(list(product((-1, 1), repeat=worlds))) / worlds, False, 1)


def _count(flips: Arrangements) -> int:
    return len(flips.weights) + int(flips.drawn)
