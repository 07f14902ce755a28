"""Claims about one quantity of every run over beta: that it has a trend, or that it is above 0 and grows."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.kinds import Evidence, Kind, Quantity, all_finite, as_bounds, as_number
from pessimism.claims.verdicts import (
    ALPHA,
    DIRECTIONS,
    EITHER,
    RISES,
    ClaimTest,
    ClaimTests,
    NoTest,
    correlation_and_growth_test,
    correlation_and_growth_tests,
    directed_p,
    trend_test,
    trend_tests,
)
from pessimism.errors import DataError
from pessimism.measures.intervals import log_t_interval, t_interval
from pessimism.measures.power import Unknown, seeds_needed
from pessimism.measures.trends import jonckheere, spearman, spearman_exact_p, trend_correlation
from pessimism.scoring.columns import by_seed
from pessimism.scoring.measures import PAPER

PAGE = "exact Page, paired by seed"
TWO_TESTS = "not planned: two tests must hold"


@dataclass(frozen=True)
class OverBeta(Kind):
    """A claim about a table of one quantity, seeds by betas.

    Attributes:
        predicted: the trend that the paper states: RISES, FALLS or EITHER.
        paper: the quantity by the paper's measure.
        controlled: the same by the controlled one.
    """

    predicted: int
    paper: Quantity
    controlled: Quantity

    @property
    def direction(self) -> str:
        return DIRECTIONS[self.predicted]

    @property
    def two_sided(self) -> bool:
        return self.predicted == EITHER

    def quantity(self, measure: str) -> Quantity:
        return self.paper if measure == PAPER else self.controlled

    def counts_in_family(self, betas: int) -> bool:
        return betas > 1

    @abstractmethod
    def test_table(self, values_S_K: np.ndarray) -> ClaimTest | NoTest:
        """The test on a table: (S, K) one row per seed, betas ascending."""

    @abstractmethod
    def test_tables(self, values_E_S_K: np.ndarray) -> ClaimTests:
        """:meth:`test_table` of many experiments at once, (E, S, K), none of which has equal values within a seed."""

    def test(self, evidence: Evidence) -> ClaimTest | NoTest:
        return self.test_table(self.table(evidence))

    def table(self, evidence: Evidence) -> np.ndarray:
        """(S, K) values, one row per seed, betas ascending.

        Raises:
            DataError: there is no such column.
        """
        column = self.quantity(evidence.measure).name
        if column not in evidence.runs:
            raise DataError(
                f"found no column {column!r} in plots/cells.csv; expected every quantity of claims/statements.py there"
            )
        return by_seed(evidence.runs, column)

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        """``estimate`` is the mean over seeds of the value at the highest beta minus that at the lowest."""
        values_S_K = self.table(evidence)
        return {
            **_difference(values_S_K),
            **_spearman(values_S_K, self.predicted),
            "trend_correlation": _correlation(values_S_K),
            "jonckheere_p": _jonckheere(values_S_K, self.predicted),
            "values": _per_run(evidence.runs, self.quantity(evidence.measure).name),
        }


@dataclass(frozen=True)
class Trend(OverBeta):
    """The quantity rises or falls with beta.

    Attributes:
        ratio: whether the numbers hold the ratio of the values at the highest and the lowest beta too: for a skewed
            quantity.
    """

    ratio: bool = False

    @property
    def method(self) -> str:
        return PAGE

    def test_table(self, values_S_K: np.ndarray) -> ClaimTest | NoTest:
        return trend_test(values_S_K, self.predicted)

    def test_tables(self, values_E_S_K: np.ndarray) -> ClaimTests:
        return trend_tests(values_E_S_K, self.predicted)

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        values_S_K = self.table(evidence)
        found = super().numbers(evidence, family)
        found["seeds_needed"] = _seeds_needed(values_S_K, self.predicted, family)
        return found | _ratio(values_S_K) if self.ratio else found


@dataclass(frozen=True)
class CorrelationAndGrowth(OverBeta):
    """The quantity of a run, such as a correlation within it, is above 0 and rises with beta: both must hold."""

    predicted: int = field(default=RISES, init=False)

    @property
    def method(self) -> str:
        return f"t over seeds, and {PAGE}"

    def test_table(self, values_S_K: np.ndarray) -> ClaimTest | NoTest:
        return correlation_and_growth_test(values_S_K)

    def test_tables(self, values_E_S_K: np.ndarray) -> ClaimTests:
        return correlation_and_growth_tests(values_E_S_K)

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        """``mean`` is that over seeds and betas, where every run has a value; its t interval is over seeds."""
        values_S_K = self.table(evidence)
        found = super().numbers(evidence, family) | {"seeds_needed": TWO_TESTS}
        if all_finite(values_S_K):
            found["mean"] = float(values_S_K.mean())
            found["mean_interval"] = as_bounds(t_interval(values_S_K.mean(axis=1)))
        return found


def _difference(values_S_K: np.ndarray) -> dict[str, Any]:
    if not all_finite(values_S_K) or values_S_K.shape[1] < 2:
        return {"estimate": None, "interval": None}
    difference_S = values_S_K[:, -1] - values_S_K[:, 0]
    return {"estimate": float(difference_S.mean()), "interval": as_bounds(t_interval(difference_S))}


def _ratio(values_S_K: np.ndarray) -> dict[str, Any]:
    """Geometric mean over seeds of the value at the highest beta over that at the lowest, where all are above 0."""
    if values_S_K.shape[1] < 2 or not (all_finite(values_S_K) and (values_S_K[:, [0, -1]] > 0).all()):
        return {"ratio": None, "ratio_interval": None}
    ratio_S = values_S_K[:, -1] / values_S_K[:, 0]
    return {"ratio": float(np.exp(np.log(ratio_S).mean())), "ratio_interval": as_bounds(log_t_interval(ratio_S))}


def _spearman(values_S_K: np.ndarray, predicted: int) -> dict[str, float | None]:
    """The paper's own statistic, over betas on the means (medians where a run never had the event) over seeds."""
    if not values_S_K.size or np.isnan(values_S_K).any():
        return {"spearman": None, "spearman_p": None}
    values_K = values_S_K.mean(axis=0) if all_finite(values_S_K) else np.median(values_S_K, axis=0)
    order = np.arange(len(values_K))
    rises, falls = (spearman_exact_p(order, values_K, direction) for direction in ("greater", "less"))
    return {"spearman": spearman(order, values_K), "spearman_p": _directed(rises, falls, predicted)}


