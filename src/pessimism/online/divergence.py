"""Estimates of the KL divergence of the policy from its reference, from responses that the policy drew."""

from __future__ import annotations

import torch


def kl_k1(logps_B_T: torch.Tensor, reference_logps_B_T: torch.Tensor) -> torch.Tensor:
    """(B,) log-ratio of each sampled response, nats per response; may be negative.

    Its mean estimates KL(policy || reference) without bias where responses are drawn from the policy's full
    distribution at temperature 1, which the protocol decides.
    """
    return (logps_B_T - reference_logps_B_T).sum(dim=1)


def kl_k3(logps_B_T: torch.Tensor, reference_logps_B_T: torch.Tensor) -> torch.Tensor:
    """(B,) estimate sum_t (exp(d_t) - 1 - d_t), d_t = reference - policy log-prob; nats per response, at least 0."""
    difference = reference_logps_B_T - logps_B_T
    return (torch.expm1(difference) - difference).sum(dim=1)
