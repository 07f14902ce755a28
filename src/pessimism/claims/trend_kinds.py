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
    Outcome,
    both,
    directed_p,
    level_and_trend_test,
    level_and_trend_tests,
    trend_test,
    trend_tests,
)
from pessimism.errors import DataError
from pessimism.measures.contrasts import combination_interval, positions
from pessimism.measures.intervals import Interval
from pessimism.measures.power import Unknown, seeds_needed
from pessimism.measures.trends import spearman, spearman_exact_p, trend_correlation
from pessimism.scoring.columns import by_seed
from pessimism.scoring.measures import PAPER

UNPAIRED = "permutation of the linear contrast between betas, and Welch's t"
PAIRED = "permutation of the linear contrast within seeds, and t over seeds"
NOT_PLANNED = {"seeds_needed": "not planned: two tests must hold", "seeds_needed_for": None}


def trend_method(paired: bool) -> str:
    """The test of a trend in words: both of its parts must hold."""
    return PAIRED if paired else UNPAIRED


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
    def test_table(self, values_S_K: np.ndarray, paired: bool) -> ClaimTest | NoTest:
        """The test on a table: (S, K) one row per seed, betas ascending."""

    @abstractmethod
    def test_tables(self, values_E_S_K: np.ndarray, paired: bool) -> ClaimTests:
        """:meth:`test_table` of many experiments at once, (E, S, K)."""

    def test(self, evidence: Evidence) -> ClaimTest | NoTest:
        """The test of the quantity; where it has a guard, the larger p of that and of the guard's trend."""
        test = self.test_table(self.table(evidence), evidence.paired)
        guard = self.quantity(evidence.measure).guard
        if guard is None:
            return test
        return both(test, trend_test(_table(evidence, guard.name), guard.predicted, evidence.paired))

    def table(self, evidence: Evidence) -> np.ndarray:
        """(S, K) values, one row per seed, betas ascending.

        Raises:
            DataError: there is no such column.
        """
        return _table(evidence, self.quantity(evidence.measure).name)

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        """``estimate`` is the mean over seeds of the value at the highest beta minus that at the lowest."""
        values_S_K, guard = self.table(evidence), self.quantity(evidence.measure).guard
        return {
            **_difference(values_S_K, evidence.paired),
            **_spearman(values_S_K, self.predicted),
            "trend_correlation": _correlation(values_S_K, evidence.paired),
            "guard": None if guard is None else guard.name,
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

    def method(self, paired: bool) -> str:
        return trend_method(paired)

    def test_table(self, values_S_K: np.ndarray, paired: bool) -> ClaimTest | NoTest:
        return trend_test(values_S_K, self.predicted, paired)

    def test_tables(self, values_E_S_K: np.ndarray, paired: bool) -> ClaimTests:
        return trend_tests(values_E_S_K, self.predicted, paired)

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        values_S_K = self.table(evidence)
        found = super().numbers(evidence, family)
        found |= NOT_PLANNED if found["guard"] else _plan(values_S_K, self.predicted, family, evidence.paired)
        return found | _ratio(values_S_K, evidence.paired) if self.ratio else found


@dataclass(frozen=True)
class LevelAndTrend(OverBeta):
    """The quantity of a run, such as a correlation within it, is above 0 and rises with beta: both must hold."""

    predicted: int = field(default=RISES, init=False)

    def method(self, paired: bool) -> str:
        return f"{'t over seeds' if paired else 't'} of the mean over betas, and {trend_method(paired)}"

    def test_table(self, values_S_K: np.ndarray, paired: bool) -> ClaimTest | NoTest:
        return level_and_trend_test(values_S_K, paired)

    def test_tables(self, values_E_S_K: np.ndarray, paired: bool) -> ClaimTests:
        return level_and_trend_tests(values_E_S_K, paired)

    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        """``mean`` is that over seeds and betas, where every run has a value."""
        values_S_K = self.table(evidence)
        found = super().numbers(evidence, family) | NOT_PLANNED
        if all_finite(values_S_K):
            betas = values_S_K.shape[1]
            found["mean"] = float(values_S_K.mean())
            found["mean_interval"] = as_bounds(
                combination_interval(values_S_K, np.full(betas, 1 / betas), evidence.paired)
            )
        return found


def _table(evidence: Evidence, column: str) -> np.ndarray:
    if column not in evidence.runs:
        raise DataError(
            f"found no column {column!r} in plots/cells.csv; expected every quantity of claims/statements.py there"
        )
    return by_seed(evidence.runs, column)


def _difference(values_S_K: np.ndarray, paired: bool) -> dict[str, Any]:
    if not all_finite(values_S_K) or values_S_K.shape[1] < 2:
        return {"estimate": None, "interval": None}
    means_K = values_S_K.mean(axis=0)
    return {"estimate": float(means_K[-1] - means_K[0]), "interval": as_bounds(_ends(values_S_K, paired))}


def _ends(values_S_K: np.ndarray, paired: bool) -> Interval | None:
    """Interval of the mean at the highest beta minus that at the lowest."""
    ends_S_2 = values_S_K[:, [0, -1]]
    return combination_interval(ends_S_2, [-1, 1], paired)


def _ratio(values_S_K: np.ndarray, paired: bool) -> dict[str, Any]:
    """Geometric mean over seeds of the value at the highest beta over that at the lowest, where all are above 0."""
    if values_S_K.shape[1] < 2 or not (all_finite(values_S_K) and (values_S_K[:, [0, -1]] > 0).all()):
        return {"ratio": None, "ratio_interval": None}
    logs_S_K = np.log(values_S_K[:, [0, -1]])
    interval = _ends(logs_S_K, paired)
    return {
        "ratio": float(np.exp((logs_S_K[:, -1] - logs_S_K[:, 0]).mean())),
        "ratio_interval": None if interval is None else [float(np.exp(interval.low)), float(np.exp(interval.high))],
    }


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


def _correlation(values_S_K: np.ndarray, paired: bool) -> float | None:
    return None if np.isnan(values_S_K).any() or values_S_K.shape[1] < 2 else trend_correlation(values_S_K, paired)


def _plan(values_S_K: np.ndarray, predicted: int, family: int, paired: bool) -> dict[str, Any]:
    """Seeds for power 0.8 at Holm's first step, to support the claim or to contradict it as the runs point.

    A claim with two directions can only be supported.
    """
    if values_S_K.shape[1] < 2:
        return {"seeds_needed": NoTest.FEW_BETAS.value, "seeds_needed_for": None}
    if not all_finite(values_S_K):
        return {"seeds_needed": Unknown.NOT_FINITE.value, "seeds_needed_for": None}
    needed = seeds_needed(values_S_K, ALPHA / max(family, 1) / (2 if predicted == EITHER else 1), paired)
    if isinstance(needed, Unknown):
        return {"seeds_needed": needed.value, "seeds_needed_for": None}
    against = float(values_S_K.mean(axis=0) @ positions(values_S_K.shape[1])) * predicted < 0
    outcome = Outcome.CONTRADICTED if against else Outcome.SUPPORTED
    return {"seeds_needed": needed, "seeds_needed_for": outcome.value}


def _per_run(runs: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    rows = runs[["label", "beta", "seed", column]].itertuples(index=False)
    return [
        {"label": label, "beta": as_number(beta), "seed": int(seed), "value": as_number(value)}
        for label, beta, seed, value in rows
    ]
