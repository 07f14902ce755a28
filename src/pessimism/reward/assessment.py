"""How well the reward ensemble ranks held-back preference pairs, and how well it knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pessimism.reward.aggregation import disagreement

CALIBRATION_BINS = 10


def pair_accuracy(margins: np.ndarray) -> float:
    """Share of pairs whose chosen response scores higher, in 0..1; a tie counts half, 0.5 = chance."""
    return float((margins > 0).mean() + 0.5 * (margins == 0).mean())


def calibration_error(margins: np.ndarray) -> float:
    """Expected calibration error of sigmoid(margin) as the probability of the annotator's choice.

    Pairs are binned by the confidence in the side that the model prefers, in ten equal bins of [0.5, 1].

    Returns:
        Mean |confidence - accuracy| over bins, weighted by their pairs; in 0..0.5 or so, 0 = calibrated.
    """
    confidence = _sigmoid(np.abs(margins))
    correct = (margins > 0) + 0.5 * (margins == 0)
    bins = np.minimum(((confidence - 0.5) * 2 * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    totals = np.array([np.sum((confidence - correct)[bins == b]) for b in range(CALIBRATION_BINS)])
    return float(np.abs(totals).sum() / len(margins))


def brier_score(margins: np.ndarray) -> float:
    """Mean squared error of sigmoid(margin) against the annotator's choice; in 0..1, 0.25 = a coin."""
    return float(np.square(1 - _sigmoid(margins)).mean())


def assess(
    chosen_K_B: np.ndarray, rejected_K_B: np.ndarray, members: Sequence[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Quality of the ensemble's mean and of every member on B pairs.

    Args:
        chosen_K_B: raw scores of the chosen responses.
        rejected_K_B: raw scores of the rejected responses.

    Returns:
        ``pair_accuracy``, ``calibration_error``, ``brier_score`` of the mean, and ``disagreement``, the mean standard
        deviation over members (Eq. 13); then per member its pair accuracy, and mean and standard deviation (ddof 1) of
        its scores, by which rewards are normalised.
    """
    scores_K_2B = np.concatenate([chosen_K_B, rejected_K_B], axis=1).astype(float)
    margins_K_B = (chosen_K_B - rejected_K_B).astype(float)
    margins_B = margins_K_B.mean(axis=0)
    quality = {
        "pairs": len(margins_B),
        "pair_accuracy": pair_accuracy(margins_B),
        "calibration_error": calibration_error(margins_B),
        "brier_score": brier_score(margins_B),
        "disagreement": float(disagreement(scores_K_2B).mean()),
    }
    by_member = {
        str(member): {
            "pair_accuracy": pair_accuracy(margins_K_B[k]),
            "score_mean": float(scores_K_2B[k].mean()),
            "score_sd": float(scores_K_2B[k].std(ddof=1)),
        }
        for k, member in enumerate(members)
    }
    return quality, by_member


def with_means(by_seed: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """What every seed's ensemble gave: each number's mean over seeds, and under ``seeds`` those of each seed.

    ``pairs`` are the same for all.
    """
    means = {str(name): value for name, value in pd.DataFrame(by_seed).mean(axis=1).items()}
    return {**means, "pairs": int(means["pairs"]), "seeds": dict(by_seed)}


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
