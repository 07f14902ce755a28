"""Entropy of a policy, per token: on the prompts it is given (Eq. 11) and on its own responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pessimism.probes.parts.declaration import Probe, ProbeColumn

if TYPE_CHECKING:
    import torch


def entropies(prompt_entropy_N: torch.Tensor, response_entropy_P: torch.Tensor) -> dict[str, float]:
    """Mean over prompts and mean over responses, each weighing the same; nats per token, in [0, ln V]."""
    return {
        "prompt_entropy": float(prompt_entropy_N.mean()),
        "response_entropy": float(response_entropy_P.mean()),
    }


ENTROPY = Probe(
    reads=("prompt_entropy_N", "response_entropy_P"),
    compute=entropies,
    columns=(
        ProbeColumn(
            "entropy",
            formula="Eq. 11 on the tokens that `entropy_tokens` names",
            unit="nats per token",
            within="≥ 0",
            higher="less certain",
            heading="entropy, paper's probe",
            choose=lambda probed, protocol: probed[f"{protocol.entropy_tokens}_entropy"],
            published=True,
            loss=True,
        ),
        ProbeColumn(
            "response_entropy",
            formula="Eq. 11 on the tokens of own responses to the held-out problems",
            unit="nats per response token",
            within="≥ 0",
            higher="less certain",
            heading="entropy, response tokens",
            loss=True,
        ),
    ),
)
