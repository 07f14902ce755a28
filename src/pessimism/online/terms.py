"""What online objectives are made of: advantages, the penalty's coefficient, the loss of whole responses (Eq. 8-10)."""

from __future__ import annotations

import torch

from pessimism.measures.epsilon import EPS
from pessimism.models.compute.logprobs import TokenLogps


def normalized_advantages(rewards_B: torch.Tensor) -> torch.Tensor:
    """Advantages of a batch, Eq. 9: (reward - mean) / (std + eps), std with ddof 1.

    Raises:
        ValueError: fewer than two rewards, whose deviation is undefined.
    """
    if rewards_B.numel() < 2:
        raise ValueError(f"found {rewards_B.numel()} reward(s); expected 2 or more (online.batch_size)")
    return (rewards_B - rewards_B.mean()) / (rewards_B.std(correction=1) + EPS)


def kl_coefficient(numerator: float, log_ratios_B: torch.Tensor, percentile: float, noise_floor: float) -> torch.Tensor:
    """Penalty coefficient kappa, Eq. 10: numerator / (percentile of |log ratio| over the batch + eps).

    Args:
        numerator: beta of the checkpoint where the coupling is the paper's.
        log_ratios_B: (B,) log pi_theta - log pi_ref of whole responses, nats.
        percentile: in (0, 100].
        noise_floor: nats. Where the percentile lies below it, policy and reference differ by rounding alone
            and the scale-free coefficient would amplify that: the penalty is 0.

    Returns:
        Scalar without gradient, 1/nats, at least 0.
    """
    scale = torch.quantile(log_ratios_B.detach().abs().float(), percentile / 100)
    if scale < noise_floor:
        return torch.zeros_like(scale)
    return numerator / (scale + EPS)


def plain_coefficient(
    numerator: float, log_ratios_B: torch.Tensor, percentile: float, noise_floor: float
) -> torch.Tensor:
    """The numerator itself, 1/nats, as where a penalty has one coefficient; the arguments of :func:`kl_coefficient`."""
    return torch.full_like(log_ratios_B[0].detach(), numerator)


def online_loss(
    logps_B: torch.Tensor, reference_logps_B: torch.Tensor, advantages_B: torch.Tensor, coefficient: torch.Tensor
) -> torch.Tensor:
    """Loss of one batch, Eq. 8: -E[A log pi] + kappa E[(log pi - log pi_ref)^2], of whole-response sums in nats."""
    penalty = (logps_B - reference_logps_B).square().mean()
    return -(advantages_B.detach() * logps_B).mean() + coefficient.detach() * penalty


def response_loss(
    policy: TokenLogps, reference: TokenLogps, advantages_B: torch.Tensor, coefficient: torch.Tensor
) -> torch.Tensor:
    """:func:`online_loss` of what policy and reference say of B responses."""
    return online_loss(policy.sums, reference.sums, advantages_B, coefficient)


def penalty_weights(log_ratios_B: torch.Tensor, tokens_B: torch.Tensor, coefficient: torch.Tensor) -> torch.Tensor:
    """(B,) weight of Eq. 8's penalty on grad log pi: 2 kappa |log ratio|, whatever the tokens."""
    return 2 * coefficient * log_ratios_B.abs()
