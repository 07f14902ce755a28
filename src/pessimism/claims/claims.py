"""The paper's claims judged by its own measure and by the controlled one: estimate, interval, test, verdict.

The tests were fixed before any run was looked at. Each claim's kind says how it is tested, as the protocol pairs seeds
or not. One claim by one measure is primary; the other claims of a measure that have a p-value are one family. Verdicts
are about one world: seeds share base policy and preference data, and repeat the training of reward models and policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from pessimism.claims import statements
from pessimism.claims.kinds import Evidence
from pessimism.claims.statements import Claim
from pessimism.claims.verdicts import ALPHA, ClaimTest, Verdict, verdicts
from pessimism.measures.contrasts import smallest_p
from pessimism.scoring.columns import over_beta, size
from pessimism.scoring.measures import MEASURES, PAPER


def check_claims(
    cells: pd.DataFrame, power_law: Mapping[str, Any], beta_stars: Mapping[str, Any], primary_arm: str, paired: bool
) -> dict[str, Any]:
    """Every claim by both measures, and what the design can show at all.

    Args:
        cells: plots/cells.csv.
        power_law: metrics/power_law.json.
        beta_stars: metrics/beta_star.json, by measure.
        primary_arm: the arm that the claims are about.
        paired: whether the betas of a seed share its random draws: ``paired_seeds`` of the protocol.

    Returns:
        JSON-ready: ``design``, and ``claims`` by name; null where the runs do not determine a number.

    Raises:
        DataError: a claim is about a column that ``cells`` lacks.
    """
    runs = over_beta(cells, primary_arm)
    judged = {
        measure: _judge(Evidence(runs, measure, paired, power_law if measure == PAPER else {}, beta_stars[measure]))
        for measure in MEASURES
    }
    return {
        "design": design_record(cells, primary_arm, paired),
        "claims": {
            claim.name: _words(claim) | {measure: judged[measure][claim.name] for measure in MEASURES}
            for claim in statements.CLAIMS
        },
    }


def _words(claim: Claim) -> dict[str, Any]:
    return {"statement": claim.statement, "predicted": claim.kind.direction, "note": claim.note}


def _judge(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Record of every claim by one measure."""
    tests = {claim.name: claim.kind.test(evidence) for claim in statements.CLAIMS}
    primary = statements.primary_by(evidence.measure)
    judged = verdicts(tests, primary)
    family = sum(isinstance(test, ClaimTest) and name != primary for name, test in tests.items())
    return {
        claim.name: _record(claim, evidence, 1 if claim.name == primary else family, judged[claim.name])
        for claim in statements.CLAIMS
    }


def _record(claim: Claim, evidence: Evidence, family: int, verdict: Verdict) -> dict[str, Any]:
    kind, quantity = claim.kind, claim.kind.quantity(evidence.measure)
    found = asdict(verdict)
    return {
        "role": "primary" if claim.primary == evidence.measure else "secondary",
        "quantity": quantity.name,
        "unit": quantity.unit,
        "test": kind.method(evidence.paired),
        **kind.numbers(evidence, family),
        "verdict": found.pop("outcome").value,
        **found,
    }


def design_record(cells: pd.DataFrame, primary_arm: str, paired: bool) -> dict[str, Any]:
    """What the number of betas and seeds of the primary arm can show at all, where no run lacks a value.

    ``claims_in_family`` counts the secondary claims of the measure that has the most. A two-sided claim has twice the
    smallest p; where that is too large at Holm's first step, others must be supported first.
    """
    seeds, betas = size(cells, primary_arm)
    smallest = smallest_p(seeds, betas, paired) if betas > 1 and seeds > 1 else None
    family = max(secondary_claims(measure, betas) for measure in MEASURES)
    return {
        "arm": primary_arm,
        "seeds": seeds,
        "betas": betas,
        "paired_seeds": paired,
        "alpha": ALPHA,
        "claims_in_family": family,
        "smallest_p": smallest,
        "smallest_adjusted_p": None if smallest is None else min(1.0, family * smallest),
        "can_support_the_primary_claim": smallest is not None and smallest <= ALPHA,
        "can_support_a_claim": smallest is not None and family * smallest <= ALPHA,
        "can_support_a_two_sided_claim": smallest is not None and 2 * family * smallest <= ALPHA,
    }


def secondary_claims(measure: str, betas: int) -> int:
    """How many secondary claims have a p-value by this measure, with so many betas."""
    tested = [claim for claim in statements.CLAIMS if claim.kind.counts_in_family(betas)]
    return sum(claim.primary != measure for claim in tested)
