"""REINFORCE leave-one-out (Ahmadian et al., arXiv 2402.14740): the KL penalty is part of the reward.

A response's reward is r - beta (log pi_theta - log pi_ref), its baseline the mean of the same prompt's other responses.
beta is the arm's numerator itself, 1/nats; Eq. 10 has no part in it. Rewards are not standardised: the step grows with
their spread. A batch is one update, so that the ratio to the policy that drew it is 1 and nothing is clipped.
"""

from __future__ import annotations

import torch

from pessimism.models.compute.logprobs import TokenLogps
from pessimism.online.objective import OnlineObjective
from pessimism.online.terms import plain_coefficient

SAMPLES = 4
"""Responses to a prompt; the paper has 2 and 4."""


def penalized_rewards(rewards_B: torch.Tensor, log_ratios_B: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    return rewards_B - coefficient * log_ratios_B


def advantages(rewards_B: torch.Tensor) -> torch.Tensor:
    """(B,) reward minus the mean of the prompt's others, in the reward's unit; each prompt's sum to 0."""
    rewards_P_S = rewards_B.view(-1, SAMPLES)
    others_P_S = (rewards_P_S.sum(dim=1, keepdim=True) - rewards_P_S) / (SAMPLES - 1)
    return (rewards_P_S - others_P_S).flatten()


def penalty_weights(log_ratios_B: torch.Tensor, tokens_B: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    """(B,) |advantage| of the penalty alone."""
    return coefficient * advantages(log_ratios_B).abs()


def loss(
    policy: TokenLogps, reference: TokenLogps, advantages_B: torch.Tensor, coefficient: torch.Tensor
) -> torch.Tensor:
    return -(advantages_B * policy.sums).mean()


OBJECTIVE = OnlineObjective(
    samples_per_prompt=SAMPLES,
    penalized_rewards=penalized_rewards,
    advantages=advantages,
    coefficient=plain_coefficient,
    penalty_weights=penalty_weights,
    loss=loss,
)
