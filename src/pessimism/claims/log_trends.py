"""Trends over betas of runs that a log holds, by the tests of the paper's claims.

A log does not say whether the betas of a seed share their random draws. Its runs are tested as unpaired: where they do
share them, that finds less and errs no more often.
Every number of ``scoring.columns`` that says more or less hacking is tested alone. Those that a claim is about are
corrected by Holm over all claims of their measure. Claims that rewards cannot test count with p = 1, so that no
corrected p is below that of the pipeline, which tests them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.kinds import Quantity
from pessimism.claims.statements import CLAIMS, primary_by
from pessimism.claims.trend_kinds import UNPAIRED, OverBeta
from pessimism.claims.verdicts import ClaimTest, NoTest, Verdict, both, verdicts
from pessimism.measures.contrasts import groups_ps
from pessimism.measures.trends import spearman
from pessimism.scoring.column import Column
from pessimism.scoring.columns import ALL
from pessimism.scoring.log_scores import LogDesign, LogScores
from pessimism.scoring.measures import MEASURES, PAPER

PERMUTED = "permutation of the linear contrast between betas"


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
    quantities = {claim.name: claim.kind.quantity(measure) for claim in CLAIMS if isinstance(claim.kind, OverBeta)}
    claims = {quantity.name: claim for claim, quantity in quantities.items()}
    guards = {quantity.name: quantity.guard.name for quantity in quantities.values() if quantity.guard}
    judged = verdicts(_claim_tests(measure, tests, runs), primary_by(measure))
    rows = []
    for name, (method, test) in tests.items():
        verdict = judged[claims[name]] if name in claims else None
        rows.append(
            {
                "number": name,
                "claim": claims.get(name),
                "family": sum(claim != primary_by(measure) for claim in judged),
                **_over_betas(runs, ALL[name]),
                "test": method,
                "p": test.p,
                "p_opposite": test.p_opposite,
                **_judged(guards.get(name), verdict),
            }
        )
    return rows


def _judged(guard: str | None, verdict: Verdict | None) -> dict[str, Any]:
    """What a claim is judged by: p-values with its guard, the larger ones where it has one, and these corrected."""
    return {
        "guard": guard,
        "p_guarded": verdict and verdict.p,
        "p_adjusted": verdict and verdict.p_adjusted,
        "p_opposite_guarded": verdict and verdict.p_opposite,
        "p_opposite_adjusted": verdict and verdict.p_opposite_adjusted,
    }


def _claim_tests(measure: str, tests: Mapping[str, tuple[str, ClaimTest]], runs: pd.DataFrame) -> dict[str, ClaimTest]:
    """Test of every claim of a measure that has one in the pipeline.

    A claim that the log cannot test counts as if nothing spoke for it or against it: its quantity, or that quantity's
    guard, takes more than rewards, or a placebo.
    """
    tested = [claim for claim in CLAIMS if claim.kind.counts_in_family(runs["beta"].nunique())]
    family = {claim.name: ClaimTest(1.0, None if claim.kind.two_sided else 1.0) for claim in tested}
    guarded = {claim.name: _with_guard(claim.kind.quantity(measure), tests, runs) for claim in tested}
    return family | {name: test for name, test in guarded.items() if isinstance(test, ClaimTest)}


def _with_guard(
    quantity: Quantity, tests: Mapping[str, tuple[str, ClaimTest]], runs: pd.DataFrame
) -> ClaimTest | NoTest | None:
    """Test of a claim's quantity and of its guard, which may be of the other measure; None where the log lacks one."""
    if quantity.name not in tests:
        return None
    test = tests[quantity.name][1]
    if quantity.guard is None:
        return test
    guard = ALL[quantity.guard.name]
    return both(test, trend(runs, guard)[1]) if _every_run_has(runs, guard) else None


def _every_run_has(runs: pd.DataFrame, column: Column) -> bool:
    return column.name in runs and (column.event or bool(runs[column.name].notna().all()))


def trend(runs: pd.DataFrame, column: Column) -> tuple[str, ClaimTest]:
    """Test of more hacking at higher beta, as the log allows: its name and p-values.

    The unpaired test of the claims where every beta has several runs; else its permutation of runs alone, which one
    run per beta tells no spread apart from.

    Args:
        runs: one row per run, with its ``beta``.
        column: what is tested.
    """
    groups = _by_beta(runs, column)
    rises, falls = (float(p[0]) for p in groups_ps([values[None] for values in groups.values()]))
    method = UNPAIRED if min(map(len, groups.values())) > 1 else PERMUTED
    return method, ClaimTest(rises, falls) if column.hacking > 0 else ClaimTest(falls, rises)


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


def _over_betas(runs: pd.DataFrame, column: Column) -> dict[str, Any]:
    groups = _by_beta(runs, column)
    betas, levels = list(groups), _levels(groups)
    return {"betas": betas, "levels": levels, "runs": len(runs), "spearman": spearman(betas, levels)}
