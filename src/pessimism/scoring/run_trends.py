"""Trends of scored runs over betas: which test the design allows, and Holm's correction over one measure's numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pessimism.errors import DataError
from pessimism.measures.trends import holm, jonckheere, page_trend, spearman, spearman_exact_p
from pessimism.scoring.measures import CONTROLLED, PAPER

TRENDS = {
    PAPER: ("augc", "augc_excess"),
    CONTROLLED: ("final_gap", "augc", "augc_excess", "signed_augc", "augc_over_kl", "true_regret"),
}
"""Numbers whose trend is tested; higher = more hacking in each."""


def trends_over_beta(
    scores: Sequence[Mapping[str, Any]], beta: str, seed: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """One record per group of runs, measure and number, and notes on groups that have no trend.

    Args:
        scores: records of ``run_scores.score_runs``, without placebo runs.
        beta: group column of the betas.
        seed: group column of the seeds, which pairs runs of different beta.

    Raises:
        DataError: a beta is not a finite number.
    """
    families: dict[tuple[Any, ...], list[tuple[float, Any, Mapping[str, Any]]]] = {}
    for score in scores:
        identity = score["identity"]
        others = tuple((name, value) for name, value in identity.items() if name not in (beta, seed))
        member = (_beta(identity[beta], beta), identity[seed] if seed else None, score)
        families.setdefault(others, []).append(member)
    rows, notes = [], []
    for others, members in families.items():
        name = ", ".join(f"{column} {value}" for column, value in others)
        if len({level for level, _, _ in members}) < 2:
            notes.append(f"No trend{f' in {name}' if name else ''}: one value of {beta}.")
            continue
        for measure, metrics in TRENDS.items():
            rows += _family(dict(others), measure, metrics, members)
    return rows, notes


def _beta(value: Any, column: str) -> float:
    try:
        beta = float(value)
    except ValueError as error:
        raise DataError(f"found {value!r} in column {column!r}; expected numbers in --beta") from error
    if not math.isfinite(beta):
        raise DataError(f"found {beta} in column {column!r}; expected finite numbers in --beta")
    return beta


def _family(
    identity: dict[str, Any],
    measure: str,
    metrics: Sequence[str],
    members: Sequence[tuple[float, Any, Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Trend of each metric of one measure, with Holm's correction over them."""
    rows = []
    for metric in metrics:
        found = {(beta, seed): (score[measure] or {}).get(metric) for beta, seed, score in members}
        values = {key: value for key, value in found.items() if value is not None}
        if len(values) == len(found):
            rows.append({"identity": identity, "measure": measure, "metric": metric, **trend(values)})
    for direction in ("p_rises", "p_falls"):
        ps = [row[direction] for row in rows]
        adjusted = holm(ps).tolist() if ps and None not in ps else [None] * len(ps)
        for row, p in zip(rows, adjusted, strict=True):
            row[f"{direction}_holm"] = p
    return rows


def trend(values: Mapping[tuple[float, Any], float]) -> dict[str, Any]:
    """Rank correlation of beta with the mean over seeds, and the test that the design allows.

    Page's test where every seed has every beta, else Jonckheere-Terpstra where every beta has several runs, else the
    exact Spearman test over betas; p is one-sided in either direction, None where none of them applies.

    Args:
        values: one number per beta and seed.
    """
    betas = sorted({beta for beta, _ in values})
    seeds = list(dict.fromkeys(seed for _, seed in values))
    groups = [[value for (beta, _), value in values.items() if beta == level] for level in betas]
    means = [float(np.mean(group)) for group in groups]
    if len(seeds) > 1 and len(values) == len(betas) * len(seeds):
        test = "Page"
        table_S_K = [[values[beta, seed] for beta in betas] for seed in seeds]
        ps: list[float | None] = [page_trend(table_S_K, "greater"), page_trend(table_S_K, "less")]
    elif min(map(len, groups)) > 1:
        test, ps = "Jonckheere-Terpstra", [jonckheere(groups, "greater"), jonckheere(groups, "less")]
    else:
        test = "Spearman, exact"
        ps = [spearman_exact_p(betas, means, "greater"), spearman_exact_p(betas, means, "less")]
    return {
        "betas": betas,
        "means": means,
        "runs": len(values),
        "spearman": spearman(betas, means),
        "test": test,
        "p_rises": ps[0],
        "p_falls": ps[1],
    }
