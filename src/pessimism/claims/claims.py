"""The paper's ten claims: estimate, interval, exact test and verdict, by the paper's measure and by the controlled one.

The tests were fixed before any run was looked at. C1 to C7 are tested by Page's exact test, paired by seed; C8 by a t
test of the seeds' mean correlations and Page's test of their growth; C9 by a t test of the seeds' exponents where there
are betas enough for one. C10 has no null distribution: a beta* is identified or it is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.statements import STATEMENTS, TREND_CLAIMS, Quantity, TrendClaim
from pessimism.claims.verdicts import (
    ALPHA,
    ClaimTest,
    NoTest,
    Outcome,
    Verdict,
    mean_test,
    trend_test,
    uncertainty_gap_test,
    verdicts,
)
from pessimism.measures.forms import FEWEST_BETAS
from pessimism.measures.intervals import Interval, log_t_interval, t_interval
from pessimism.measures.power import Unknown, seeds_needed
from pessimism.measures.power_law import PowerLaw, fit_power_law
from pessimism.measures.trends import jonckheere, page_smallest_p, spearman, spearman_exact_p, trend_correlation
from pessimism.scoring.measures import AUGC, MEASURES, PAPER, by_seed

DIRECTIONS = {+1: "rises with beta", -1: "falls with beta", 0: "depends on beta"}
FEW_BETAS = f"fewer than {FEWEST_BETAS} betas: three parameters fit anything"
NO_CURVE = f"fewer than {FEWEST_BETAS} betas to fit a curve to"
TWO_TESTS = "not planned: two tests must hold"
PAGE = "exact Page, paired by seed"


def check_claims(
    cells: pd.DataFrame, power_law: Mapping[str, Any], beta_stars: Mapping[str, Any], primary_arm: str
) -> dict[str, Any]:
    """Every claim by both measures, and what the design can show at all.

    Args:
        cells: plots/cells.csv.
        power_law: metrics/power_law.json.
        beta_stars: metrics/beta_star.json, by measure.
        primary_arm: the arm that the claims are about.

    Returns:
        JSON-ready: ``design``, and ``claims`` by name; null where the runs do not determine a number.
    """
    runs = cells[cells["arm"] == primary_arm]
    records: dict[str, dict[str, Any]] = {
        name: {
            "statement": statement,
            "predicted": DIRECTIONS[TREND_CLAIMS[name].predicted] if name in TREND_CLAIMS else None,
            "note": TREND_CLAIMS[name].note if name in TREND_CLAIMS else "",
        }
        for name, statement in STATEMENTS.items()
    }
    for measure in MEASURES:
        tests: dict[str, ClaimTest | NoTest | None] = {
            name: _trend_test(claim, claim.quantity(measure), runs) for name, claim in TREND_CLAIMS.items()
        }
        tests["C9"] = _exponent_test(runs, AUGC[measure])
        judged, family = verdicts(tests), sum(isinstance(test, ClaimTest) for test in tests.values())
        for name, claim in TREND_CLAIMS.items():
            records[name][measure] = _trend_record(claim, claim.quantity(measure), runs, judged[name], family)
        records["C9"][measure] = _exponent_record(runs, measure, power_law, judged["C9"])
        records["C10"][measure] = _beta_star_record(runs, beta_stars[measure])
    return {"design": design_record(runs, primary_arm), "claims": records}


def design_record(runs: pd.DataFrame, primary_arm: str) -> dict[str, Any]:
    """What the number of betas and seeds can show at all, where every claim of the family has a test.

    A two-sided claim (C5) has twice the smallest p; where that is too large at Holm's first step, others must be
    supported first.
    """
    seeds, betas = runs["seed"].nunique(), runs["beta_percentile"].nunique()
    smallest = page_smallest_p(seeds, betas) if betas > 1 else None
    family = len(TREND_CLAIMS) + (betas >= FEWEST_BETAS)
    return {
        "arm": primary_arm,
        "seeds": seeds,
        "betas": betas,
        "alpha": ALPHA,
        "claims_in_family": family,
        "page_smallest_p": smallest,
        "page_smallest_adjusted_p": None if smallest is None else min(1.0, family * smallest),
        "can_support_a_claim": smallest is not None and family * smallest <= ALPHA,
        "can_support_a_two_sided_claim": smallest is not None and 2 * family * smallest <= ALPHA,
    }


def _trend_test(claim: TrendClaim, quantity: Quantity, runs: pd.DataFrame) -> ClaimTest | NoTest:
    values_S_K = by_seed(runs, quantity.column)
    if claim is TREND_CLAIMS["C8"]:
        return uncertainty_gap_test(values_S_K)
    return trend_test(values_S_K, claim.predicted)


def _trend_record(
    claim: TrendClaim, quantity: Quantity, runs: pd.DataFrame, verdict: Verdict, family: int
) -> dict[str, Any]:
    """``estimate`` is the mean over seeds of the value at the highest beta minus that at the lowest.

    ``ratio`` is the geometric mean over seeds of the one over the other, for AUGC, which is skewed, where all are
    above 0.
    """
    values_S_K = by_seed(runs, quantity.column)
    conjunction = claim is TREND_CLAIMS["C8"]
    differences = values_S_K[:, -1] - values_S_K[:, 0] if _all_finite(values_S_K) and values_S_K.shape[1] > 1 else None
    record = {
        "quantity": quantity.column,
        "unit": quantity.unit,
        "estimate": None if differences is None else float(differences.mean()),
        "interval": None if differences is None else _bounds(t_interval(differences)),
        **(_ratio(values_S_K) if claim is TREND_CLAIMS["C1"] else {}),
        **_spearman(values_S_K, claim.predicted),
        "trend_correlation": None if np.isnan(values_S_K).any() else _correlation(values_S_K),
        "test": f"t over seeds, and {PAGE}" if conjunction else PAGE,
        "jonckheere_p": _jonckheere(values_S_K, claim.predicted),
        "seeds_needed": TWO_TESTS if conjunction else _seeds_needed(values_S_K, claim.predicted, family),
        "values": _per_run(runs, quantity.column),
    }
    if conjunction and _all_finite(values_S_K):
        record["mean_correlation"] = float(values_S_K.mean())
        record["mean_correlation_interval"] = _bounds(t_interval(values_S_K.mean(axis=1)))
    return record | _judgement(verdict)


def _ratio(values_S_K: np.ndarray) -> dict[str, Any]:
    low_S, high_S = values_S_K[:, 0], values_S_K[:, -1]
    if values_S_K.shape[1] < 2 or not (_all_finite(values_S_K) and (low_S > 0).all() and (high_S > 0).all()):
        return {"ratio": None, "ratio_interval": None}
    ratios = high_S / low_S
    return {"ratio": float(np.exp(np.log(ratios).mean())), "ratio_interval": _bounds(log_t_interval(ratios))}


def _judgement(verdict: Verdict) -> dict[str, Any]:
    found = asdict(verdict)
    return {"verdict": found.pop("outcome").value, **found}


def _all_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _correlation(values_S_K: np.ndarray) -> float | None:
    return trend_correlation(values_S_K) if values_S_K.shape[1] > 1 else None


def _spearman(values_S_K: np.ndarray, predicted: int) -> dict[str, float | None]:
    """The paper's own statistic, over betas on the means (medians where a run never had the event) over seeds."""
    if np.isnan(values_S_K).any():
        return {"spearman": None, "spearman_p": None}
    values_K = values_S_K.mean(axis=0) if _all_finite(values_S_K) else np.median(values_S_K, axis=0)
    order = np.arange(len(values_K))
    rises, falls = (spearman_exact_p(order, values_K, direction) for direction in ("greater", "less"))
    p = None if rises is None or falls is None else _one_p(rises, falls, predicted)
    return {"spearman": spearman(order, values_K), "spearman_p": p}


