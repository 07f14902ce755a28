"""The paper's ten claims, each as a number from our runs and every value behind it.

An estimate is the paper's own statistic where it has one: the rank correlation of beta with the quantity, taken over
betas. ``difference`` says how large the trend is, which a rank correlation does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pessimism.analysis.power_law import PowerLaw, fit_power_law
from pessimism.analysis.scores import mean_or_none
from pessimism.analysis.trends import spearman


@dataclass(frozen=True)
class TrendClaim:
    """A claim that a quantity rises or falls with beta.

    Attributes:
        statement: what the paper says.
        column: the quantity, a column of plots/cells.csv.
        unit: of the quantity.
        predicted: sign of the trend that the paper predicts; 0 where it predicts both.
        note: what a reader must know to read the estimate.
    """

    statement: str
    column: str
    unit: str
    predicted: int
    note: str = ""


TREND_CLAIMS = {
    "C1": TrendClaim("AUGC rises with beta", "augc", "gap × steps", +1),
    "C2": TrendClaim("The DPO checkpoint's entropy falls with beta", "entropy_dpo", "nats per prompt token", -1),
    "C3": TrendClaim(
        "Entropy collapses more online at higher beta",
        "entropy_collapse",
        "nats per prompt token",
        +1,
        "The published numbers go the other way: +0.0037, +0.0000, -0.0024.",
    ),
    "C4": TrendClaim(
        "Response diversity falls with beta",
        "response_diversity",
        "cosine distance",
        -1,
        "The published numbers have no trend: 0.121, 0.132, 0.108.",
    ),
    "C5": TrendClaim(
        "The distance of responses from the reward model's data depends on beta",
        "ood_cosine_distance",
        "cosine distance",
        0,
        "The paper's section 5 and conclusion say that it rises, its abstract and its numbers that it falls.",
    ),
    "C6": TrendClaim("The ensemble disagrees more at higher beta", "mean_ensemble_std", "reward", +1),
    "C7": TrendClaim(
        "Hacking sets in earlier at higher beta",
        "onset_step",
        "steps",
        -1,
        "Median over seeds; a run without onset ranks behind every run with one.",
    ),
    "C8": TrendClaim(
        "Ensemble std correlates with the gap, more so at higher beta",
        "uq_gap_correlation",
        "Pearson r",
        +1,
        "The published correlations have no trend: 0.12, -0.21, 0.10.",
    ),
}


def check_claims(
    cells: pd.DataFrame, hacking: Mapping[str, Any], power_law: Mapping[str, Any], primary_arm: str
) -> dict[str, dict[str, Any]]:
    """Estimate of each claim C1-C10 with its values per run (C1-C8) or per seed (C9, C10).

    Args:
        cells: plots/cells.csv.
        hacking: metrics/hacking.json.
        power_law: metrics/power_law.json.
        primary_arm: the arm that the claims are about.

    Returns:
        JSON-ready records; null where the runs do not determine a number.
    """
    runs = cells[cells["arm"] == primary_arm]
    claims = {name: _trend_record(claim, runs) for name, claim in TREND_CLAIMS.items()}
    claims["C7"]["hacking_threshold"] = hacking.get("hacking_threshold")
    claims["C8"]["mean_correlation"] = hacking.get("uq_gap_correlation")
    claims["C9"] = {
        "statement": "The exponent b of the power law is above 1",
        "quantity": "b",
        "unit": "",
        "estimator": "least squares on the means over seeds (Eq. 14)",
        "estimate": power_law.get("b"),
        "values": _per_seed(runs, lambda law: law.b),
        "note": "Three parameters on three betas leave nothing to judge the fit by.",
    }
    claims["C10"] = {
        "statement": "A practical beta* exists",
        "quantity": "beta_star",
        "unit": "beta",
        "estimator": "first beta of the grid whose AUGC is above 1.5 times the grid's minimum (Eq. 15)",
        "estimate": power_law.get("beta_star_over_grid"),
        "estimate_over_observed": power_law.get("beta_star_over_observed"),
        "values": _per_seed(runs, lambda law: law.beta_star_over_grid()),
        "note": "The second reading of Eq. 15 takes the smallest observed beta for the grid's minimum.",
    }
    return claims


def _trend_record(claim: TrendClaim, runs: pd.DataFrame) -> dict[str, Any]:
    by_beta = [
        (group["beta"].iloc[0], _typical(claim, group)) for _, group in runs.groupby("beta_percentile", sort=False)
    ]
    found = sorted((beta, value) for beta, value in by_beta if value is not None)
    betas, values = [beta for beta, _ in found], [value for _, value in found]
    return {
        "statement": claim.statement,
        "quantity": claim.column,
        "unit": claim.unit,
        "predicted": claim.predicted,
        "estimator": "Spearman correlation of beta with the quantity, over betas",
        "estimate": spearman(betas, values),
        "difference": _difference(values),
        "values": _per_run(runs, claim.column),
        "note": claim.note,
    }


def _typical(claim: TrendClaim, group: pd.DataFrame) -> float | None:
    """Value of one beta: the mean over seeds, or for the onset the median with "never" as infinity."""
    if claim.column == "onset_step":
        return float(np.median(group["onset_step"].astype("Float64").fillna(math.inf).to_numpy(dtype=float)))
    return mean_or_none(group[claim.column])


def _difference(values: list[float]) -> float | None:
    """Value at the highest beta minus value at the lowest, in the quantity's unit."""
    if len(values) < 2 or not (math.isfinite(values[0]) and math.isfinite(values[-1])):
        return None
    return values[-1] - values[0]


def _per_run(runs: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    rows = runs[["beta_percentile", "beta", "seed", column]].itertuples(index=False)
    return [
        {"beta_percentile": int(percentile), "beta": beta, "seed": int(seed), "value": _number(value)}
        for percentile, beta, seed, value in rows
    ]


def _per_seed(runs: pd.DataFrame, of: Callable[[PowerLaw], float | None]) -> list[dict[str, Any]]:
    values = []
    for seed in runs["seed"].unique():
        of_seed = runs[runs["seed"] == seed]
        law = fit_power_law(of_seed["beta"], of_seed["augc"])
        values.append({"seed": int(seed), "value": of(law) if isinstance(law, PowerLaw) else None})
    return values


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
