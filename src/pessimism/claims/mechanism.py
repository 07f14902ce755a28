"""The paper's mechanism, link by link: does conservatism compress entropy, diversity and the ensemble's agreement?

A link is a rank correlation between two quantities of the runs. Where seeds are not paired it is taken over all runs;
where they are, within each seed over its betas, and averaged over seeds. Its null interval holds 95 % of what the same
values give when the runs, or those of each seed, are matched at random.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pessimism.experiment import rng
from pessimism.experiment.cells import DpoCell, OnlineCell
from pessimism.experiment.params import Params
from pessimism.measures.intervals import auroc, resample_interval, t_interval
from pessimism.measures.trends import spearman
from pessimism.scoring.columns import by_seed, over_beta, size
from pessimism.scoring.measures import CONTROLLED, MEASURES, PAPER
from pessimism.scoring.runs import Run

CHAIN = {
    PAPER: ("beta", "entropy_dpo", "response_diversity", "mean_ensemble_std", "augc"),
    CONTROLLED: (
        "beta",
        "response_entropy_dpo",
        "within_prompt_diversity",
        "controlled_ensemble_std",
        "controlled_signed_augc_excess",
    ),
}
COVARIATES = {PAPER: ("beta", "kl_to_base", "entropy_dpo"), CONTROLLED: ("beta", "kl_to_base", "response_entropy_dpo")}
MOST_ENUMERATED = 50_000
RESAMPLES = 9_999


def mechanism_record(cells: pd.DataFrame, disagreement: pd.DataFrame, params: Params) -> dict[str, Any]:
    """Content of metrics/mechanism.json, about the primary arm.

    Args:
        cells: plots/cells.csv.
        disagreement: plots/disagreement.csv.
    """
    runs = over_beta(cells, params.primary_arm)
    seeds, betas = size(cells, params.primary_arm)
    paired = params.protocol.paired_seeds
    record: dict[str, Any] = {
        "seeds": seeds,
        "betas": betas,
        "paired_seeds": paired,
        "smallest_p": _smallest_p(seeds, betas, paired),
    }
    for measure in MEASURES:
        chain, outcome = CHAIN[measure], CHAIN[measure][-1]
        record[measure] = {
            "chain": [link(runs, x, y, paired, params.root_seed) for x, y in itertools.pairwise(chain)],
            "augc_by_covariate": [link(runs, x, outcome, paired, params.root_seed) for x in COVARIATES[measure]],
            "conservatism": [link(runs, "beta", x, paired, params.root_seed) for x in COVARIATES[measure][1:]],
        }
    return record | {"calibration": _calibration(disagreement, params.primary_arm)}


def link(runs: pd.DataFrame, x: str, y: str, paired: bool, root_seed: int) -> dict[str, Any]:
    """Correlation of two columns over the runs, within seeds where paired, with its null interval and two-sided p.

    Where matchings are drawn, every link has a stream of its own, and neither the names of the seeds nor the units of
    the values change what it draws.

    Returns:
        ``from``, ``to``, ``correlation`` in [-1, 1], ``null_interval``, ``p``; null where a run has no value, a
        series is constant, or there are no runs.
    """
    x_S_K, y_S_K = by_seed(runs, x), by_seed(runs, y)
    pairs = list(zip(x_S_K, y_S_K, strict=True)) if paired or not x_S_K.size else [(x_S_K.ravel(), y_S_K.ravel())]
    empty = {"from": x, "to": y, "correlation": None, "null_interval": None, "p": None}
    if not pairs or any(np.isnan(row).any() for pair in pairs for row in pair):
        return empty
    correlations = [spearman(x_K, y_K) for x_K, y_K in pairs]
    if any(value is None for value in correlations):
        return empty
    observed = float(np.mean([value for value in correlations if value is not None]))
    null = _null(pairs, rng.generator(root_seed, "mechanism", x, y))
    interval = resample_interval(null, np.full(len(null), 1 / len(null)))
    return {
        "from": x,
        "to": y,
        "correlation": observed,
        "null_interval": None if interval is None else [interval.low, interval.high],
        "p": float(np.mean(np.abs(null) >= abs(observed) - 1e-12)),
    }


def _null(pairs: list[tuple[np.ndarray, np.ndarray]], generator: np.random.Generator) -> np.ndarray:
    """Mean correlation over groups of every matching within them, or of many random ones and the observed one."""
    seeds, betas = len(pairs), len(pairs[0][0])
    ranked = sorted((_in_order(*map(_centred_ranks, pair)) for pair in pairs), key=lambda pair: pair.tolist())
    if math.factorial(betas) ** seeds <= MOST_ENUMERATED:
        orders = np.array(list(itertools.permutations(range(betas))))
        by_order = [y_K[orders] @ x_K for x_K, y_K in ranked]
        return np.array([np.mean(combination) for combination in itertools.product(*by_order)])
    drawn = np.zeros(RESAMPLES)
    for x_K, y_K in ranked:
        drawn += generator.permuted(np.tile(y_K, (RESAMPLES, 1)), axis=1) @ x_K / seeds
    return np.append(drawn, np.mean([x_K @ y_K for x_K, y_K in ranked]))


def _in_order(x_K: np.ndarray, y_K: np.ndarray) -> np.ndarray:
    """(2, K) both series, their points in the order of their values."""
    return np.stack([x_K, y_K])[:, np.lexsort((y_K, x_K))]


def _centred_ranks(values_K: np.ndarray) -> np.ndarray:
    """Ranks around their mean, of length 1, so that a product is a correlation."""
    ranks = pd.Series(values_K).rank().to_numpy()
    ranks = ranks - ranks.mean()
    return ranks / np.sqrt(ranks @ ranks)


def _smallest_p(seeds: int, betas: int, paired: bool) -> float:
    """Smallest two-sided p of a link: all in one order, or all in its reverse; one of the random matchings."""
    orders = math.factorial(betas) ** seeds if paired else math.factorial(seeds * betas)
    return min(1.0, 2 / orders) if orders <= MOST_ENUMERATED else 1 / (RESAMPLES + 1)


def disagreement_table(runs: Mapping[OnlineCell, Run], betas: Mapping[str, float]) -> pd.DataFrame:
    """Rows of plots/disagreement.csv: does the ensemble's disagreement tell wrong answers from right ones?

    One row per cell and evaluation: ``auroc`` of the ensemble's std for a wrong answer on the held-out problems, its
    95 % interval over problems, and the share of wrong answers. Where all answers are right or all wrong there is none.
    """
    rows = []
    for cell, run in runs.items():
        for step, samples in run.samples.groupby("step"):
            found = auroc(samples["ensemble_std"], samples["true_reward"] == 0)
            rows.append(
                {
                    "label": cell.label,
                    "beta": betas[cell.label],
                    "seed": cell.seed,
                    "arm": cell.arm,
                    "step": step,
                    "wrong_fraction": float((samples["true_reward"] == 0).mean()),
                    "auroc": None if found is None else found.value,
                    "auroc_low": None if found is None else found.interval.low,
                    "auroc_high": None if found is None else found.interval.high,
                }
            )
    return pd.DataFrame(rows)


def member_table(probes: Mapping[DpoCell, Mapping[str, Any]], betas: Mapping[str, float]) -> pd.DataFrame:
    """Rows of plots/member_probes.csv: distance and diversity of responses as every reward member sees them.

    One row per checkpoint, policy (``dpo`` before its online run, ``online`` after it), member and layer.
    """
    return pd.DataFrame(
        [
            {
                "label": cell.label,
                "beta": betas[cell.label],
                "seed": cell.seed,
                "policy": policy,
                "member": int(member),
                "layer": layer,
                **found,
            }
            for cell, record in probes.items()
            for policy in ("dpo", "online")
            for member, layers in record[policy]["members"].items()
            for layer, found in layers.items()
        ]
    )


def _calibration(disagreement: pd.DataFrame, primary_arm: str) -> list[dict[str, Any]]:
    """AUROC by step: mean over the runs of the primary arm with a t interval over runs."""
    rows = []
    primary = disagreement[disagreement["arm"] == primary_arm]
    for step in primary["step"].unique().tolist():
        values = primary.loc[primary["step"] == step, "auroc"].dropna().to_numpy()
        interval = t_interval(values) if len(values) else None
        rows.append(
            {
                "step": step,
                "runs": len(values),
                "auroc": float(values.mean()) if len(values) else None,
                "interval": None if interval is None else [interval.low, interval.high],
            }
        )
    return rows
