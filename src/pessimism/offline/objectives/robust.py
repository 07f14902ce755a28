"""DPO without the bias of flipped labels (Chowdhury et al. 2024, arXiv 2403.00409): for pairs of which a known share
is labelled the wrong way round.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pessimism.offline.objective import OfflineObjective, PairScores

FLIPPED = 0.1
"""Share of pairs taken to be labelled the wrong way round, below 0.5; the paper's experiments take 0.1."""


def arguments(beta: float) -> dict[str, Any]:
    return {"loss_type": ["robust"], "beta": beta, "label_smoothing": FLIPPED}


def losses(beta: float, scores: PairScores) -> np.ndarray:
    as_labelled, flipped = (np.logaddexp(0, -sign * beta * scores.margins()) for sign in (1, -1))
    return ((1 - FLIPPED) * as_labelled - FLIPPED * flipped) / (1 - 2 * FLIPPED)


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
