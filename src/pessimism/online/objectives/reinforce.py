"""The paper's objective (Eq. 8-10): REINFORCE on whole responses, with a penalty on the squared log-ratio."""

from __future__ import annotations

import torch

from pessimism.models.compute.logprobs import TokenLogps
from pessimism.online.objective import OnlineObjective
from pessimism.online.terms import kl_coefficient, normalized_advantages, online_loss, penalty_weights


def loss(
    policy: TokenLogps, reference: TokenLogps, advantages_B: torch.Tensor, coefficient: torch.Tensor
) -> torch.Tensor:
    return online_loss(policy.sums, reference.sums, advantages_B, coefficient)


OBJECTIVE = OnlineObjective(
    samples_per_prompt=1,
    advantages=normalized_advantages,
    coefficient=kl_coefficient,
    loss=loss,
    penalty_weights=penalty_weights,
)
