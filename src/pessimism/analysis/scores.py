"""From trajectories to tables: one row per measured step, one row per online cell, one number per metric.

Every quantity keeps its seeds apart; means over seeds are taken only for metrics/hacking.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pessimism import layout, records
from pessimism.analysis.goodhart import augc, hacking_onset, hacking_threshold, paper_gap
from pessimism.analysis.trends import pearson, spearman, spearman_exact_p
from pessimism.cells import DpoCell, OnlineCell, dpo_cells, online_cells, percentile_key
from pessimism.errors import DataError, NonFiniteError
from pessimism.params import Params

IDENTITY = ["beta_percentile", "beta", "beta_label", "seed", "arm"]
MEASURED = [
    "proxy_reward",
    "proxy_reward_sd",
    "true_reward",
    "true_reward_sd",
    "ensemble_std",
    "kl_k1",
    "kl_k3",
    "entropy",
    "response_length",
    "finished_fraction",
]
UPDATED = ["kappa", "loss", "penalty_ratio"]
PROBED = [
    "entropy_dpo",
    "entropy_online",
    "entropy_collapse",
    "ood_cosine_distance",
    "ood_cosine_distance_online",
    "response_diversity",
    "response_diversity_online",
]
CHANGES = ["proxy_reward", "true_reward", "ensemble_std", "response_length"]


def beta_label(beta: float, beta_percentile: int) -> str:
    """Name of a beta in legends: its value, rounded, and the percentile that gave it."""
    return f"{beta:.3g} (p{beta_percentile})"


def read_betas(params: Params) -> dict[int, float]:
    """Beta of every percentile of the design.

    Raises:
        DataError: a percentile has no beta in metrics/beta_grid.json.
    """
    grid = records.read_json(layout.BETA_GRID)
    missing = [percentile_key(p) for p in params.beta_percentiles if percentile_key(p) not in grid]
    if missing:
        raise DataError(f"{layout.BETA_GRID}: found no {missing}; run `dvc repro derive_beta_grid`")
    return {percentile: float(grid[percentile_key(percentile)]) for percentile in params.beta_percentiles}


def read_trajectories(params: Params) -> dict[OnlineCell, pd.DataFrame]:
    """Trajectory of every online cell of the design.

    Raises:
        DataError: a cell is missing, starts after step 0, or was measured at other steps than the first cell.
        NonFiniteError: a measured value is not finite.
    """
    trajectories = {cell: _read_trajectory(cell) for cell in online_cells(params)}
    first = online_cells(params)[0]
    expected = _measured_steps(trajectories[first])
    for cell, trajectory in trajectories.items():
        if _measured_steps(trajectory) != expected:
            raise DataError(
                f"{layout.trajectory(cell)}: found measured steps that differ from those of {first.key}; "
                f"expected the same in every cell; run `dvc repro adapt_online`"
            )
    return trajectories


def _read_trajectory(cell: OnlineCell) -> pd.DataFrame:
    path = layout.trajectory(cell)
    trajectory = records.read_table(path, ["step", "prompt_set", *MEASURED, *UPDATED])
    for prompt_set, columns in (("batch", [*MEASURED, *UPDATED]), ("heldout", MEASURED)):
        rows = trajectory[trajectory["prompt_set"] == prompt_set]
        if rows.empty or rows["step"].iloc[0] != 0:
            raise DataError(f"{path}: found no {prompt_set} row of step 0 at the start; expected the untouched policy")
        bad = [column for column in columns if not np.isfinite(rows[column].to_numpy(dtype=float)).all()]
        if bad:
            raise NonFiniteError(f"{path}: found values that are not finite in the {prompt_set} rows of {bad}")
    return trajectory


def _measured_steps(trajectory: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(trajectory["prompt_set"], trajectory["step"], strict=True))


def read_probes(params: Params) -> dict[DpoCell, dict[str, Any]]:
    """Probes of every checkpoint of the design.

    Raises:
        DataError: a checkpoint or one of its probes is missing.
    """
    probes = {cell: records.read_json(layout.probe(cell)) for cell in dpo_cells(params)}
    for cell, found in probes.items():
        missing = sorted(set(PROBED) - found.keys())
        if missing:
            raise DataError(f"{layout.probe(cell)}: found no {missing}; run `dvc repro probe_policy`")
    return probes


def gap_table(trajectories: Mapping[OnlineCell, pd.DataFrame], betas: Mapping[int, float]) -> pd.DataFrame:
    """One row per cell and measured on-policy batch: the Goodhart gap (Eq. 2) and what it was made from."""
    tables = []
    for cell, trajectory in trajectories.items():
        table = _rows(cell, trajectory, betas, "batch", [*MEASURED, *UPDATED])
        gap_T = paper_gap(table["proxy_reward"].to_numpy(), table["true_reward"].to_numpy())
        table.insert(len(IDENTITY) + 1, "goodhart_gap", gap_T)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def heldout_table(trajectories: Mapping[OnlineCell, pd.DataFrame], betas: Mapping[int, float]) -> pd.DataFrame:
    """One row per cell and evaluation on the held-out problems, which no policy is trained on."""
    tables = [_rows(cell, trajectory, betas, "heldout", MEASURED) for cell, trajectory in trajectories.items()]
    return pd.concat(tables, ignore_index=True)


def _rows(
    cell: OnlineCell, trajectory: pd.DataFrame, betas: Mapping[int, float], prompt_set: str, columns: list[str]
) -> pd.DataFrame:
    rows = trajectory.loc[trajectory["prompt_set"] == prompt_set, ["step", *columns]].reset_index(drop=True)
    for position, (name, value) in enumerate(_identity(cell, betas).items()):
        rows.insert(position, name, value)
    return rows


def _identity(cell: OnlineCell, betas: Mapping[int, float]) -> dict[str, Any]:
    beta = betas[cell.beta_percentile]
    values = (cell.beta_percentile, beta, beta_label(beta, cell.beta_percentile), cell.seed, cell.arm)
    return dict(zip(IDENTITY, values, strict=True))


def primary_threshold(gaps: pd.DataFrame, primary_arm: str) -> float | None:
    """Hacking threshold of the primary arm's runs, all betas and seeds together; every arm's onset is against it."""
    return hacking_threshold([gaps.loc[gaps["arm"] == primary_arm, "goodhart_gap"].to_numpy()])


def cell_table(
    gaps: pd.DataFrame,
    heldout: pd.DataFrame,
    probes: Mapping[DpoCell, Mapping[str, Any]],
    primary_arm: str,
) -> pd.DataFrame:
    """One row per online cell with all its scores.

    ``onset_step`` is empty where no measured gap is above the threshold; ``uq_gap_correlation`` where a series is
    constant. Probes stand in the primary arm's rows only. ``heldout_<name>_change`` is the value after the last
    update minus the value of the untouched checkpoint, ``heldout_<name>_start`` the latter.
    """
    threshold = primary_threshold(gaps, primary_arm)
    heldout_runs = _rows_by_cell(heldout)
    rows = []
    for cell, gap_rows in _rows_by_cell(gaps).items():
        probed = probes[cell.dpo] if cell.arm == primary_arm else {}
        rows.append(
            {
                **{name: gap_rows[name].iloc[0] for name in IDENTITY},
                **_gap_scores(gap_rows, threshold),
                **_heldout_scores(heldout_runs[cell]),
                **{name: probed.get(name) for name in PROBED},
            }
        )
    return pd.DataFrame(rows).astype({"onset_step": "Int64"})


def _rows_by_cell(table: pd.DataFrame) -> dict[OnlineCell, pd.DataFrame]:
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby(["beta_percentile", "seed", "arm"], sort=False)
    return {OnlineCell(*key): rows for key, rows in groups}


def _gap_scores(rows: pd.DataFrame, threshold: float | None) -> dict[str, Any]:
    steps_T, gap_T = rows["step"].to_numpy(), rows["goodhart_gap"].to_numpy()
    return {
        "augc": augc(steps_T, gap_T),
        "onset_step": hacking_onset(steps_T, gap_T, threshold),
        "positive_gaps": int((gap_T > 0).sum()),
        "measured_points": len(gap_T),
        "baseline_proxy_reward": rows["proxy_reward"].iloc[0],
        "baseline_true_reward": rows["true_reward"].iloc[0],
        "mean_ensemble_std": rows["ensemble_std"].mean(),
        "uq_gap_correlation": pearson(rows["ensemble_std"], gap_T),
    }


def _heldout_scores(rows: pd.DataFrame) -> dict[str, float]:
    start, end = rows.iloc[0], rows.iloc[-1]
    scores = {}
    for name in CHANGES:
        scores[f"heldout_{name}_start"] = start[name]
        scores[f"heldout_{name}_change"] = end[name] - start[name]
    return scores | {"final_kl_k1": end["kl_k1"], "final_kl_k3": end["kl_k3"]}


def hacking_metrics(cells: pd.DataFrame, threshold: float | None, arms: Sequence[str]) -> dict[str, Any]:
    """Numbers of metrics/hacking.json: means over seeds, or over all runs of an arm.

    A number that the runs do not determine (no positive gap, a constant series, one beta) has no key.
    """
    primary = cells[cells["arm"] == arms[0]]
    means = augc_means(cells, arms[0])
    metrics: dict[str, Any] = {
        "augc": {arm: _augc_by_percentile(cells, arm) for arm in arms},
        "heldout_proxy_change": _means(cells, "heldout_proxy_reward_change", arms),
        "heldout_true_change": _means(cells, "heldout_true_reward_change", arms),
        "final_kl_k1": float(primary["final_kl_k1"].mean()),
        "onset_fraction": float(primary["onset_step"].notna().mean()),
    }
    undetermined = {
        "hacking_threshold": threshold,
        "spearman_beta_augc": spearman(means["beta"], means["augc"]),
        "spearman_p_one_sided": spearman_exact_p(means["beta"], means["augc"]),
        "uq_gap_correlation": mean_or_none(primary["uq_gap_correlation"]),
    }
    return metrics | {name: value for name, value in undetermined.items() if value is not None}


def augc_means(cells: pd.DataFrame, arm: str) -> pd.DataFrame:
    """One row per beta percentile with its beta and label and the AUGC of ``arm``, mean over seeds."""
    keys = ["beta_percentile", "beta", "beta_label"]
    return cells[cells["arm"] == arm].groupby(keys, sort=False)["augc"].mean().reset_index()


def _augc_by_percentile(cells: pd.DataFrame, arm: str) -> dict[str, float]:
    means = augc_means(cells, arm)
    return {percentile_key(p): float(v) for p, v in zip(means["beta_percentile"], means["augc"], strict=True)}


def _means(cells: pd.DataFrame, column: str, arms: Sequence[str]) -> dict[str, float]:
    return {arm: float(cells.loc[cells["arm"] == arm, column].mean()) for arm in arms}


def mean_or_none(values: pd.Series) -> float | None:
    """Mean of the values that are there; None where none is."""
    present = values.dropna()
    return float(present.mean()) if len(present) else None


def read_cells(params: Params) -> pd.DataFrame:
    """plots/cells.csv, checked against the design.

    Raises:
        DataError: the table lacks a cell of the design or holds one that is not in it.
    """
    cells = records.read_table(layout.CELL_SCORES, [*IDENTITY, "augc", "onset_step"])
    keys = cells[["beta_percentile", "seed", "arm"]].itertuples(index=False)
    found = [OnlineCell(int(percentile), int(seed), str(arm)) for percentile, seed, arm in keys]
    expected = online_cells(params)
    if found != expected:
        missing = [cell.key for cell in expected if cell not in found]
        extra = [cell.key for cell in found if cell not in expected]
        raise DataError(
            f"{layout.CELL_SCORES}: found {len(found)} cells, missing {missing}, not in the design {extra}; "
            f"expected the {len(expected)} cells of params.yaml in its order; run `dvc repro score_hacking`"
        )
    return cells.astype({"onset_step": "Int64"})
