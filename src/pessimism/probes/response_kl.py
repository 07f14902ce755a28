"""Divergence of a policy from the base over its own responses: how conservative it is in fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pessimism.probes.parts.declaration import Probe, ProbeColumn

if TYPE_CHECKING:
    import torch


def kl_to_base(response_kl_P: torch.Tensor) -> dict[str, float]:
    """Mean over responses; nats per response, at least 0."""
    return {"kl_to_base": float(response_kl_P.mean())}


RESPONSE_KL = Probe(
    reads=("response_kl_P",),
    compute=kl_to_base,
    columns=(
        ProbeColumn(
            "kl_to_base",
            formula="KL(policy ‖ base) over own responses from the full distribution, whole vocabulary at each token",
            unit="nats per response",
            within="≥ 0",
            higher="less conservative in fact",
            heading="KL to the base, nats per response",
        ),
    ),
)
