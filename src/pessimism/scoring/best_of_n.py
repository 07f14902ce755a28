"""Best-of-n selection from an offline checkpoint: its draws, read and checked, and both rewards over n."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell
from pessimism.measures import goodhart
from pessimism.measures.best_of_n import best_of_n, best_of_n_kl, sizes
from pessimism.measures.intervals import Interval, t_interval
from pessimism.scoring.measured import REWARDS, Unit

AGGREGATE, TRUTH = "ensemble", "truth"
MEMBER = "member-"
"""Selectors: what chooses by the proxy reward, by the true one, and one reward model, whose columns begin so."""
GAINS = {"proxy_reward": "proxy_gain", "true_reward": "true_gain"}


@dataclass(frozen=True)
class BestOfN:
    """What an optimiser gets that chooses among a checkpoint's draws.

    Attributes:
        draws: data/best_of_n/<cell>.parquet.
        unit: of the controlled measure.
    """

    draws: pd.DataFrame
    unit: Unit

    @cached_property
    def curves(self) -> dict[str, pd.DataFrame]:
        """By selector, one row per ``n``: ``kl``, both rewards of the chosen response, and their gains in base sd."""
        values = {name: self._by_problem(name) for name in _rewards(self.draws)}
        selectors = {AGGREGATE: values["proxy_reward"]}
        selectors |= {name: scores for name, scores in values.items() if name.startswith(MEMBER)}
        selectors[TRUTH] = values["true_reward"]
        return {name: self._curve(selector_P_N) for name, selector_P_N in selectors.items()}

    def _by_problem(self, column: str) -> np.ndarray:
        return self.draws.pivot(index="task_id", columns="draw", values=column).to_numpy(dtype=float)

    def _chosen(self, selector_P_N: np.ndarray) -> np.ndarray:
        """(R, T, P) both rewards of the response that is chosen for each problem, over n."""
        rewards_R_P_N = np.stack([self._by_problem(reward) for reward in REWARDS])
        return np.stack([best_of_n(selector_P_N, rewards_R_P_N, n) for n in sizes(selector_P_N.shape[1])], axis=1)

    def _curve(self, selector_P_N: np.ndarray) -> pd.DataFrame:
        n_T = sizes(selector_P_N.shape[1])
        found_R_T = self._chosen(selector_P_N).mean(axis=-1)
        curve = pd.DataFrame({"n": n_T, "kl": best_of_n_kl(n_T), **dict(zip(REWARDS, found_R_T, strict=True))})
        for reward, sd in zip(REWARDS, (self.unit.proxy_sd, self.unit.true_sd), strict=True):
            curve[GAINS[reward]] = goodhart.standardized_change(curve[reward].to_numpy(), sd)
        return curve

    @property
    def gap(self) -> float:
        """Area between the gain of the proxy and that of the true reward over the KL, chosen by the ensemble.

        Base sd times nats; higher = the optimiser gets more proxy than truth from the checkpoint alone.
        """
        curve = self.curves[AGGREGATE]
        return goodhart.signed_augc(curve["kl"].to_numpy(), (curve["proxy_gain"] - curve["true_gain"]).to_numpy())

    @cached_property
    def gap_interval(self) -> Interval | None:
        """95 % t interval of the gap, which is a mean over problems; None where there is one problem.

        It holds what other problems and other draws would change, and nothing of what another training would.
        """
        proxy_T_P, true_T_P = self._chosen(self._by_problem("proxy_reward"))
        proxy_gain_T_P = goodhart.standardized_change(proxy_T_P, self.unit.proxy_sd)
        gap_T_P = proxy_gain_T_P - goodhart.standardized_change(true_T_P, self.unit.true_sd)
        return t_interval(np.trapezoid(gap_T_P, self.curves[AGGREGATE]["kl"], axis=0))

    @property
    def paper_augc(self) -> float:
        """Eq. 2 and 3 on the same curve: baseline n = 1, the KL in the place of training steps; gap times nats."""
        curve = self.curves[AGGREGATE]
        gap_T = goodhart.paper_gap(curve["proxy_reward"].to_numpy(), curve["true_reward"].to_numpy())
        return goodhart.augc(curve["kl"].to_numpy(), gap_T)

    def largest(self, column: str) -> float:
        """A column of the curve at the largest n, chosen by the ensemble."""
        return float(self.curves[AGGREGATE][column].iloc[-1])


def read_draws(cell: DpoCell) -> pd.DataFrame:
    """What select_best_of_n left of a checkpoint.

    Raises:
        DataError: a column is missing, or a problem has another number of draws than the first one.
        NonFiniteError: a reward is not finite.
    """
    path = layout.best_of_n_draws(cell)
    draws = records.read_table(path, ["task_id", "draw", *REWARDS])
    expected = list(range(int(draws["draw"].max()) + 1))
    found = draws.groupby("task_id")["draw"].apply(sorted)
    wrong = [str(task) for task, numbers in found.items() if numbers != expected]
    if wrong:
        raise DataError(
            f"{path}: found other draws of the problems {wrong[:3]} than 0 to {expected[-1]}; expected each once; run "
            "`dvc repro select_best_of_n`"
        )
    bad = [name for name in _rewards(draws) if not np.isfinite(draws[name].to_numpy(dtype=float)).all()]
    if bad:
        raise NonFiniteError(f"{path}: found values that are not finite in {bad}; run `dvc repro select_best_of_n`")
    return draws


def _rewards(draws: pd.DataFrame) -> list[str]:
    """Columns that hold a reward: both, and each reward model's."""
    return [name for name in map(str, draws.columns) if name in REWARDS or name.startswith(MEMBER)]


def best_of_n_rows(identity: Mapping[str, object], found: BestOfN) -> pd.DataFrame:
    """Every curve of one checkpoint with its ``selector``, one row per n."""
    curves = [curve.assign(selector=selector) for selector, curve in found.curves.items()]
    rows = pd.concat(curves, ignore_index=True)
    return pd.DataFrame({**identity, **{name: rows[name] for name in ("selector", *rows.columns.drop("selector"))}})
