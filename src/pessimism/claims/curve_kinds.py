"""Claims about curves of AUGC over beta: the exponent of the power law, and whether a beta* is identified."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pessimism.claims.kinds import Evidence, Kind, Quantity, all_finite, as_bounds, as_number
from pessimism.claims.verdicts import ClaimTest, NoTest, Outcome, Verdict, mean_test
from pessimism.measures.forms import FEWEST_BETAS
from pessimism.measures.intervals import t_interval
from pessimism.measures.power_law import PowerLaw, fit_power_law
from pessimism.scoring.measures import AUGC

FEW_BETAS = f"fewer than {FEWEST_BETAS} betas: three parameters fit anything"
NO_CURVE = f"fewer than {FEWEST_BETAS} betas to fit a curve to"


@dataclass(frozen=True)
class Exponent(Kind):
    """The exponent b of the power law (Eq. 14) is above a number: a t test of the seeds' own exponents.

    Attributes:
        above: the number.
    """

    above: float

    @property
    def method(self) -> str:
        return f"t over the seeds' exponents against {self.above:g}"

    def quantity(self, measure: str) -> Quantity:
        return Quantity("b", "")

    def counts_in_family(self, betas: int) -> bool:
        return betas >= FEWEST_BETAS

    def test(self, evidence: Evidence) -> ClaimTest | NoTest | Verdict:
        """A seed whose AUGC no power law describes has no exponent, and the claim no test."""
        if evidence.betas < FEWEST_BETAS:
            return Verdict(Outcome.INSUFFICIENT, reason=FEW_BETAS)
        return mean_test(list(_exponents(evidence).values()), self.above)

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        """``estimate`` is the mean of the seeds' exponents; below six betas that of the published fit, for the record.

        The controlled measure has no published fit.
        """
        if evidence.betas < FEWEST_BETAS:
            return {"estimate": evidence.power_law.get("b"), "interval": None, "values": []}
        exponents = _exponents(evidence)
        found = np.array(list(exponents.values()))
        return {
            "estimate": float(found.mean()) if all_finite(found) else None,
            "interval": as_bounds(t_interval(found)) if all_finite(found) else None,
            "values": [{"seed": seed, "value": as_number(exponent)} for seed, exponent in exponents.items()],
        }


def _exponents(evidence: Evidence) -> dict[int, float]:
    """Exponent of each seed's power law, nan where there is no fit."""
    exponents = {}
    for seed in evidence.runs["seed"].unique().tolist():
        rows = evidence.runs[evidence.runs["seed"] == seed]
        law = fit_power_law(rows["beta"], rows[AUGC[evidence.measure]])
        exponents[seed] = law.b if isinstance(law, PowerLaw) else math.nan
    return exponents


@dataclass(frozen=True)
class Identified(Kind):
    """A beta* is identified, or it is not: no null distribution, no p-value, and never contradicted.

    Attributes:
        definition: of metrics/beta_star.json.
    """

    definition: str

    @property
    def method(self) -> str:
        return "identified in at least 95 % of the bootstrap resamples of the seeds"

    def quantity(self, measure: str) -> Quantity:
        return Quantity("beta_star", "beta")

    def counts_in_family(self, betas: int) -> bool:
        return False

    def test(self, evidence: Evidence) -> Verdict:
        star = evidence.beta_stars[self.definition]
        if evidence.betas < FEWEST_BETAS:
            return Verdict(Outcome.INSUFFICIENT, reason=NO_CURVE)
        outcome = Outcome.INSUFFICIENT if star["interval"] is None else Outcome.SUPPORTED
        return Verdict(outcome, reason=star["not_identified"])

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        star = evidence.beta_stars[self.definition]
        return {"estimate": star["estimate"], "interval": star["interval"], "values": []}
