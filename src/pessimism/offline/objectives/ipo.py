"""Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036, Eq. 17): the margin per token is drawn to
1 / (2 tau).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pessimism.offline.objective import OfflineObjective, PairScores


def arguments(tau: float) -> dict[str, Any]:
    return {"loss_type": ["ipo"], "beta": tau}


def losses(tau: float, scores: PairScores) -> np.ndarray:
    return (scores.token_margins() - 1 / (2 * tau)) ** 2


def first_loss(tau: float) -> float:
    return 1 / (4 * tau**2)


OBJECTIVE = OfflineObjective(
    strength="tau: half its inverse is the margin per token that is aimed at; higher = closer to the reference",
    couples=False,
    needs_reference=True,
    arguments=arguments,
    margins=PairScores.token_margins,
    losses=losses,
    first_loss=first_loss,
)
