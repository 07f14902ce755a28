"""From runs to tables: one row per measured step, one row per online cell, one number per metric.

Two measures stand side by side. The paper's is Eq. 2 and 3 on the rewards that the protocol chooses. The controlled one
is always the same: change of each reward since step 0 on the held-out problems, in units of the base policy's standard
deviation there. Every quantity keeps its seeds apart; means over seeds are taken only for metrics/hacking.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from pessimism.errors import DataError
from pessimism.experiment import layout, records, rng
from pessimism.experiment.cells import OnlineCell, percentile_key
from pessimism.experiment.params import Params
from pessimism.measures import goodhart
from pessimism.measures.trends import pearson, spearman
from pessimism.scoring import probing
from pessimism.scoring.runs import BATCH, HELDOUT, MEASURED, UPDATED, Evidence, Run

IDENTITY = ["beta_percentile", "beta", "beta_label", "seed", "arm"]
CHANGES = ["proxy_reward", "true_reward", "true_reward_flexible", "ensemble_std", "response_length"]
CHECKPOINT = ["dpo_win_rate", "dpo_reward_accuracy", *probing.COLUMNS]
PLACEBO = "placebo"
EXCESSES = [
    "augc",
    "controlled_augc",
    "controlled_signed_augc",
    "heldout_proxy_reward_change",
    "heldout_true_reward_change",
]


def beta_label(beta: float, beta_percentile: int) -> str:
    """Name of a beta in legends: its value, rounded, and the percentile that gave it."""
    return f"{beta:.3g} (p{beta_percentile})"


def gap_table(evidence: Evidence) -> pd.DataFrame:
    """One row per cell and measured step: the Goodhart gap (Eq. 2) and what it was made from.

    The rewards are those of the training batches or of the held-out problems, the baseline the first of these or the
    untouched checkpoint on the held-out problems, as the protocol says.
    """
    protocol = evidence.params.protocol
    prompt_set, columns = {"batch": (BATCH, [*MEASURED, *UPDATED]), "heldout": (HELDOUT, MEASURED)}[
        protocol.gap_rewards
    ]
    tables = []
    for cell, run in evidence.runs.items():
        table = _rows(cell, run, evidence.betas, prompt_set, columns)
        first = run.rows(HELDOUT).iloc[0] if protocol.gap_baseline == "heldout" else table.iloc[0]
        proxy, true = float(first["proxy_reward"]), float(first["true_reward"])
        gap_T = goodhart.paper_gap(table["proxy_reward"].to_numpy(), table["true_reward"].to_numpy(), proxy, true)
        table.insert(len(IDENTITY) + 1, "goodhart_gap", gap_T)
        tables.append(table.assign(baseline_proxy_reward=proxy, baseline_true_reward=true))
    return pd.concat(tables, ignore_index=True)


def heldout_table(evidence: Evidence) -> pd.DataFrame:
    """One row per cell and evaluation on the held-out problems, no policy's training data; with the controlled gap."""
    tables = []
    for cell, run in evidence.runs.items():
        table = _rows(cell, run, evidence.betas, HELDOUT, MEASURED)
        gap_T = goodhart.controlled_gap(
            table["proxy_reward"].to_numpy(),
            table["true_reward"].to_numpy(),
            evidence.base.proxy_sd,
            evidence.base.true_sd,
        )
        table.insert(len(IDENTITY) + 1, "controlled_gap", gap_T)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _rows(cell: OnlineCell, run: Run, betas: Mapping[int, float], prompt_set: str, columns: list[str]) -> pd.DataFrame:
    rows = run.rows(prompt_set)[["step", *columns]]
    for position, (name, value) in enumerate(_identity(cell, betas).items()):
        rows.insert(position, name, value)
    return rows


def _identity(cell: OnlineCell, betas: Mapping[int, float]) -> dict[str, Any]:
    beta = betas[cell.beta_percentile]
    values = (cell.beta_percentile, beta, beta_label(beta, cell.beta_percentile), cell.seed, cell.arm)
    return dict(zip(IDENTITY, values, strict=True))


def primary_threshold(table: pd.DataFrame, column: str, primary_arm: str) -> float | None:
    """Hacking threshold of the primary arm's runs, all betas and seeds together; every arm's onset is against it."""
    return goodhart.hacking_threshold([table.loc[table["arm"] == primary_arm, column].to_numpy()])


