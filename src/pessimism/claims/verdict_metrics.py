"""Verdicts in short: of all that is known of each claim and contrast, the scalars by which DVC compares runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pessimism.claims.verdicts import Outcome
from pessimism.claims.wording import DOORS
from pessimism.scoring.measures import CONTROLLED, PAPER


def verdict_metrics(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What metrics/verdicts.json holds.

    Args:
        record: metrics/claims.json.

    Returns:
        By claim and by contrast ``verdict``, ``estimate`` and ``p``; of a claim they are by the controlled measure, and
        ``verdict_paper`` is by the paper's. None where there is no number, which DVC leaves out.
    """
    claims = {name: _claim(claim) for name, claim in record["claims"].items()}
    return claims | {door: _contrast(record["contrasts"][door]) for door in DOORS}


def _claim(claim: Mapping[str, Any]) -> dict[str, Any]:
    judged = claim[CONTROLLED]
    decided = "p_opposite_adjusted" if judged["verdict"] == Outcome.CONTRADICTED else "p_adjusted"
    return {
        "verdict": judged["verdict"],
        "verdict_paper": claim[PAPER]["verdict"],
        "estimate": judged["estimate"],
        "p": judged[decided],
    }


def _contrast(contrast: Mapping[str, Any]) -> dict[str, Any]:
    """Its p is the smaller of both directions, the one that decides."""
    ps = [contrast[key] for key in ("p_rises", "p_falls") if contrast[key] is not None]
    return {"verdict": contrast["verdict"], "estimate": contrast["estimate"], "p": min(ps, default=None)}
