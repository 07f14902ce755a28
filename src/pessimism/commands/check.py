"""What `make reproduce` checks before DVC starts."""

from __future__ import annotations

from pessimism.checks import preflight
from pessimism.commands.selfcheck import params_of


def check(scale: str | None = None) -> str:
    """Check parameters and sources; return one line that says what would be run.

    Args:
        scale: another than params.yaml names.

    Raises:
        PessimismError: something is not usable.
    """
    params = params_of(scale)
    preflight.check(params)
    return (
        f"parameters are usable: scale {params.scale_name}, protocol {params.protocol_name}, "
        f"{len(params.beta_percentiles)} betas x {len(params.seeds)} seeds x {len(params.arms)} arms, "
        f"{len(params.ensemble_members)} reward models, aggregation {params.aggregation}"
    )
