"""Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036), by TRL's DPOTrainer."""

from __future__ import annotations

from pessimism.offline.objective import OfflineObjective, PairScores

OBJECTIVE = OfflineObjective(
    strength="tau: half its inverse is the margin per token that is aimed at; higher = closer to the reference",
    needs_reference=True,
    arguments=lambda tau: {"loss_type": ["ipo"], "beta": tau},
    margins=PairScores.token_margins,
    losses=lambda tau, scores: (scores.token_margins() - 1 / (2 * tau)) ** 2,
    first_loss=lambda tau: 1 / (4 * tau**2),
)