def cell_table(evidence: Evidence, gaps: pd.DataFrame, heldout: pd.DataFrame) -> pd.DataFrame:
    """One row per online cell with all its scores; docs/metrics.md explains every column.

    A score that a run does not determine is empty. Scores of the checkpoint stand in the primary arm's rows only.
    """
    arm = evidence.params.primary_arm
    threshold = primary_threshold(gaps, "goodhart_gap", arm)
    controlled_threshold = primary_threshold(heldout, "controlled_gap", arm)
    heldout_rows = _rows_by_cell(heldout)
    rows = []
    for cell, gap_rows in _rows_by_cell(gaps).items():
        rows.append(
            {
                **{name: gap_rows[name].iloc[0] for name in IDENTITY},
                **_paper_scores(gap_rows, threshold),
                **_controlled_scores(evidence, cell, heldout_rows[cell], controlled_threshold),
                **_heldout_changes(heldout_rows[cell]),
                **(_checkpoint_scores(evidence, cell) if cell.arm == arm else dict.fromkeys(CHECKPOINT)),
            }
        )
    integers = dict.fromkeys(("onset_step", "controlled_onset_step"), "Int64")
    return _with_excesses(pd.DataFrame(rows).astype(integers))


def _rows_by_cell(table: pd.DataFrame) -> dict[OnlineCell, pd.DataFrame]:
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby(["beta_percentile", "seed", "arm"], sort=False)
    return {OnlineCell(*key): rows for key, rows in groups}


def _paper_scores(rows: pd.DataFrame, threshold: float | None) -> dict[str, Any]:
    steps_T, gap_T = rows["step"].to_numpy(), rows["goodhart_gap"].to_numpy()
    proxy, true = rows["baseline_proxy_reward"].iloc[0], rows["baseline_true_reward"].iloc[0]
    return {
        "augc": goodhart.augc(steps_T, gap_T),
        "onset_step": goodhart.hacking_onset(steps_T, gap_T, threshold),
        "positive_gaps": int((gap_T > 0).sum()),
        "measured_points": len(gap_T),
        "baseline_proxy_reward": proxy,
        "baseline_true_reward": true,
        "baseline_degenerate": int(goodhart.baseline_degenerate(proxy, true)),
        "mean_ensemble_std": rows["ensemble_std"].mean(),
        "uq_gap_correlation": pearson(rows["ensemble_std"], gap_T),
    }


def _controlled_scores(
    evidence: Evidence, cell: OnlineCell, rows: pd.DataFrame, threshold: float | None
) -> dict[str, Any]:
    run, base = evidence.runs[cell], evidence.base
    steps_T, gap_T, kl_T = (rows[name].to_numpy() for name in ("step", "controlled_gap", "kl_k3"))
    proxy_T_N, true_T_N = run.heldout("proxy_reward"), run.heldout("true_reward")
    proxy_T = (rows["proxy_reward"] - rows["proxy_reward"].iloc[0]).to_numpy() / base.proxy_sd
    true_T = (rows["true_reward"] - rows["true_reward"].iloc[0]).to_numpy() / base.true_sd
    generator = rng.generator(evidence.params.root_seed, "onset-interval", cell.key)
    onset_range = goodhart.onset_interval(
        steps_T, proxy_T_N, true_T_N, base.proxy_sd, base.true_sd, threshold, generator
    )
    return {
        "controlled_augc": goodhart.augc(steps_T, gap_T),
        "controlled_signed_augc": goodhart.signed_augc(steps_T, gap_T),
        "controlled_augc_over_kl": goodhart.augc_over_kl(kl_T, gap_T),
        "controlled_signed_augc_over_kl": goodhart.signed_augc_over_kl(kl_T, gap_T),
        "controlled_final_gap": gap_T[-1],
        "controlled_onset_step": goodhart.hacking_onset(steps_T, gap_T, threshold),
        "controlled_onset_low": None if onset_range is None else onset_range[0],
        "controlled_onset_high": None if onset_range is None else onset_range[1],
        "overoptimization": goodhart.overoptimization(steps_T, proxy_T, true_T),
        "overoptimization_over_kl": goodhart.overoptimization(kl_T, proxy_T, true_T),
        "true_regret": goodhart.true_regret(true_T_N),
        "controlled_ensemble_std": rows["ensemble_std"].mean() / base.proxy_sd,
        "controlled_uq_gap_correlation": pearson(rows["ensemble_std"], gap_T),
    }


def _heldout_changes(rows: pd.DataFrame) -> dict[str, float]:
    start, end = rows.iloc[0], rows.iloc[-1]
    scores = {}
    for name in CHANGES:
        scores[f"heldout_{name}_start"] = start[name]
        scores[f"heldout_{name}_change"] = end[name] - start[name]
    return scores | {"final_kl_k1": end["kl_k1"], "final_kl_k3": end["kl_k3"]}


