"""The paper's objective (Eq. 8-10): REINFORCE on whole responses, with a penalty on the squared log-ratio."""

from __future__ import annotations

from pessimism.online.objective import OnlineObjective
from pessimism.online.terms import kl_coefficient, normalized_advantages, penalty_weights, response_loss

OBJECTIVE = OnlineObjective(
    samples_per_prompt=1,
    advantages=normalized_advantages,
    coefficient=kl_coefficient,
    penalty_weights=penalty_weights,
    loss=response_loss,
)
