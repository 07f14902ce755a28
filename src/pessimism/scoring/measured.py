"""What the scorer takes: one run's curves under both measures, and the unit of the controlled one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pessimism.errors import DataError
from pessimism.measures import goodhart
from pessimism.measures.equal_kl import Crossing, first_crossing
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
        prompt_T_N: (T, N) both rewards per prompt, N >= 2, and ``ensemble_std`` where measured; empty where they are
            not known.
    """

    steps_T: np.ndarray
    mean_T: Mapping[str, np.ndarray]
    prompt_T_N: Mapping[str, np.ndarray] = field(default_factory=dict)

    def has(self, need: str) -> bool:
        """Whether a quantity is known, or PROMPTS."""
        return bool(self.prompt_T_N) if need == PROMPTS else need in self.mean_T

    @property
    def rewards_T(self) -> tuple[np.ndarray, np.ndarray]:
        """(T,) mean proxy reward and mean true reward."""
        return self.mean_T["proxy_reward"], self.mean_T["true_reward"]

    def change(self, quantity: str) -> float:
        """Value at the last step minus that at the first."""
        return float(self.mean_T[quantity][-1] - self.mean_T[quantity][0])


@dataclass(frozen=True)
class MeasuredRun:
    """One run as both measures take it: what a column's ``compute`` may use.

    Attributes:
        paper: what the paper's gap is taken from.
        controlled: what the controlled gap is taken from.
        baseline: mean reward that Eq. 2 divides by, by reward.
        unit: of the controlled measure; None = not known.
        threshold: gap above which a run hacks, by measure; None = there is none.
        common_kl: where areas over KL end, nats per response; None = the KL is not known.
        arm_kl: where the runs of one arm are compared, nats per response; None = they are not.
    """

    paper: Curves
    controlled: Curves
    baseline: Mapping[str, float]
    unit: Unit | None
    threshold: Mapping[str, float | None] = field(default_factory=dict)
    common_kl: float | None = None
    arm_kl: float | None = None

    @cached_property
    def paper_gap_T(self) -> np.ndarray:
        """(T,) Goodhart gap (Eq. 2)."""
        proxy_T, true_T = self.paper.rewards_T
        return goodhart.paper_gap(proxy_T, true_T, self.baseline["proxy_reward"], self.baseline["true_reward"])

    @cached_property
    def gap_T(self) -> np.ndarray:
        """(T,) controlled gap."""
        proxy_T, true_T = self.controlled.rewards_T
        return goodhart.controlled_gap(proxy_T, true_T, *self._sds)

    @cached_property
    def change_T(self) -> dict[str, np.ndarray]:
        """(T,) change since the first step in the unit, by reward."""
        curves_T = zip(REWARDS, self.controlled.rewards_T, self._sds, strict=True)
        return {reward: goodhart.standardized_change(reward_T, sd) for reward, reward_T, sd in curves_T}

    @cached_property
    def crossing(self) -> Crossing | None:
        """Where the run first comes to ``arm_kl``; None where there is none."""
        return None if self.arm_kl is None else first_crossing(self.controlled.mean_T["kl_k3"], self.arm_kl)

    def gain_N(self, reward: str) -> np.ndarray:
        """(N,) change of each prompt's reward from the first step to the crossing, in the unit.

        Raises:
            DataError: the run stays nearer than ``arm_kl``, or is not compared.
        """
        if self.crossing is None:
            raise DataError(
                f"found no crossing of a KL of {self.arm_kl}; expected one that every run of the arm reaches"
            )
        value_T_N = self.controlled.prompt_T_N[reward]
        sd = dict(zip(REWARDS, self._sds, strict=True))[reward]
        return np.asarray((self.crossing.at(value_T_N) - value_T_N[0]) / sd)

    @property
    def gap_N(self) -> np.ndarray:
        """(N,) controlled gap of each prompt: mean over the evaluations after the first."""
        return self._moved_N("proxy_reward") / self._sds[0] - self._moved_N("true_reward") / self._sds[1]

    @property
    def ensemble_std_change_N(self) -> np.ndarray:
        """(N,) change of each prompt's ensemble std since the first evaluation: mean over those after it."""
        return self._moved_N("ensemble_std")

    def _moved_N(self, quantity: str) -> np.ndarray:
        value_T_N = self.controlled.prompt_T_N[quantity]
        return np.asarray(value_T_N[1:].mean(axis=0) - value_T_N[0])

    @property
    def baseline_degenerate(self) -> bool:
        """Whether a baseline of the paper's gap says nothing, by the unit, or by the spread of the run's own means."""
        sds = self._sds if self.unit else [float(np.std(reward_T)) for reward_T in self.paper.rewards_T]
        return any(
            goodhart.baseline_degenerate(self.baseline[reward], sd) for reward, sd in zip(REWARDS, sds, strict=True)
        )

    @cached_property
    def onset_interval(self) -> tuple[float, float] | None:
        """Central 95 % of the controlled onset over resampled prompts, infinity = never; None without an onset."""
        return goodhart.onset_interval(
            self.controlled.steps_T, *self._rewards_T_N, *self._sds, self.threshold[CONTROLLED]
        )

    @cached_property
    def signed_augc_interval(self) -> tuple[float, float]:
        """Central 95 % of the signed controlled area over resampled prompts."""
        return goodhart.signed_augc_interval(self.controlled.steps_T, *self._rewards_T_N, *self._sds)

    @property
    def _rewards_T_N(self) -> tuple[np.ndarray, np.ndarray]:
        proxy_T_N, true_T_N = (self.controlled.prompt_T_N[reward] for reward in REWARDS)
        return proxy_T_N, true_T_N

    @property
    def _sds(self) -> tuple[float, float]:
        assert self.unit is not None, "without a unit there is no controlled measure"
        return self.unit.proxy_sd, self.unit.true_sd
