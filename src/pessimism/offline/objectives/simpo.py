"""Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734, Eq. 6), by TRL's experimental CPOTrainer:
-log sigmoid(beta * margin per token - gamma), without a reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from trl.experimental.cpo import CPOConfig, CPOTrainer

from pessimism.offline.objective import OfflineObjective, PairScores
from pessimism.offline.trainer import ReferenceFreeTrainer

GAMMA = 0.5
"""Margin that the loss asks for, times the strength; TRL's default."""


class SimpoTrainer(ReferenceFreeTrainer, CPOTrainer):
    """TRL's loss of mean log-probabilities that :class:`ReferenceFreeTrainer` computes."""

    config_class = CPOConfig


def arguments(beta: float) -> dict[str, Any]:
    return {"loss_type": "simpo", "beta": beta, "simpo_gamma": GAMMA, "cpo_alpha": 0.0}


def losses(beta: float, scores: PairScores) -> np.ndarray:
    return np.logaddexp(0, GAMMA - beta * scores.token_margins())


OBJECTIVE = OfflineObjective(
    strength="beta: how much of a margin of log-probabilities, in nats per token, counts; higher = less for "
    "pairs that are in order, more for those that are not",
    couples=False,
    needs_reference=False,
    arguments=arguments,
    margins=PairScores.token_margins,
    losses=losses,
    first_loss=None,
    trainer=SimpoTrainer,
)
