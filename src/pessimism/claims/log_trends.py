"""Trends over betas of runs that a log holds, by the tests of the paper's claims.

Every number of ``scoring.columns`` that says more or less hacking is tested alone. Those that a claim is about are
corrected by Holm over all claims of their measure. Claims that rewards cannot test count with p = 1, so that no
corrected p is below that of the pipeline, which tests them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.statements import CLAIMS
from pessimism.claims.trend_kinds import OverBeta
from pessimism.claims.verdicts import ClaimTest, NoTest, trend_test, verdicts
from pessimism.measures.trends import LARGEST_PAGE, jonckheere, spearman
from pessimism.scoring.column import Column
from pessimism.scoring.columns import ALL, by_seed
from pessimism.scoring.log_scores import LogDesign, LogScores
from pessimism.scoring.measures import MEASURES, PAPER

PAIRED, UNPAIRED, OVER_MEANS = "exact Page, paired by seed", "Jonckheere-Terpstra", "exact Page, over the means"


def log_trends(found: LogScores, design: LogDesign) -> tuple[list[dict[str, Any]], list[str]]:
    """One record per group of learning runs, measure and number, and notes on groups that have no trend."""
    if design.beta is None or not found.comparable:
        return [], []
    rows, notes = [], []
    for others, runs in _groups(found, design).items():
        name = ", ".join(f"{column} {value}" for column, value in others)
        if runs["beta"].nunique() < 2:
            notes.append(f"No trend{f' in {name}' if name else ''}: one value of {design.beta}.")
            continue
        for measure in MEASURES if found.unit else (PAPER,):
            rows += [{"identity": dict(others), "measure": measure, **row} for row in _family(measure, runs)]
    return rows, notes


def _groups(found: LogScores, design: LogDesign) -> Mapping[tuple[Any, ...], pd.DataFrame]:
    """Scores with beta and seed of the learning runs that differ in nothing else, by what they have in common."""
    learning = [row for row, run in enumerate(found.runs) if not design.is_placebo(run)]
    table = found.table.iloc[learning].assign(
        beta=[design.beta_of(found.runs[row]) for row in learning],
        seed=[found.runs[row].identity[design.seed] if design.seed else row for row in learning],
    )
    others: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(learning):
        others.setdefault(design.beside(found.runs[row], design.beta, design.seed), []).append(place)
    return {key: table.iloc[places] for key, places in others.items()}


def _family(measure: str, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Trend of each number of one measure that every run has, corrected where a claim is about it."""
    columns = [column for column in ALL.values() if column.measure == measure and column.hacking]
    tests = {column.name: trend(runs, column) for column in columns if _every_run_has(runs, column)}
    claims = {claim.kind.quantity(measure).name: claim.name for claim in CLAIMS if isinstance(claim.kind, OverBeta)}
    family = _untested(runs["beta"].nunique())
    family |= {claims[name]: test for name, (_, test) in tests.items() if name in claims and test}
    judged = verdicts(family)
    rows = []
    for name, (method, test) in tests.items():
        verdict = judged[claims[name]] if test and name in claims else None
        rows.append(
            {
                "number": name,
                "claim": claims.get(name),
                "family": len(family),
                **_over_betas(runs, ALL[name]),
                "test": method,
                "p": test and test.p,
                "p_adjusted": verdict and verdict.p_adjusted,
                "p_opposite": test and test.p_opposite,
                "p_opposite_adjusted": verdict and verdict.p_opposite_adjusted,
            }
        )
    return rows


def _untested(betas: int) -> dict[str, ClaimTest]:
    """The claims that have a p-value in the pipeline, each as if nothing spoke for it or against it."""
    tested = [claim for claim in CLAIMS if claim.kind.counts_in_family(betas)]
    return {claim.name: ClaimTest(1.0, None if claim.kind.two_sided else 1.0) for claim in tested}


def _every_run_has(runs: pd.DataFrame, column: Column) -> bool:
    return column.name in runs and (column.event or bool(runs[column.name].notna().all()))


def trend(runs: pd.DataFrame, column: Column) -> tuple[str, ClaimTest | None]:
    """Test of more hacking at higher beta, as the design allows: its name and p-values, None where it allows none.

    Page's test where every seed has every beta, as of the claims; else Jonckheere-Terpstra where every beta has several
    runs; else Page's test of the betas' means, which on one row is the exact test of Spearman's correlation.

    Args:
        runs: one row per run, with its ``beta`` and ``seed``.
        column: what is tested.
    """
    groups, seeds = _by_beta(runs, column), runs["seed"].nunique()
    paired = seeds > 1 and len(runs) == len(groups) * seeds and not runs[["beta", "seed"]].duplicated().any()
    if paired and len(groups) <= LARGEST_PAGE:
        return PAIRED, _known(trend_test(by_seed(runs, column.name), column.hacking))
    if min(map(len, groups.values())) > 1:
        return UNPAIRED, _unpaired_test(list(groups.values()), column.hacking)
    return OVER_MEANS, _known(trend_test([_levels(groups)], column.hacking)) if len(groups) <= LARGEST_PAGE else None


def _known(test: ClaimTest | NoTest) -> ClaimTest | None:
    return test if isinstance(test, ClaimTest) else None


def _levels(groups: Mapping[float, np.ndarray]) -> list[float]:
    """Mean at each beta, or the median where a run never had the event."""
    finite = all(np.isfinite(values).all() for values in groups.values())
    return [float(values.mean() if finite else np.median(values)) for values in groups.values()]


def _by_beta(runs: pd.DataFrame, column: Column) -> dict[float, np.ndarray]:
    """Values at each beta, ascending; an event that never came is infinite."""
    never = np.inf if column.event else np.nan
    return {
        beta: runs.loc[runs["beta"] == beta, column.name].astype("Float64").to_numpy(dtype=float, na_value=never)
        for beta in sorted(runs["beta"].unique().tolist())
    }


def _unpaired_test(groups: list[np.ndarray], predicted: int) -> ClaimTest | None:
    rises, falls = jonckheere(groups, "greater"), jonckheere(groups, "less")
    if rises is None or falls is None:
        return None
    return ClaimTest(rises, falls) if predicted > 0 else ClaimTest(falls, rises)


def _over_betas(runs: pd.DataFrame, column: Column) -> dict[str, Any]:
    groups = _by_beta(runs, column)
    betas, levels = list(groups), _levels(groups)
    return {"betas": betas, "levels": levels, "runs": len(runs), "spearman": spearman(betas, levels)}
