"""Direct preference optimisation on means over tokens (Tulu 3, arXiv 2411.15124, section 5.1; TRL: sigmoid_norm):
-log sigmoid(beta * margin per token).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pessimism.offline.objective import OfflineObjective, PairScores


def arguments(beta: float) -> dict[str, Any]:
    return {"loss_type": ["sigmoid_norm"], "beta": beta}


def losses(beta: float, scores: PairScores) -> np.ndarray:
    return np.logaddexp(0, -beta * scores.token_margins())


def first_loss(beta: float) -> float:
    return math.log(2)


OBJECTIVE = OfflineObjective(
    strength="beta: how much of a margin, in nats per token, counts; higher = closer to the reference",
    couples=False,
    needs_reference=True,
    arguments=arguments,
    margins=PairScores.token_margins,
    losses=losses,
    first_loss=first_loss,
)
