"""Tables of the pipeline's runs: one row per measured step, one row per online cell, one number per metric.

Every quantity keeps its seeds apart; means over seeds are taken only for metrics/hacking.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, OnlineCell, strength_in
from pessimism.experiment.params import Params
from pessimism.measures.trends import spearman
from pessimism.scoring.best_of_n import BestOfN, best_of_n_rows
from pessimism.scoring.checkpoint_columns import CHECKPOINT_COLUMNS
from pessimism.scoring.columns import CELL, CELL_COLUMNS, EVENTS, IDENTITY, LABEL, over_beta
from pessimism.scoring.heldout_columns import further_verdict_columns
from pessimism.scoring.measured import REWARDS, Curves, MeasuredRun
from pessimism.scoring.measures import PAPER
from pessimism.scoring.probing import Checkpoint
from pessimism.scoring.runs import BATCH, HELDOUT, Measurements
from pessimism.scoring.scorer import kl_of_all, score, thresholds, with_excesses
from pessimism.scoring.step_columns import EVALUATED_COLUMNS


def beta_label(beta: float, label: str) -> str:
    """Name of a beta in legends: its value, rounded, and the label that gave it where this does not spell it itself.

    The label of runs without a beta stands alone.
    """
    if math.isnan(beta):
        return label
    return f"{beta:.3g}" if strength_in(label) else f"{beta:.3g} ({label})"


def measured(measurements: Measurements, cell: OnlineCell) -> MeasuredRun:
    """One run as both measures take it.

    The paper's rewards are those of the training batches or of the held-out problems, its baseline the first of these
    or the untouched checkpoint on the held-out problems, as the protocol says.
    """
    protocol, run = measurements.params.protocol, measurements.runs[cell]
    heldout = run.curves(HELDOUT)
    paper = heldout if protocol.gap_rewards == HELDOUT else run.curves(BATCH)
    start = heldout if protocol.gap_baseline == HELDOUT else paper
    baseline = {reward: float(start.mean_T[reward][0]) for reward in REWARDS}
    return MeasuredRun(paper, heldout, baseline, measurements.base[cell.seed].unit)


def gap_table(measurements: Measurements) -> pd.DataFrame:
    """One row per cell and measured step: the Goodhart gap (Eq. 2) and what it was made from."""
    tables = []
    for cell in measurements.runs:
        run = measured(measurements, cell)
        table = _steps(cell, measurements.betas, run.paper, goodhart_gap=run.paper_gap_T)
        tables.append(table.assign(**{f"baseline_{reward}": value for reward, value in run.baseline.items()}))
    return pd.concat(tables, ignore_index=True)


def heldout_table(measurements: Measurements) -> pd.DataFrame:
    """One row per cell and evaluation on the held-out problems, no policy's training data; with the controlled gap."""
    tables = []
    for cell in measurements.runs:
        run = measured(measurements, cell)
        evaluated = {column.name: column.compute(run.controlled) for column in EVALUATED_COLUMNS if column.compute}
        evaluated |= {f"{reward}_change": change_T for reward, change_T in run.change_T.items()}
        tables.append(_steps(cell, measurements.betas, run.controlled, controlled_gap=run.gap_T, **evaluated))
    return pd.concat(tables, ignore_index=True)


