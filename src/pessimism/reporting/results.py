"""Everything that the report shows, as the stages before it left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.reporting.curves import Arms
from pessimism.reporting.samples import Sample, hacked_shares, read_samples
from pessimism.scoring import scores
from pessimism.scoring.best_of_n import GAINS


@dataclass(frozen=True)
class Results:
    """One attribute per file: the tables of plots/ and the records of metrics/, data/sources.json, data/online/."""

    params: Params
    cells: pd.DataFrame
    gaps: pd.DataFrame
    heldout: pd.DataFrame
    best_of_n: pd.DataFrame
    disagreement: pd.DataFrame
    log_ratios: pd.DataFrame
    power_law_curve: pd.DataFrame
    beta_grid: Mapping[str, Any]
    ensemble: Mapping[str, Any]
    base: Mapping[str, Any]
    hacking: Mapping[str, Any]
    power_law: Mapping[str, Any]
    beta_star: Mapping[str, Any]
    mechanism: Mapping[str, Any]
    variance: Mapping[str, Any]
    equal_kl: Mapping[str, Any]
    claims: Mapping[str, Any]
    sources: Mapping[str, Any]
    samples: Sequence[Sample]
    hacked_shares: pd.DataFrame

    @property
    def arm(self) -> str:
        return self.params.primary_arm

    @property
    def arms(self) -> Arms:
        return Arms(self.params.arms, self.params.placebo)

    @property
    def betas(self) -> list[float]:
        """The betas of the runs, ascending; empty where the offline objective has no strength."""
        return sorted(self.cells["beta"].dropna().unique().tolist())

    @property
    def primary(self) -> pd.DataFrame:
        """The rows of ``cells`` that claims and checkpoints are about."""
        return self.cells[self.cells["arm"] == self.arm]


def read_results(params: Params) -> Results:
    """Read what the earlier stages wrote.

    Raises:
        DataError: a file, a column or a cell of the design is missing.
    """
    runs = ["label", "beta", "seed", "arm", "step"]
    rewards = ["proxy_reward", "true_reward", "proxy_reward_change", "true_reward_change"]
    evaluated = [*rewards, "proxy_reward_sd", "controlled_gap", "kl_k3", "proxy_true_correlation"]
    base = records.read_json(layout.BASE_METRICS)
    return Results(
        params=params,
        cells=scores.read_cells(params),
        gaps=records.read_table(layout.GOODHART_GAP, [*runs, "goodhart_gap"]),
        best_of_n=records.read_table(
            layout.BEST_OF_N, ["label", "beta", "seed", "selector", "n", "kl", *GAINS.values()]
        ),
        heldout=records.read_table(layout.HELDOUT_REWARDS, [*runs, *evaluated]),
        disagreement=records.read_table(layout.DISAGREEMENT, [*runs, "auroc"]),
        log_ratios=records.read_table(layout.LOG_RATIOS, ["precision", "quantile", "delta"]),
        power_law_curve=records.read_table(layout.POWER_LAW_CURVE, ["kind", "beta", "augc"]),
        beta_grid=records.read_json(layout.BETA_GRID),
        ensemble=records.read_json(layout.ENSEMBLE),
        base=base,
        hacking=records.read_json(layout.HACKING),
        power_law=records.read_json(layout.POWER_LAW),
        beta_star=records.read_json(layout.BETA_STAR),
        mechanism=records.read_json(layout.MECHANISM),
        variance=records.read_json(layout.VARIANCE),
        equal_kl=records.read_json(layout.EQUAL_KL),
        claims=records.read_json(layout.CLAIMS),
        sources=records.read_json(layout.DATA_RECORD),
        samples=read_samples(params, base),
        hacked_shares=hacked_shares(params),
    )
