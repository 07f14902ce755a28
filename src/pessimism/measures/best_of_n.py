"""Best-of-n selection: what the response is worth that a selector would choose of n draws, for every n from N draws.

An optimiser that only chooses needs no training, no learning rate and no penalty: how far it goes is n alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def sizes(draws: int) -> list[int]:
    """1, 2, 4, ... up to the number of draws."""
    return [2**power for power in range(draws.bit_length())]


def best_of_n_kl(n: ArrayLike) -> np.ndarray:
    """KL divergence of the best of ``n`` draws from the policy that they are drawn from: ln n - (n - 1) / n.

    Exact where no two responses score the same, an upper bound else (Beirami et al., arXiv 2401.01879).

    Returns:
        Nats per response, >= 0; 0 at n = 1.
    """
    n = np.asarray(n, dtype=float)
    return np.log(n) - (n - 1) / n


def selection_weights(selector_P_N: np.ndarray, n: int) -> np.ndarray:
    """Chance of each of N draws to be the best of n of them, by the selector: all subsets alike, ties drawn by lot.

    The k-th smallest of N different scores is the largest of C(k - 1, n - 1) of the C(N, n) subsets. Equal scores share
    the chance that one of them is chosen.

    Args:
        selector_P_N: (P, N) score of each draw of each problem, higher = preferred.
        n: 1 to N.

    Returns:
        (P, N) >= 0; each row adds up to 1.
    """
    from scipy.stats import rankdata

    draws = selector_P_N.shape[1]
    chances = np.array([math.comb(below, n) / math.comb(draws, n) for below in range(draws + 1)])
    below_P_N = rankdata(selector_P_N, method="min", axis=1).astype(int) - 1
    not_above_P_N = rankdata(selector_P_N, method="max", axis=1).astype(int)
    return np.asarray((chances[not_above_P_N] - chances[below_P_N]) / (not_above_P_N - below_P_N))


def best_of_n(selector_P_N: np.ndarray, rewards_R_P_N: np.ndarray, n: int) -> np.ndarray:
    """Each reward of the best of n draws of each problem: unbiased, over all subsets of the N draws.

    Args:
        selector_P_N: (P, N) what chooses.
        rewards_R_P_N: (R, P, N) what the chosen response is worth, R rewards of the same draws.
        n: 1 to N.

    Returns:
        (R, P) in each reward's unit; at n = 1 the mean of a problem's draws, whatever chooses.
    """
    weights_P_N = selection_weights(selector_P_N, n)
    return np.asarray((weights_P_N * rewards_R_P_N).sum(axis=-1))
