"""What the scorer takes: one run's curves under both measures, and the unit of the controlled one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pessimism.measures import goodhart
from pessimism.scoring.measures import CONTROLLED

REWARDS = ("proxy_reward", "true_reward")
PROMPTS = "prompts"
"""What a column needs that takes the prompts apart."""


@dataclass(frozen=True)
class Unit:
    """Standard deviations in which the controlled measure counts: the base policy's, or those of the runs' own start.

    Attributes:
        proxy_sd: of the proxy reward, > 0.
        true_sd: of the true reward, > 0.
        true_sd_smoothed: whether ``true_sd`` is ``goodhart.smoothed_sd``, because all or no answers are right.
    """

    proxy_sd: float
    true_sd: float
    true_sd_smoothed: bool = False


@dataclass(frozen=True)
class Curves:
    """What was measured of one run on one set of prompts.

    Attributes:
        steps_T: (T,) measured steps, ascending; at the first the policy is untouched.
        mean_T: (T,) means over prompts by quantity: ``proxy_reward`` and ``true_reward``, others where measured.
        prompt_T_N: (T, N) both rewards per prompt, N >= 2; empty where they are not known.
    """

    steps_T: np.ndarray
    mean_T: Mapping[str, np.ndarray]
    prompt_T_N: Mapping[str, np.ndarray] = field(default_factory=dict)

    def has(self, need: str) -> bool:
        """Whether a quantity is known, or PROMPTS."""
        return bool(self.prompt_T_N) if need == PROMPTS else need in self.mean_T

    def start(self, quantity: str) -> float:
        return float(self.mean_T[quantity][0])

    def change(self, quantity: str) -> float:
        """Value at the last step minus that at the first."""
        return float(self.mean_T[quantity][-1]) - self.start(quantity)


@dataclass(frozen=True)
class RunCurves:
    """One run as both measures take it.

    Attributes:
        paper: what the paper's gap is taken from.
        controlled: what the controlled gap is taken from.
        proxy_baseline: mean proxy reward that Eq. 2 divides by.
        true_baseline: the same of the true reward.
    """

    paper: Curves
    controlled: Curves
    proxy_baseline: float
    true_baseline: float

    @cached_property
    def paper_gap_T(self) -> np.ndarray:
        """(T,) Goodhart gap (Eq. 2)."""
        proxy_T, true_T = (self.paper.mean_T[reward] for reward in REWARDS)
        return goodhart.paper_gap(proxy_T, true_T, self.proxy_baseline, self.true_baseline)

    def controlled_gap_T(self, unit: Unit) -> np.ndarray:
        """(T,) controlled gap in ``unit``."""
        proxy_T, true_T = (self.controlled.mean_T[reward] for reward in REWARDS)
        return goodhart.controlled_gap(proxy_T, true_T, unit.proxy_sd, unit.true_sd)


@dataclass(frozen=True)
class Measured:
    """One run, the unit and the thresholds: all that a column's ``compute`` may use.

    Attributes:
        threshold: gap above which a run hacks, by measure; None = there is none.
    """

    run: RunCurves
    unit: Unit
    threshold: Mapping[str, float | None]

    @cached_property
    def gap_T(self) -> np.ndarray:
        """(T,) controlled gap."""
        return self.run.controlled_gap_T(self.unit)

    @cached_property
    def proxy_T(self) -> np.ndarray:
        """(T,) change of the proxy reward since the first step in the unit."""
        reward_T = self.run.controlled.mean_T["proxy_reward"]
        return (reward_T - reward_T[0]) / self.unit.proxy_sd

    @cached_property
    def true_T(self) -> np.ndarray:
        """(T,) change of the true reward since the first step in the unit."""
        reward_T = self.run.controlled.mean_T["true_reward"]
        return (reward_T - reward_T[0]) / self.unit.true_sd

    @cached_property
    def onset_interval(self) -> tuple[float, float] | None:
        """Central 95 % of the controlled onset over resampled prompts, infinity = never; None without an onset."""
        curves, threshold = self.run.controlled, self.threshold[CONTROLLED]
        proxy_T_N, true_T_N = (curves.prompt_T_N[reward] for reward in REWARDS)
        return goodhart.onset_interval(
            curves.steps_T, proxy_T_N, true_T_N, self.unit.proxy_sd, self.unit.true_sd, threshold
        )