def _directed(rises: float | None, falls: float | None, predicted: int) -> float | None:
    return None if rises is None or falls is None else float(directed_p(rises, falls, predicted))


def _correlation(values_S_K: np.ndarray) -> float | None:
    return None if np.isnan(values_S_K).any() or values_S_K.shape[1] < 2 else trend_correlation(values_S_K)


def _jonckheere(values_S_K: np.ndarray, predicted: int) -> float | None:
    """The unpaired test beside the primary one."""
    if np.isnan(values_S_K).any() or values_S_K.shape[1] < 2:
        return None
    rises, falls = (jonckheere(list(values_S_K.T), direction) for direction in ("greater", "less"))
    return _directed(rises, falls, predicted)


def _seeds_needed(values_S_K: np.ndarray, predicted: int, family: int) -> int | str:
    """Seeds for power 0.8 at Holm's first step; a claim with two directions is planned for the one observed."""
    if values_S_K.shape[1] < 2:
        return NoTest.FEW_BETAS.value
    if not all_finite(values_S_K):
        return Unknown.NOT_FINITE.value
    rises = values_S_K[:, -1].mean() >= values_S_K[:, 0].mean() if predicted == EITHER else predicted == RISES
    alpha = ALPHA / max(family, 1) / (2 if predicted == EITHER else 1)
    needed = seeds_needed(values_S_K, alpha, "greater" if rises else "less")
    return needed.value if isinstance(needed, Unknown) else needed


def _per_run(runs: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    rows = runs[["label", "beta", "seed", column]].itertuples(index=False)
    return [
        {"label": label, "beta": as_number(beta), "seed": int(seed), "value": as_number(value)}
        for label, beta, seed, value in rows
    ]
