"""The scorer of every run, the pipeline's or a foreign log's: curves, unit and thresholds in, a value per column out.

Two measures stand side by side. The paper's is Eq. 2 and 3. The controlled one is the change of each reward since the
first step in standard deviations: the base policy's, or those of the runs' own start, as the caller says.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pessimism.measures.goodhart import common_kl, hacking_threshold
from pessimism.scoring.column import Column
from pessimism.scoring.heldout_columns import EXCESS_COLUMNS
from pessimism.scoring.measured import MeasuredRun
from pessimism.scoring.measures import CONTROLLED, PAPER


def thresholds(runs: Sequence[MeasuredRun], controlled: float) -> dict[str, float | None]:
    """Hacking threshold by measure; None without a positive gap or without a unit.

    Args:
        runs: their gaps together give the paper's.
        controlled: the controlled measure's, in base sd: no run that is judged by it has a part in it.
    """
    known = all(run.unit for run in runs)
    return {
        PAPER: hacking_threshold([run.paper_gap_T for run in runs]),
        CONTROLLED: controlled if known else None,
    }


def kl_of_all(runs: Sequence[MeasuredRun]) -> float | None:
    """The largest KL that every one of ``runs`` reaches, nats per response; None where one has no KL."""
    kls = [run.controlled.mean_T["kl_k3"] for run in runs if run.controlled.has("kl_k3")]
    return common_kl(kls) if kls and len(kls) == len(runs) else None


def score(
    run: MeasuredRun, threshold: Mapping[str, float | None], last_kl: float | None, columns: Iterable[Column]
) -> dict[str, Any]:
    """Value of each column; None where the run does not determine one.

    Args:
        run: both rewards over the steps, and the unit of the controlled measure.
        threshold: gap above which a run hacks, by measure.
        last_kl: where areas over KL end, :func:`kl_of_all`.
        columns: of ``columns.RUN_COLUMNS``.
    """
    found = replace(run, threshold=threshold, common_kl=last_kl)
    return {
        column.name: column.compute(found) if column.compute and _determined(column, run) else None
        for column in columns
    }


def _determined(column: Column, run: MeasuredRun) -> bool:
    if column.measure == CONTROLLED and run.unit is None:
        return False
    curves = run.paper if column.measure == PAPER else run.controlled
    return all(curves.has(need) for need in column.needs)


def with_excesses(scores: pd.DataFrame, checkpoints: Sequence[Hashable], is_placebo: Sequence[bool]) -> pd.DataFrame:
    """Add the excess columns: the value minus that of the placebo of the same checkpoint.

    Args:
        scores: one row per run.
        checkpoints: what a run shares with its placebo.
        is_placebo: which runs never learn.

    Returns:
        ``scores`` with more columns, empty without a placebo; a run that has none of its own takes the mean of all.
    """
    placebos: dict[Hashable, list[int]] = {}
    for row in np.flatnonzero(is_placebo).tolist():
        placebos.setdefault(checkpoints[row], []).append(row)
    every = [row for rows in placebos.values() for row in rows]
    excesses = {}
    for column in EXCESS_COLUMNS:
        if column.excess_of in scores:
            values = scores[column.excess_of].to_numpy(float)
            level = [_mean(values[placebos.get(checkpoint, every)]) for checkpoint in checkpoints]
            excesses[column.name] = values - np.array(level)
    return scores.assign(**excesses)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan
