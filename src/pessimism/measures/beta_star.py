"""The beta to choose, by each definition that can be computed, and whether the seeds identify it.

A definition is identified where the means over seeds give a beta and at least 95 % of the bootstrap resamples do: of
whole seeds where their betas are paired, else of each beta's runs by themselves. Its interval is the central 95 % of
the betas over the resamples that give one. A definition that chooses among the observed betas nearly always gives one:
it is identified only where its interval leaves out the lowest or the highest of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pessimism.errors import DataError
from pessimism.measures.intervals import Interval, resample_interval, run_resamples
from pessimism.measures.power_law import REPEATED_EVALUATIONS, PowerLaw, fit_power_law

IDENTIFYING_SHARE = 0.95
_ROUNDING = 1e-9
"""Share of AUGC's range within which two betas are equally good."""
PLACEBO_PERCENTILE = 95
EQ_15_OVER_GRID = "eq_15_over_grid"
EQ_15_OVER_OBSERVED = "eq_15_over_observed"
DEF_61_WIN_RATE = "def_61_win_rate"
DEF_61_REWARD_ACCURACY = "def_61_reward_accuracy"
ABOVE_PLACEBO = "above_placebo"
ONE_SEED = "one seed has no resamples"
NO_PLACEBO = "there is no placebo run"
NO_BETAS = "there is no beta to choose from"
NO_BETA = "the means over seeds give no beta"
UNSTABLE = "fewer than 95 % of the resamples give a beta"
ANY_BETA = "the resamples range over all observed betas"

_OFFLINE = {DEF_61_WIN_RATE: "win_rate", DEF_61_REWARD_ACCURACY: "reward_accuracy"}
_DEFINITIONS = (EQ_15_OVER_GRID, EQ_15_OVER_OBSERVED, *_OFFLINE, ABOVE_PLACEBO)

Resamples = tuple[np.ndarray, np.ndarray]
"""How often each run counts in each resample (R, S, K), and the resamples' probabilities (R,)."""


@dataclass(frozen=True)
class BetaStar:
    """A beta by one definition.

    Attributes:
        estimate: from the means over seeds; None where they give no beta.
        interval: 95 % over resamples; None where it is not identified.
        identifying_share: of the resamples, by probability, that give a beta; None where there are none.
        not_identified: why not; empty where it is.
    """

    estimate: float | None
    interval: Interval | None = None
    identifying_share: float | None = None
    not_identified: str = ""


def beta_stars(runs: pd.DataFrame, placebo_augc: ArrayLike, paired: bool) -> dict[str, BetaStar]:
    """Beta* of the primary arm by five definitions.

    - ``eq_15_over_grid``, ``eq_15_over_observed``: first beta whose fitted AUGC exceeds 1.5 times that of the smallest
      beta, of the dense grid or of the observed ones (Eq. 15). A resample whose fit does not converge gives no beta.
    - ``def_61_win_rate``, ``def_61_reward_accuracy``: Def. 6.1, see :func:`best_trade`, with A the held-out win rate of
      the DPO policy over the base under the reward ensemble, or the validation accuracy of DPO's implicit reward.
    - ``above_placebo``: smallest beta whose AUGC exceeds the 95th percentile of all placebo runs, which stay as they
      are in the resamples.

    Args:
        runs: one row per run with seed, beta, augc and, where measured, win_rate and reward_accuracy; none where the
            offline objective has no strength.
        placebo_augc: AUGC of every placebo run; may be empty.
        paired: whether the runs of a seed belong together.

    Returns:
        One entry per definition, in this order.

    Raises:
        DataError: a seed lacks a beta, has it twice, or has no AUGC for it.
    """
    if runs.empty:
        return dict.fromkeys(_DEFINITIONS, _absent(NO_BETAS))
    betas, augc_S_K = _table(runs, "augc")
    if not paired:
        runs = _renamed(runs)
        betas, augc_S_K = _table(runs, "augc")
    seeds, _ = augc_S_K.shape
    resamples = run_resamples(seeds, len(betas), paired)
    placebo = np.asarray(placebo_augc, dtype=float)
    found = dict(zip((EQ_15_OVER_GRID, EQ_15_OVER_OBSERVED), _practical(betas, augc_S_K, resamples), strict=True))
    for name, column in _OFFLINE.items():
        found[name] = _traded(betas, augc_S_K, runs, column, resamples)
    found[ABOVE_PLACEBO] = _above_placebo(betas, augc_S_K, placebo, resamples) if placebo.size else _absent(NO_PLACEBO)
    return found


def _renamed(runs: pd.DataFrame) -> pd.DataFrame:
    """Unpaired runs, their seeds numbered by their values at each beta: names do not matter where some are drawn."""
    values = [column for column in ("augc", *_OFFLINE.values()) if column in runs]
    ordered = runs.sort_values(["beta", *values])
    return ordered.assign(seed=ordered.groupby("beta").cumcount())


