"""Direct preference optimisation (Eq. 1; Rafailov et al. 2023, arXiv 2305.18290): -log sigmoid(beta * margin)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pessimism.offline.objective import OfflineObjective, PairScores


def arguments(beta: float) -> dict[str, Any]:
    return {"loss_type": ["sigmoid"], "beta": beta}


def losses(beta: float, scores: PairScores) -> np.ndarray:
    return np.logaddexp(0, -beta * scores.margins())


def first_loss(beta: float) -> float:
    return math.log(2)


OBJECTIVE = OfflineObjective(
    strength="beta: how much of a margin, in nats, counts; higher = closer to the reference",
    couples=True,
    needs_reference=True,
    arguments=arguments,
    margins=PairScores.margins,
    losses=losses,
    first_loss=first_loss,
)
