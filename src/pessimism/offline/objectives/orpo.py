"""Odds-ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691, Eq. 6, 7), by TRL's experimental
ORPOTrainer: the likelihood of the chosen response, and lambda times -log sigmoid of the log odds ratio, without a
reference.

TRL takes the likelihood of the prompt, too, as a mean over the tokens of a batch; here it is the response's alone, a
mean over its own tokens (Eq. 2), so that every pair counts alike and the validation loss is the one that is trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from pessimism.offline.objective import OfflineObjective, PairScores
from pessimism.offline.trainer import ReferenceFreeTrainer

HIGHEST = -float(np.finfo(np.float32).eps)
"""Mean log-probability, nats, at which odds are taken at the most: at 0, of a response that is certain, none are."""


class OrpoTrainer(ReferenceFreeTrainer, ORPOTrainer):
    """TRL's loss of mean log-probabilities that :class:`ReferenceFreeTrainer` computes."""

    config_class = ORPOConfig

    def odds_ratio_loss(self, chosen_P: torch.Tensor, rejected_P: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found: tuple[torch.Tensor, ...] = super().odds_ratio_loss(
            *(means_P.float().clamp(max=HIGHEST) for means_P in (chosen_P, rejected_P))
        )
        return found


def arguments(weight: float) -> dict[str, Any]:
    return {"beta": weight}


def log_odds(mean_logps: np.ndarray) -> np.ndarray:
    """(N,) log of p / (1 - p), p the geometric mean of a response's token probabilities, at most exp(HIGHEST)."""
    mean_logps = np.minimum(mean_logps, HIGHEST)
    return mean_logps - np.log(-np.expm1(mean_logps))


def log_odds_ratios(scores: PairScores) -> np.ndarray:
    """(N,) log odds of the chosen response less those of the rejected one."""
    chosen, rejected = scores.token_means()
    return log_odds(chosen) - log_odds(rejected)


def losses(weight: float, scores: PairScores) -> np.ndarray:
    chosen, _ = scores.token_means()
    return weight * np.logaddexp(0, -log_odds_ratios(scores)) - chosen


OBJECTIVE = OfflineObjective(
    strength="lambda: weight of the odds ratio beside the likelihood of the chosen response; higher = pairs count more",
    couples=False,
    needs_reference=False,
    arguments=arguments,
    margins=log_odds_ratios,
    losses=losses,
    first_loss=None,
    trainer=OrpoTrainer,
)