def _one_p(rises: float, falls: float, predicted: int) -> float:
    """One-sided in the paper's direction, two-sided where it states both."""
    return {+1: rises, -1: falls, 0: min(1.0, 2 * min(rises, falls))}[predicted]


def _bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _jonckheere(values_S_K: np.ndarray, predicted: int) -> float | None:
    """The unpaired test beside the primary one."""
    if np.isnan(values_S_K).any() or values_S_K.shape[1] < 2:
        return None
    rises, falls = (jonckheere(list(values_S_K.T), direction) for direction in ("greater", "less"))
    if rises is None or falls is None:
        return None
    return _one_p(rises, falls, predicted)


def _seeds_needed(values_S_K: np.ndarray, predicted: int, family: int) -> int | str:
    """Seeds for power 0.8 at Holm's first step; a claim with two directions is planned for the one observed.

    Args:
        family: number of claims that have a test.
    """
    if values_S_K.shape[1] < 2 or not _all_finite(values_S_K):
        return Unknown.NOT_FINITE.value
    rises = values_S_K[:, -1].mean() >= values_S_K[:, 0].mean() if predicted == 0 else predicted > 0
    alpha = ALPHA / max(family, 1) / (2 if predicted == 0 else 1)
    needed = seeds_needed(values_S_K, alpha, "greater" if rises else "less")
    return needed.value if isinstance(needed, Unknown) else needed


