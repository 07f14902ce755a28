"""What an online objective declares, and how the loop finds the one that params.yaml names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pessimism.experiment import extensions
from pessimism.models.compute.logprobs import TokenLogps


def _arms_numerator(numerator: float, disagreement: float) -> float:
    return numerator


def _plain_rewards(rewards_B: torch.Tensor, log_ratios_B: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    return rewards_B


@dataclass(frozen=True)
class OnlineObjective:
    """One objective: how rewards become advantages, and the loss of a batch of responses.

    Attributes:
        samples_per_prompt: responses drawn to each prompt of a batch; those of a prompt follow one another.
        advantages: of (B,) rewards of a whole batch, (B,).
        coefficient: of the penalty, a scalar without gradient, from its numerator (a beta, or the protocol's), the (B,)
            log-ratios of the whole batch in nats, a percentile in (0, 100] and a noise floor in nats.
        penalty_weights: (B,) weight of the penalty on grad log pi beside the advantage's, from the log-ratios, the (B,)
            tokens of the responses and the coefficient; logged.
        loss: mean over the B responses of a part, from the policy's and the reference's log-probs, their (B,)
            advantages and the coefficient. Parts are weighed by their rows.
        numerator: of the coefficient, from the arm's and from the ensemble's mean disagreement over the batch, in units
            of that over the run's first batch; by default the arm's.
        penalized_rewards: (B,) rewards that advantages are taken of, from the rewards, the log-ratios and the
            coefficient; by default the rewards.
    """

    samples_per_prompt: int
    advantages: Callable[[torch.Tensor], torch.Tensor]
    coefficient: Callable[[float, torch.Tensor, float, float], torch.Tensor]
    penalty_weights: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    loss: Callable[[TokenLogps, TokenLogps, torch.Tensor, torch.Tensor], torch.Tensor]
    numerator: Callable[[float, float], float] = _arms_numerator
    penalized_rewards: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = _plain_rewards


def find_objective(name: str) -> OnlineObjective:
    """The objective of online/objectives/<name>.py.

    Raises:
        ParamsError: there is no such file.
    """
    return extensions.find("pessimism.online.objectives", name, OnlineObjective, "params.yaml: online.objective")
