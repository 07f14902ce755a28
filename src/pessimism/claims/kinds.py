"""What every kind of claim offers: the quantity it is about, a test of the runs, and numbers beside the verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.verdicts import ClaimTest, NoTest, Verdict
from pessimism.measures.intervals import Interval


@dataclass(frozen=True)
class Guard:
    """A second quantity whose trend must hold too, where the first one also moves when nothing is hacked.

    Noise that grows with beta makes a clipped area larger and an onset earlier. The paper's gap divides by where a run
    starts, and two rewards that improve alike move it. Checkpoints differ before they learn online. The guard's mean
    depends on none of these.

    Attributes:
        name: column of plots/cells.csv, 0 on average where nothing is hacked; of either measure.
        predicted: the trend that it must have where the claim holds, RISES or FALLS.
    """

    name: str
    predicted: int


@dataclass(frozen=True)
class Quantity:
    """What a claim is about, as one measure takes it.

    Attributes:
        name: column of plots/cells.csv, or what is fitted to one.
        unit: of the values.
        guard: what must hold beside its trend; None where nothing but the claim can move its mean.
    """

    name: str
    unit: str
    guard: Guard | None = None


@dataclass(frozen=True)
class Evidence:
    """What a claim may be judged by, as one measure has it.

    Attributes:
        runs: rows of plots/cells.csv of the primary arm.
        measure: the paper's or the controlled one.
        power_law: the published fit, metrics/power_law.json; empty but for the paper's measure.
        beta_stars: metrics/beta_star.json of this measure: by definition.
        paired: whether the betas of a seed share its random draws: ``paired_seeds`` of the protocol.
    """

    runs: pd.DataFrame
    measure: str
    paired: bool
    power_law: Mapping[str, Any]
    beta_stars: Mapping[str, Any]

    @property
    def betas(self) -> int:
        return int(self.runs["label"].nunique())


class Kind(ABC):
    """How a claim is tested. A new kind is a subclass; a new claim of a kind is an entry of ``statements.CLAIMS``."""

    @abstractmethod
    def method(self, paired: bool) -> str:
        """The test in words, as the protocol pairs seeds or not."""

    @property
    def direction(self) -> str | None:
        """What the paper predicts with beta, in words; None where the claim is about no trend."""
        return None

    @property
    def two_sided(self) -> bool:
        """Whether the claim states both directions, so that nothing contradicts it."""
        return False

    @abstractmethod
    def quantity(self, measure: str) -> Quantity:
        """What the claim is about by this measure."""

    @abstractmethod
    def counts_in_family(self, betas: int) -> bool:
        """Whether so many betas give it a p-value, where no run lacks a value."""

    @abstractmethod
    def test(self, evidence: Evidence) -> ClaimTest | NoTest | Verdict:
        """P-values, why there are none, or the verdict itself where the kind has no null distribution."""

    @abstractmethod
    def numbers(self, evidence: Evidence, family: int) -> dict[str, Any]:
        """What metrics/claims.json holds beside the verdict; JSON-ready, ``estimate``, ``interval``, ``values`` always.

        Args:
            evidence: the runs.
            family: number of claims that have a test.
        """


def all_finite(values: np.ndarray) -> bool:
    """Whether there are values, and all are finite."""
    return bool(values.size and np.isfinite(values).all())


def as_bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def as_number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