def _steps(cell: OnlineCell, betas: Mapping[str, float], curves: Curves, **values_T: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({**_identity(cell, betas), "step": curves.steps_T, **values_T, **curves.mean_T})


def _identity(cell: OnlineCell, betas: Mapping[str, float]) -> dict[str, Any]:
    beta = betas[cell.label]
    values = (cell.label, beta, beta_label(beta, cell.label), cell.seed, cell.arm)
    return dict(zip(IDENTITY, values, strict=True))


def primary_thresholds(measurements: Measurements) -> dict[str, float | None]:
    """Hacking thresholds of every arm's onset: of the paper's gaps of the primary arm together, and the protocol's."""
    return thresholds(_primary(measurements), measurements.params.protocol.controlled_threshold)


def primary_kl(measurements: Measurements) -> float | None:
    """Where every arm's areas over KL end: as far as all runs of the primary arm go, nats per response."""
    return kl_of_all(_primary(measurements))


def arm_kls(measurements: Measurements) -> dict[str, float | None]:
    """Where the runs of each arm that learns are compared: as far as all of them go, nats per response."""
    params = measurements.params
    learning = [arm for arm in params.arms if not params.arm(arm).is_placebo]
    return {arm: kl_of_all(_runs_of(measurements, arm)) for arm in learning}


def _primary(measurements: Measurements) -> list[MeasuredRun]:
    return _runs_of(measurements, measurements.params.primary_arm)


def _runs_of(measurements: Measurements, arm: str) -> list[MeasuredRun]:
    return [measured(measurements, cell) for cell in measurements.runs if cell.arm == arm]


def cell_table(measurements: Measurements) -> pd.DataFrame:
    """One row per online cell with all its scores; docs/metrics.md explains every column.

    A score that a run does not determine is empty. Scores of the checkpoint stand in the primary arm's rows only.
    """
    threshold, last_kl, kls = primary_thresholds(measurements), primary_kl(measurements), arm_kls(measurements)
    columns = [*CELL_COLUMNS, *further_verdict_columns(next(iter(measurements.runs.values())).verdicts)]
    rows = [
        {
            **_identity(cell, measurements.betas),
            **score(replace(measured(measurements, cell), arm_kl=kls.get(cell.arm)), threshold, last_kl, columns),
            **_checkpoint_scores(measurements, cell),
        }
        for cell in measurements.runs
    ]
    table = with_excesses(
        pd.DataFrame(rows),
        checkpoints=[cell.dpo for cell in measurements.runs],
        is_placebo=[cell.arm == measurements.params.placebo for cell in measurements.runs],
    )
    return table.astype(EVENTS)


def _checkpoint_scores(measurements: Measurements, cell: OnlineCell) -> dict[str, float | None]:
    if cell.arm != measurements.params.primary_arm:
        return dict.fromkeys(column.name for column in CHECKPOINT_COLUMNS)
    found = checkpoint(measurements, cell)
    return {column.name: column.compute(found) for column in CHECKPOINT_COLUMNS if column.compute}


def checkpoint(measurements: Measurements, cell: OnlineCell) -> Checkpoint:
    """The checkpoint that an online run of the primary arm began with."""
    return Checkpoint(
        record=measurements.probes[cell.dpo],
        protocol=measurements.params.protocol,
        samples=measurements.runs[cell].samples,
        base=measurements.base[cell.seed].samples,
        reward_accuracy=measurements.validation[cell.dpo]["reward_accuracy"],
        best_of_n=selection(measurements, cell.dpo),
    )


def selection(measurements: Measurements, cell: DpoCell) -> BestOfN:
    """Best-of-n selection from a checkpoint."""
    return BestOfN(measurements.draws[cell], measurements.base[cell.seed].unit)


def best_of_n_table(measurements: Measurements) -> pd.DataFrame:
    """One row per checkpoint, selector and n: both rewards of the best of n draws."""
    tables = []
    for cell, beta in ((cell, measurements.betas[cell.label]) for cell in measurements.draws):
        identity = {LABEL: cell.label, "beta": beta, "beta_label": beta_label(beta, cell.label), "seed": cell.seed}
        tables.append(best_of_n_rows(identity, selection(measurements, cell)))
    return pd.concat(tables, ignore_index=True)


def hacking_metrics(cells: pd.DataFrame, measurements: Measurements) -> dict[str, Any]:
    """Numbers of metrics/hacking.json about the primary arm: means over seeds per beta, or over all runs.

    A number that the runs do not determine (no positive gap, a constant series, one beta, no placebo) has no key.
    """
    primary = cells[cells["arm"] == measurements.params.primary_arm]
    metrics: dict[str, Any] = {
        name: _by_label(primary, column)
        for name, column in (
            ("augc", "augc"),
            ("controlled_signed_augc_excess", "controlled_signed_augc_excess"),
            ("heldout_proxy_excess", "heldout_proxy_reward_change_excess"),
            ("heldout_true_excess", "heldout_true_reward_change_excess"),
        )
        if primary[column].notna().all()
    }
    metrics["final_kl_k1"] = float(primary["final_kl_k1"].mean())
    metrics["onset_fraction"] = float(primary["onset_step"].notna().mean())
    metrics["degenerate_baselines"] = int(primary["baseline_degenerate"].sum())
    metrics["true_sd_smoothed"] = int(any(base.unit.true_sd_smoothed for base in measurements.base.values()))
    undetermined = {
        "hacking_threshold": primary_thresholds(measurements)[PAPER],
        "common_kl": primary_kl(measurements),
        "spearman_beta_augc": _spearman(primary, "augc"),
        "spearman_beta_controlled_augc": _spearman(primary, "controlled_signed_augc_excess"),
        "uq_gap_correlation": mean_or_none(primary["uq_gap_correlation"]),
    }
    return metrics | {name: value for name, value in undetermined.items() if value is not None}


def _by_label(cells: pd.DataFrame, column: str) -> dict[str, float]:
    means = cells.groupby(LABEL, sort=False)[column].mean()
    return {label: float(value) for label, value in zip(means.index.tolist(), means, strict=True)}


def _spearman(cells: pd.DataFrame, column: str) -> float | None:
    means = cells.groupby("beta", sort=False)[column].mean()
    return None if means.isna().any() else spearman(means.index.to_numpy(), means.to_numpy())


def augc_means(cells: pd.DataFrame, arm: str) -> pd.DataFrame:
    """One row per label that has a beta: this and the AUGC of ``arm``, mean over seeds."""
    keys = [LABEL, "beta", "beta_label"]
    return over_beta(cells, arm).groupby(keys, sort=False)["augc"].mean().reset_index()


def mean_or_none(values: pd.Series) -> float | None:
    """Mean of the values that are there; None where none is."""
    present = values.dropna()
    return float(present.mean()) if len(present) else None


def read_cells(params: Params) -> pd.DataFrame:
    """plots/cells.csv, checked against the design.

    Raises:
        DataError: the table lacks a cell of the design or holds one that is not in it.
    """
    cells = records.read_table(layout.CELL_SCORES, [*IDENTITY, "augc", "onset_step", "controlled_augc"])
    keys = cells[CELL].itertuples(index=False)
    found = [OnlineCell(str(label), int(seed), str(arm)) for label, seed, arm in keys]
    expected = params.online_cells()
    if found != expected:
        missing = [cell.key for cell in expected if cell not in found]
        extra = [cell.key for cell in found if cell not in expected]
        raise DataError(
            f"{layout.CELL_SCORES}: found {len(found)} cells, missing {missing}, not in the design {extra}; "
            f"expected the {len(expected)} cells of params.yaml in its order; run `dvc repro score_hacking`"
        )
    return cells.astype(EVENTS)