def _per_run(runs: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    rows = runs[["beta_percentile", "beta", "seed", column]].itertuples(index=False)
    return [
        {"beta_percentile": int(percentile), "beta": beta, "seed": int(seed), "value": _number(value)}
        for percentile, beta, seed, value in rows
    ]


def _exponent_test(runs: pd.DataFrame, column: str) -> ClaimTest | NoTest | None:
    """Each seed's own exponent against 1; None below six betas."""
    exponents = _exponents(runs, column)
    return None if exponents is None else mean_test(np.array(list(exponents.values()), dtype=float), above=1.0)


def _exponents(runs: pd.DataFrame, column: str) -> dict[int, float] | None:
    """Exponent of each seed's power law, nan where there is no fit; None below six betas."""
    if runs["beta_percentile"].nunique() < FEWEST_BETAS:
        return None
    exponents = {}
    for seed in runs["seed"].unique().tolist():
        rows = runs[runs["seed"] == seed]
        law = fit_power_law(rows["beta"], rows[column])
        exponents[seed] = law.b if isinstance(law, PowerLaw) else math.nan
    return exponents


def _exponent_record(
    runs: pd.DataFrame, measure: str, power_law: Mapping[str, Any], verdict: Verdict
) -> dict[str, Any]:
    """``estimate`` is the mean of the seeds' exponents; below six betas that of the published fit, for the record.

    A seed whose AUGC no power law describes has no exponent, and the claim no test.
    """
    exponents = _exponents(runs, AUGC[measure])
    record = {"quantity": "b", "unit": "", "test": "t over the seeds' exponents against 1", **_judgement(verdict)}
    if exponents is None:
        published = power_law.get("b") if measure == PAPER else None
        return record | {"estimate": published, "interval": None, "values": [], "reason": FEW_BETAS}
    found = np.array(list(exponents.values()))
    return record | {
        "estimate": float(found.mean()) if _all_finite(found) else None,
        "interval": _bounds(t_interval(found)) if _all_finite(found) else None,
        "values": [{"seed": seed, "value": _number(exponent)} for seed, exponent in exponents.items()],
    }


def _beta_star_record(runs: pd.DataFrame, found: Mapping[str, Any]) -> dict[str, Any]:
    """Supported where Eq. 15 gives a beta in at least 95 % of resamples of the seeds; never contradicted."""
    star = found["eq_15_over_grid"]
    few = runs["beta_percentile"].nunique() < FEWEST_BETAS
    identified = not few and star["interval"] is not None
    return {
        "quantity": "beta_star",
        "unit": "beta",
        "estimate": star["estimate"],
        "interval": star["interval"],
        "test": "identified in at least 95 % of the bootstrap resamples of the seeds",
        "values": [],
        **_judgement(Verdict(Outcome.SUPPORTED if identified else Outcome.INSUFFICIENT)),
        "reason": NO_CURVE if few else star["not_identified"],
    }


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
