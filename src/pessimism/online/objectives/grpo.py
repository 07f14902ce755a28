"""Group relative policy optimisation (Shao et al., arXiv 2402.03300): advantages of a group, a penalty at every token.

Each response weighs the same, by the mean over its tokens. The penalty is k3 of every token times beta, which is the
arm's numerator itself, 1/nats; Eq. 10 has no part in it. A batch is one update: the ratio to the policy that drew it is
1, its gradient that of the log-probability, and the clipping of the ratio never acts, so there is none. TRL's trainer
has the same gradient with ``loss_type="grpo"`` and ``use_bias_correction_kl=False``, but for the eps beside the
standard deviation: 1e-4 there, 2^-23 here.
"""

from __future__ import annotations

import torch

from pessimism.measures.epsilon import EPS
from pessimism.models.compute.logprobs import TokenLogps
from pessimism.online.divergence import kl_k3
from pessimism.online.objective import OnlineObjective
from pessimism.online.terms import plain_coefficient

SAMPLES = 4
"""Responses to a prompt, a group. The paper has 64, more than the batch of a small run."""


def advantages(rewards_B: torch.Tensor) -> torch.Tensor:
    """(B,) reward minus the group's mean, over its standard deviation (ddof 1) + eps; 0 where a group's are equal."""
    rewards_P_S = rewards_B.view(-1, SAMPLES)
    centred_P_S = rewards_P_S - rewards_P_S.mean(dim=1, keepdim=True)
    return (centred_P_S / (rewards_P_S.std(dim=1, keepdim=True) + EPS)).flatten()


def penalty_weights(log_ratios_B: torch.Tensor, tokens_B: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    """(B,) weight of k3 on grad log pi of a token, 1 - exp(-d) of its log-ratio d: to first order |mean d|."""
    return coefficient * log_ratios_B.abs() / tokens_B


def loss(
    policy: TokenLogps, reference: TokenLogps, advantages_B: torch.Tensor, coefficient: torch.Tensor
) -> torch.Tensor:
    penalties_B = coefficient * kl_k3(policy.logps_B_T, reference.logps_B_T)
    tokens_B = policy.scored_B_T.sum(dim=1).clamp(min=1)
    return ((penalties_B - advantages_B * policy.sums) / tokens_B).mean()


OBJECTIVE = OnlineObjective(
    samples_per_prompt=SAMPLES,
    advantages=advantages,
    coefficient=plain_coefficient,
    penalty_weights=penalty_weights,
    loss=loss,
)
