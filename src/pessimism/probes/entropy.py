"""Entropy of a policy, per token: on the prompts it is given (Eq. 11) and on its own responses.

Eq. 11 conditions each token x_t of a prompt on x_<t. The state after the last token predicts the response instead, so
its term is no part of the paper's measure. With it, the measure stands in a column of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pessimism.probes.parts.declaration import Probe, ProbeColumn

if TYPE_CHECKING:
    import torch


def entropies(
    prompt_entropy_N: torch.Tensor, prompt_and_next_entropy_N: torch.Tensor, response_entropy_P: torch.Tensor
) -> dict[str, float]:
    """Means over prompts and mean over responses, each weighing the same; nats per token, in [0, ln V]."""
    return {
        "prompt_entropy": float(prompt_entropy_N.mean()),
        "prompt_and_next_entropy": float(prompt_and_next_entropy_N.mean()),
        "response_entropy": float(response_entropy_P.mean()),
    }


ENTROPY = Probe(
    reads=("prompt_entropy_N", "prompt_and_next_entropy_N", "response_entropy_P"),
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
            "prompt_and_next_entropy",
            formula="Eq. 11 with one term more: the token after the prompt, which is the first of the response",
            unit="nats per token",
            within="≥ 0",
            higher="less certain",
            heading="entropy, prompt and next token",
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
