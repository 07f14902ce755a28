"""Claims about curves of AUGC over beta: the exponent of the power law, and whether a beta* is identified."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pessimism.claims.kinds import Evidence, Kind, Quantity, all_finite, as_bounds, as_number
from pessimism.claims.verdicts import ClaimTest, NoTest, Outcome, Verdict, mean_test, sum_test
from pessimism.measures.contrasts import Combination, left_out
from pessimism.measures.forms import FEWEST_BETAS
from pessimism.measures.intervals import t_interval
from pessimism.measures.power_law import PowerLaw, fit_power_law
from pessimism.scoring.columns import by_seed
from pessimism.scoring.measures import AUGC

FEW_BETAS = f"fewer than {FEWEST_BETAS} betas: three parameters fit anything"
NO_CURVE = f"fewer than {FEWEST_BETAS} betas to fit a curve to"


@dataclass(frozen=True)
class Exponent(Kind):
    """The exponent b of the power law (Eq. 14) is above a number, by a t test in this direction alone.

    The fit is bounded and not linear. Where AUGC rises less than its noise, exponents crowd below the number with too
    small an error: a t test of the opposite would err in more than 5 % of experiments. Nothing contradicts the claim.

    Where seeds are paired each seed has an exponent of its own. Where they are not, no run belongs to another beta's,
    and the exponent is that of the means over seeds, with the error that leaving out one run at a time shows.

    Attributes:
        above: the number.
    """

    above: float

    def method(self, paired: bool) -> str:
        of = "over the seeds' exponents" if paired else "of the means' exponent, its error by leaving out runs,"
        return f"t {of} against {self.above:g}, in this direction alone"

    def quantity(self, measure: str) -> Quantity:
        return Quantity("b", "")

    def counts_in_family(self, betas: int) -> bool:
        return betas >= FEWEST_BETAS

    def test(self, evidence: Evidence) -> ClaimTest | NoTest | Verdict:
        """Where no power law describes the AUGC of a seed, or the means with a run left out, the claim has no test."""
        if evidence.betas < FEWEST_BETAS:
            return Verdict(Outcome.INSUFFICIENT, reason=FEW_BETAS)
        if evidence.paired:
            test = mean_test(list(_exponents(evidence).values()), self.above)
        else:
            test = sum_test(_exponent_of_means(evidence), self.above)
        return replace(test, p_opposite=None) if isinstance(test, ClaimTest) else test

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        """``estimate`` is the mean of the seeds' exponents or that of the means; below six betas the published fit's.

        The controlled measure has no published fit.
        """
        if evidence.betas < FEWEST_BETAS:
            return {"estimate": evidence.power_law.get("b"), "interval": None, "values": []}
        if not evidence.paired:
            found = _exponent_of_means(evidence)
            known = bool(np.isfinite([*found.estimate, *found.error]).all())
            return {
                "estimate": as_number(found.estimate[0]),
                "interval": as_bounds(found.interval()) if known else None,
                "values": [],
            }
        exponents = _exponents(evidence)
        found_S = np.array(list(exponents.values()))
        return {
            "estimate": float(found_S.mean()) if all_finite(found_S) else None,
            "interval": as_bounds(t_interval(found_S)) if all_finite(found_S) else None,
            "values": [{"seed": seed, "value": as_number(exponent)} for seed, exponent in exponents.items()],
        }


def _exponents(evidence: Evidence) -> dict[int, float]:
    """Exponent of each seed's power law, nan where there is no fit."""
    exponents = {}
    for seed in evidence.runs["seed"].unique().tolist():
        rows = evidence.runs[evidence.runs["seed"] == seed]
        exponents[seed] = _exponent(rows["beta"], rows[AUGC[evidence.measure]])
    return exponents


def _exponent_of_means(evidence: Evidence) -> Combination:
    values_S_K = by_seed(evidence.runs, AUGC[evidence.measure])
    if len(values_S_K) < 2:
        return Combination(*np.full((3, 1), np.nan))
    betas = np.sort(evidence.runs["beta"].unique())
    return left_out(values_S_K, lambda means_K: _exponent(betas, means_K))


def _exponent(betas: ArrayLike, augc: ArrayLike) -> float:
    law = fit_power_law(betas, augc)
    return law.b if isinstance(law, PowerLaw) else math.nan


@dataclass(frozen=True)
class Identified(Kind):
    """A beta* is identified, or it is not: no null distribution, no p-value, and never contradicted.

    Attributes:
        definition: of metrics/beta_star.json.
    """

    definition: str

    def method(self, paired: bool) -> str:
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
