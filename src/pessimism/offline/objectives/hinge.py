"""Hinge loss of a margin (SLiC-HF, Zhao et al. 2023, arXiv 2305.10425, with DPO's margin; RSO, arXiv 2309.06657):
max(0, 1 - beta * margin).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pessimism.offline.objective import OfflineObjective, PairScores


def arguments(beta: float) -> dict[str, Any]:
    return {"loss_type": ["hinge"], "beta": beta}


def losses(beta: float, scores: PairScores) -> np.ndarray:
    return np.maximum(0, 1 - beta * scores.margins())


def first_loss(beta: float) -> float:
    return 1.0


OBJECTIVE = OfflineObjective(
    strength="beta: inverse of the margin, in nats, beyond which a pair no longer counts; higher = closer to the "
    "reference",
    couples=True,
    needs_reference=True,
    arguments=arguments,
    margins=PairScores.margins,
    losses=losses,
    first_loss=first_loss,
)