def _checkpoint_scores(evidence: Evidence, cell: OnlineCell) -> dict[str, float]:
    return {
        "dpo_win_rate": _win_rate(evidence.runs[cell].samples, evidence.base.samples),
        "dpo_reward_accuracy": evidence.validation[cell.dpo]["reward_accuracy"],
        **probing.probe_columns(evidence.probes[cell.dpo], evidence.params.protocol),
    }


def _win_rate(samples: pd.DataFrame, base: pd.DataFrame) -> float:
    """Share of held-out problems on which the untouched checkpoint has the higher proxy reward; ties count half.

    Raises:
        DataError: the two were measured on different problems.
    """
    start = samples[samples["step"] == 0].set_index("task_id")["proxy_reward"]
    opponent = base.set_index("task_id")["proxy_reward"]
    if set(start.index) != set(opponent.index):
        raise DataError(
            f"{layout.BASE_SAMPLES}: found other problems than in the online runs; expected the same held-out "
            "ones: run `dvc repro measure_base`"
        )
    margins = start - opponent.reindex(start.index)
    return float((margins > 0).mean() + 0.5 * (margins == 0).mean())


def _with_excesses(cells: pd.DataFrame) -> pd.DataFrame:
    """Add ``<column>_excess``: the value minus that of the placebo of the same checkpoint; empty without a placebo."""
    placebo = cells[cells["arm"] == PLACEBO].set_index(["beta_percentile", "seed"])
    checkpoints = pd.MultiIndex.from_frame(cells[["beta_percentile", "seed"]])
    excesses = {
        f"{name}_excess": cells[name].to_numpy(float) - placebo[name].reindex(checkpoints).to_numpy(float)
        for name in EXCESSES
    }
    return cells.assign(**excesses)


def hacking_metrics(cells: pd.DataFrame, evidence: Evidence, thresholds: Mapping[str, float | None]) -> dict[str, Any]:
    """Numbers of metrics/hacking.json about the primary arm: means over seeds per beta, or over all runs.

    A number that the runs do not determine (no positive gap, a constant series, one beta, no placebo) has no key.
    """
    primary = cells[cells["arm"] == evidence.params.primary_arm]
    metrics: dict[str, Any] = {
        name: _by_percentile(primary, column)
        for name, column in (
            ("augc", "augc"),
            ("controlled_augc_excess", "controlled_augc_excess"),
            ("heldout_proxy_excess", "heldout_proxy_reward_change_excess"),
            ("heldout_true_excess", "heldout_true_reward_change_excess"),
        )
        if primary[column].notna().all()
    }
    metrics["final_kl_k1"] = float(primary["final_kl_k1"].mean())
    metrics["onset_fraction"] = float(primary["onset_step"].notna().mean())
    metrics["degenerate_baselines"] = int(primary["baseline_degenerate"].sum())
    metrics["true_sd_smoothed"] = int(evidence.base.true_sd_smoothed)
    undetermined = {
        **thresholds,
        "spearman_beta_augc": _spearman(primary, "augc"),
        "spearman_beta_controlled_augc": _spearman(primary, "controlled_augc_excess"),
        "uq_gap_correlation": mean_or_none(primary["uq_gap_correlation"]),
    }
    return metrics | {name: value for name, value in undetermined.items() if value is not None}


def _by_percentile(cells: pd.DataFrame, column: str) -> dict[str, float]:
    means = cells.groupby("beta_percentile", sort=False)[column].mean()
    return {percentile_key(p): float(value) for p, value in zip(means.index.tolist(), means, strict=True)}


def _spearman(cells: pd.DataFrame, column: str) -> float | None:
    means = cells.groupby("beta", sort=False)[column].mean()
    return None if means.isna().any() else spearman(means.index.to_numpy(), means.to_numpy())


def augc_means(cells: pd.DataFrame, arm: str) -> pd.DataFrame:
    """One row per beta percentile with its beta and label and the AUGC of ``arm``, mean over seeds."""
    keys = ["beta_percentile", "beta", "beta_label"]
    return cells[cells["arm"] == arm].groupby(keys, sort=False)["augc"].mean().reset_index()


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
    keys = cells[["beta_percentile", "seed", "arm"]].itertuples(index=False)
    found = [OnlineCell(int(percentile), int(seed), str(arm)) for percentile, seed, arm in keys]
    expected = params.online_cells()
    if found != expected:
        missing = [cell.key for cell in expected if cell not in found]
        extra = [cell.key for cell in found if cell not in expected]
        raise DataError(
            f"{layout.CELL_SCORES}: found {len(found)} cells, missing {missing}, not in the design {extra}; "
            f"expected the {len(expected)} cells of params.yaml in its order; run `dvc repro score_hacking`"
        )
    return cells.astype(dict.fromkeys(("onset_step", "controlled_onset_step"), "Int64"))
