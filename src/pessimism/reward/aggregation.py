"""How an ensemble's scores become one reward, and how far its members disagree.

Scores are (K, B): K members, B responses; higher = the member prefers the response more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pessimism.experiment.params import Aggregation, Params


def proxy_aggregation(params: Params) -> Aggregation:
    """By which every arm is measured, and trained where it has none of its own."""
    return Aggregation(params.aggregation, params.protocol.uwo_weight if params.aggregation == "uwo" else None)


def aggregate(scores_K_B: np.ndarray, aggregation: Aggregation) -> np.ndarray:
    """(B,) reward of each response.

    With weight w at least 0, all three that have one are the mean at 0 and lower the higher it is:

    - ``mean``: of the members, the paper's.
    - ``min``: the worst case (WCO, Coste et al., arXiv 2310.02743).
    - ``uwo``: mean - w x variance over members, ddof 0 (the same).
    - ``lcb``: mean - w x :func:`disagreement`, a lower confidence bound in units of Eq. 13.
    - ``log_mean_exp``: :func:`log_mean_exp`, which holds the mean, ``uwo`` and ``min`` as limits.
    """
    return _KINDS[aggregation.kind](scores_K_B, 0.0 if aggregation.weight is None else aggregation.weight)


def disagreement(scores_K_B: np.ndarray) -> np.ndarray:
    """(B,) standard deviation over members, ddof 1 (Eq. 13); at least 0, higher = less agreement."""
    return scores_K_B.std(axis=0, ddof=1)


def log_mean_exp(scores_K_B: np.ndarray, weight: float) -> np.ndarray:
    """(B,) float64 -(1/w) log mean_k exp(-w r_k), with -w the family's temperature tau (arXiv 2606.09073).

    Between the members' minimum and their mean. For w towards 0 it is the mean; for small w the mean less w/2 times the
    variance (ddof 0), so ``uwo`` with half the weight; for w towards infinity the minimum.
    """
    scores_K_B = scores_K_B.astype(np.float64)
    if weight == 0:
        return scores_K_B.mean(axis=0)
    worst_B = scores_K_B.min(axis=0)
    # From the minimum on nothing overflows, and nothing is lost of a weight near 0.
    return worst_B - np.log1p(np.expm1(-weight * (scores_K_B - worst_B)).mean(axis=0)) / weight


_KINDS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "mean": lambda scores_K_B, _: scores_K_B.mean(axis=0),
    "min": lambda scores_K_B, _: scores_K_B.min(axis=0),
    "uwo": lambda scores_K_B, weight: scores_K_B.mean(axis=0) - weight * scores_K_B.var(axis=0),
    "lcb": lambda scores_K_B, weight: scores_K_B.mean(axis=0) - weight * disagreement(scores_K_B),
    "log_mean_exp": log_mean_exp,
}