def best_trade(betas: np.ndarray, augc_K: np.ndarray, offline_K: np.ndarray) -> float | None:
    """Beta* of Def. 6.1: argmin over the observed betas of AUGC(beta) - lambda A(beta).

    The paper leaves lambda open. Here it is the range of AUGC over the range of A over the observed betas, so that the
    worst and the best beta differ as much in one as in the other. A beta of the greatest AUGC and the best A is then
    exactly as good as one of the least AUGC and the worst A: what differs by rounding alone is equal.

    Args:
        betas: (K,) observed betas.
        augc_K: (K,) AUGC of each, in gap times steps.
        offline_K: (K,) A, the offline quality of each; higher = better.

    Returns:
        One of ``betas``, the smallest of equally good ones; None where A or AUGC is the same at all, so that there is
        nothing to trade.
    """
    if np.ptp(offline_K) == 0 or np.ptp(augc_K) == 0:
        return None
    weight = np.ptp(augc_K) / np.ptp(offline_K)
    cost_K = augc_K - weight * offline_K
    return float(betas[np.flatnonzero(cost_K <= cost_K.min() + _ROUNDING * np.ptp(augc_K))[0]])


def smallest_above(betas: np.ndarray, augc_K: np.ndarray, level: float) -> float | None:
    """Smallest of the ascending ``betas`` whose AUGC is strictly above ``level``; None where none is."""
    above = np.flatnonzero(augc_K > level)
    return float(betas[above[0]]) if above.size else None


def _table(runs: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Ascending betas and the (S, K) values of ``column``."""
    if runs.duplicated(["seed", "beta"]).any():
        raise DataError("found two runs of one seed and beta; expected the runs of one arm")
    table = runs.pivot(index="seed", columns="beta", values=column).sort_index(axis=1)
    if table.empty or not np.isfinite(table.to_numpy(dtype=float)).all():
        raise DataError(f"found a seed without a finite {column} at every beta; expected one per seed and beta")
    return table.columns.to_numpy(dtype=float), table.to_numpy(dtype=float)


def _practical(betas: np.ndarray, augc_S_K: np.ndarray, resamples: Resamples) -> tuple[BetaStar, BetaStar]:
    def fitted(augc_K: np.ndarray, evaluations: int | None) -> tuple[float | None, float | None]:
        law = fit_power_law(betas, augc_K, evaluations)
        return (law.beta_star_over_grid(), law.beta_star_over_observed()) if isinstance(law, PowerLaw) else (None, None)

    seeds = len(augc_S_K)
    counts_R_S_K, weight_R = resamples
    whole = fitted(augc_S_K.mean(axis=0), None)
    if whole == (None, None):
        return _absent(NO_BETA), _absent(NO_BETA)
    resampled = [fitted(_mean(count_S_K, augc_S_K), REPEATED_EVALUATIONS) for count_S_K in counts_R_S_K]
    over_grid, over_observed = (
        _judge(whole[reading], [pair[reading] for pair in resampled], weight_R, seeds) for reading in (0, 1)
    )
    return over_grid, over_observed


def _mean(count_S_K: np.ndarray, values_S_K: np.ndarray) -> np.ndarray:
    """(K,) mean of each beta's runs, each as often as it was drawn."""
    return np.asarray((count_S_K * values_S_K).sum(axis=0) / len(values_S_K))


def _traded(betas: np.ndarray, augc_S_K: np.ndarray, runs: pd.DataFrame, column: str, resamples: Resamples) -> BetaStar:
    if column not in runs or runs[column].isna().any():
        return _absent(f"the runs lack {column}")
    _, offline_S_K = _table(runs, column)
    return _chosen(
        betas,
        lambda count_S_K: best_trade(betas, _mean(count_S_K, augc_S_K), _mean(count_S_K, offline_S_K)),
        resamples,
    )


def _above_placebo(betas: np.ndarray, augc_S_K: np.ndarray, placebo: np.ndarray, resamples: Resamples) -> BetaStar:
    level = float(np.percentile(placebo, PLACEBO_PERCENTILE))
    return _chosen(betas, lambda count_S_K: smallest_above(betas, _mean(count_S_K, augc_S_K), level), resamples)


def _chosen(betas: np.ndarray, estimate: Callable[[np.ndarray], float | None], resamples: Resamples) -> BetaStar:
    """``estimate``, one of ``betas``, of how often each run counts: once each, and in the resamples."""
    counts_R_S_K, weight_R = resamples
    resampled = [estimate(count_S_K) for count_S_K in counts_R_S_K]
    star = _judge(estimate(np.ones(counts_R_S_K.shape[1:])), resampled, weight_R, counts_R_S_K.shape[1])
    if star.interval == Interval(float(betas[0]), float(betas[-1])):
        return replace(star, interval=None, not_identified=ANY_BETA)
    return star


def _judge(estimate: float | None, resampled: list[float | None], weight_R: np.ndarray, seeds: int) -> BetaStar:
    if estimate is None:
        return _absent(NO_BETA)
    if seeds < 2:
        return BetaStar(estimate, not_identified=ONE_SEED)
    found = [(value, weight) for value, weight in zip(resampled, weight_R, strict=True) if value is not None]
    share = min(float(sum(weight for _, weight in found)), 1.0)
    if share < IDENTIFYING_SHARE:
        return BetaStar(estimate, identifying_share=share, not_identified=UNSTABLE)
    return BetaStar(estimate, resample_interval([value for value, _ in found], [w for _, w in found]), share)


def _absent(reason: str) -> BetaStar:
    return BetaStar(None, not_identified=reason)
