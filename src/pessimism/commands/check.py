"""What `make reproduce` checks before DVC starts."""

from __future__ import annotations

from pessimism import preflight


def check() -> str:
    """Check parameters and sources; return one line that says what would be run.

    Raises:
        PessimismError: something is not usable.
    """
    params = preflight.check()
    return (
        f"parameters are usable: scale {params.scale_name}, protocol {params.protocol_name}, "
        f"{len(params.beta_percentiles)} betas x {len(params.seeds)} seeds x {len(params.arms)} arms, "
        f"{len(params.ensemble_members)} reward models, aggregation {params.aggregation}"
    )
