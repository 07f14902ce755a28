"""The paper's ten claims: estimate, interval, exact test and verdict, by the paper's measure and by the controlled one.

The tests were fixed before any run was looked at. C1 to C7 are tested by Page's exact test, paired by seed; C8 by a t
test of the runs' correlations and Page's test of their growth; C9 by a t test of the seeds' exponents where there are
betas enough for one. C10 has no null distribution: a beta* is identified or it is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pessimism.analysis.forms import FEWEST_BETAS
from pessimism.analysis.intervals import Interval, t_interval
from pessimism.analysis.power import Unknown, seeds_needed
from pessimism.analysis.power_law import PowerLaw, fit_power_law
from pessimism.analysis.trends import jonckheere, page_smallest_p, spearman, spearman_exact_p, trend_correlation
from pessimism.analysis.verdicts import (
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

PAPER, CONTROLLED = "paper", "controlled"
MEASURES = (PAPER, CONTROLLED)
DIRECTIONS = {+1: "rises with beta", -1: "falls with beta", 0: "depends on beta"}
FEW_BETAS = f"fewer than {FEWEST_BETAS} betas: three parameters fit anything"


@dataclass(frozen=True)
class Quantity:
    """What a claim is about, as one measure takes it.

    Attributes:
        column: of plots/cells.csv.
        unit: of the values.
    """

    column: str
    unit: str


@dataclass(frozen=True)
class TrendClaim:
    """A claim that a quantity rises or falls with beta.

    Attributes:
        statement: what the paper says.
        predicted: sign of the trend that the paper predicts; 0 where it predicts both.
        paper: the quantity by the paper's measure.
        controlled: the same by the controlled one.
        note: what a reader must know to read the estimate.
    """

    statement: str
    predicted: int
    paper: Quantity
    controlled: Quantity
    note: str = ""

    def quantity(self, measure: str) -> Quantity:
        return self.paper if measure == PAPER else self.controlled


TREND_CLAIMS = {
    "C1": TrendClaim(
        "AUGC rises with beta",
        +1,
        Quantity("augc", "gap × steps"),
        Quantity("controlled_augc_excess", "base sd × steps, above the placebo"),
    ),
    "C2": TrendClaim(
        "The DPO checkpoint's entropy falls with beta",
        -1,
        Quantity("entropy_dpo", "nats per token"),
        Quantity("response_entropy_dpo", "nats per response token"),
        "From π ∝ π₀ exp(r/β) a larger β moves the policy toward the base; the sign depends on the base's entropy.",
    ),
    "C3": TrendClaim(
        "Entropy collapses more online at higher beta",
        +1,
        Quantity("entropy_collapse", "nats per token"),
        Quantity("response_entropy_collapse", "nats per response token"),
        "The published numbers go the other way: +0.0037, +0.0000, -0.0024.",
    ),
    "C4": TrendClaim(
        "Response diversity falls with beta",
        -1,
        Quantity("response_diversity", "cosine distance"),
        Quantity("within_prompt_diversity", "cosine distance"),
        "The published numbers have no trend: 0.121, 0.132, 0.108.",
    ),
    "C5": TrendClaim(
        "The distance of responses from the reward model's data depends on beta",
        0,
        Quantity("ood_cosine_distance", "cosine distance"),
        Quantity("ood_mahalanobis_distance", "standard deviations"),
        "The paper's section 5 and conclusion say that it rises, its abstract and its numbers that it falls.",
    ),
    "C6": TrendClaim(
        "The ensemble disagrees more at higher beta",
        +1,
        Quantity("mean_ensemble_std", "reward"),
        Quantity("controlled_ensemble_std", "base sd"),
    ),
    "C7": TrendClaim(
        "Hacking sets in earlier at higher beta",
        -1,
        Quantity("onset_step", "steps"),
        Quantity("controlled_onset_step", "steps"),
        "A run without onset ranks behind every run with one.",
    ),
    "C8": TrendClaim(
        "Ensemble std correlates with the gap, more so at higher beta",
        +1,
        Quantity("uq_gap_correlation", "Pearson r"),
        Quantity("controlled_uq_gap_correlation", "Pearson r"),
        "Two tests, both of which must hold. The published correlations have no trend: 0.12, -0.21, 0.10.",
    ),
}
STATEMENTS = {name: claim.statement for name, claim in TREND_CLAIMS.items()} | {
    "C9": "The exponent b of the power law is above 1",
    "C10": "A practical beta* is identified",
}
AUGC = {PAPER: "augc", CONTROLLED: "controlled_augc"}
"""The AUGC that is fitted over beta, by measure: never negative, as the power law is."""
ONSETS = {"onset_step", "controlled_onset_step"}
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
        judged = verdicts(tests)
        for name, claim in TREND_CLAIMS.items():
            records[name][measure] = _trend_record(claim, claim.quantity(measure), runs, judged[name], len(tests))
        records["C9"][measure] = _exponent_record(runs, measure, power_law, judged["C9"])
        records["C10"][measure] = _beta_star_record(runs, beta_stars[measure])
    return {"design": design_record(runs, primary_arm), "claims": records}


def design_record(runs: pd.DataFrame, primary_arm: str) -> dict[str, Any]:
    """What the number of betas and seeds can show at all."""
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
    }


def by_seed(runs: pd.DataFrame, column: str) -> np.ndarray:
    """(S, K) one row per seed, betas ascending; missing values stay missing, an onset that never came is infinite."""
    table = runs.pivot(index="seed", columns="beta", values=column).sort_index(axis=1)
    values = table.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isnan(values), np.inf, values) if column in ONSETS else values


def _trend_test(claim: TrendClaim, quantity: Quantity, runs: pd.DataFrame) -> ClaimTest | NoTest:
    values_S_K = by_seed(runs, quantity.column)
    if claim is TREND_CLAIMS["C8"]:
        return uncertainty_gap_test(values_S_K)
    return trend_test(values_S_K, claim.predicted)


def _trend_record(
    claim: TrendClaim, quantity: Quantity, runs: pd.DataFrame, verdict: Verdict, family: int
) -> dict[str, Any]:
    """``estimate`` is the mean over seeds of the value at the highest beta minus that at the lowest."""
    values_S_K = by_seed(runs, quantity.column)
    conjunction = claim is TREND_CLAIMS["C8"]
    differences = values_S_K[:, -1] - values_S_K[:, 0] if _all_finite(values_S_K) and values_S_K.shape[1] > 1 else None
    record = {
        "quantity": quantity.column,
        "unit": quantity.unit,
        "estimate": None if differences is None else float(differences.mean()),
        "interval": None if differences is None else _bounds(t_interval(differences)),
        **_spearman(values_S_K, claim.predicted),
        "trend_correlation": None if np.isnan(values_S_K).any() else _correlation(values_S_K),
        "test": f"t over runs, and {PAGE}" if conjunction else PAGE,
        "jonckheere_p": _jonckheere(values_S_K, claim.predicted),
        "seeds_needed": _seeds_needed(values_S_K, claim.predicted, family),
        "values": _per_run(runs, quantity.column),
    }
    if conjunction and _all_finite(values_S_K):
        record["mean_correlation"] = float(values_S_K.mean())
        record["mean_correlation_interval"] = _bounds(t_interval(values_S_K.ravel()))
    return record | _judgement(verdict)


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
    """Seeds for power 0.8 at Holm's first step; a claim with two directions is planned for the one observed."""
    if values_S_K.shape[1] < 2 or not _all_finite(values_S_K):
        return Unknown.NOT_FINITE.value
    rises = values_S_K[:, -1].mean() >= values_S_K[:, 0].mean() if predicted == 0 else predicted > 0
    alpha = ALPHA / family / (2 if predicted == 0 else 1)
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
    exponents = _exponents(runs, AUGC[measure])
    finite = exponents is not None and _all_finite(np.array(list(exponents.values())))
    judged = _judgement(verdict)
    return {
        "quantity": "b",
        "unit": "",
        "estimate": power_law.get("b") if measure == PAPER else _mean(exponents) if finite else None,
        "interval": _bounds(t_interval(list(exponents.values()))) if exponents is not None and finite else None,
        "test": "t over the seeds' exponents against 1",
        "values": [] if exponents is None else [{"seed": s, "value": _number(b)} for s, b in exponents.items()],
        **judged,
        "reason": FEW_BETAS if exponents is None else judged["reason"],
    }


def _mean(exponents: Mapping[int, float] | None) -> float | None:
    return None if exponents is None else float(np.mean(list(exponents.values())))


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
        "reason": FEW_BETAS if few else star["not_identified"],
    }


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
