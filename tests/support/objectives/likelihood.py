"""The likelihood of chosen responses alone, by TRL's DPOTrainer: no reference and no strength."""

from __future__ import annotations

from pessimism.offline.objective import OfflineObjective, PairScores

OBJECTIVE = OfflineObjective(
    strength=None,
    couples=False,
    needs_reference=False,
    arguments=lambda _: {"loss_type": ["sft"]},
    margins=PairScores.token_margins,
    losses=lambda _, scores: -scores.chosen / scores.chosen_tokens,
    first_loss=None,
)
