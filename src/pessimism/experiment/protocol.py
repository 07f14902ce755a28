"""How it is measured: what a protocol file holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from pessimism.experiment.ranges import range_problems

_ARM = re.compile(r"\w+", re.ASCII)


@dataclass(frozen=True)
class Aggregation:
    """How the ensemble's members become one reward (``pessimism.reward.aggregation``).

    Attributes:
        kind: the mean, the minimum, or the mean less a cost of disagreement.
        weight: of that cost, at least 0; 0 is the mean, higher = more pessimistic. None for the mean and the minimum.
    """

    kind: Literal["mean", "min", "uwo", "lcb", "log_mean_exp"]
    weight: float | None = None

    def __str__(self) -> str:
        return self.kind if self.weight is None else f"{self.kind} with weight {self.weight:g}"

    @property
    def problems(self) -> list[str]:
        """Whether there is a weight where the kind has one, one text each."""
        if self.kind in ("mean", "min"):
            return [] if self.weight is None else [f"found the weight {self.weight} of {self.kind}; expected null"]
        return [] if self.weight is not None else [f"found no weight of {self.kind}; expected a number of 0 or more"]


@dataclass(frozen=True)
class Arm:
    """How an online run adapts its checkpoint.

    Attributes:
        reward: what it is trained on: the ensemble's reward, the true one, or noise.
        kappa: numerator of the penalty's coefficient (Eq. 10): the checkpoint's beta, ``kl_numerator``, or no penalty.
        learning_rate_factor: of the online learning rate; 0 makes a placebo, which is measured and never learns.
        aggregation: of the ensemble's reward that it is trained on; None = the design's. What is measured is the
            design's in every arm.
        stop_at_gap: held-out gap above which it learns no more, in standard deviations of its checkpoint, above 0.
        kl_budget: held-out KL from its checkpoint above which it learns no more, nats per response, above 0.
    """

    reward: Literal["ensemble", "true", "random"]
    kappa: Literal["coupled", "fixed", "none"]
    learning_rate_factor: float
    aggregation: Aggregation | None = None
    stop_at_gap: float | None = None
    kl_budget: float | None = None

    @property
    def is_placebo(self) -> bool:
        return self.learning_rate_factor == 0

    @property
    def is_coupled(self) -> bool:
        return self.kappa == "coupled"

    @property
    def has_limit(self) -> bool:
        """Whether it may stop learning before the last step."""
        return self.stop_at_gap is not None or self.kl_budget is not None

    @property
    def uncoupled(self) -> Arm:
        """The same arm with one numerator for every beta."""
        return replace(self, kappa="fixed")

    @property
    def problems(self) -> list[str]:
        """What contradicts itself, one text each."""
        found = []
        if self.aggregation and self.reward != "ensemble":
            found.append(f"found aggregation {self.aggregation} with reward {self.reward}; expected reward ensemble")
        if self.is_placebo and self.has_limit:
            found.append("found stop_at_gap or kl_budget with learning_rate_factor 0; expected an arm that learns")
        if self.aggregation:
            found += [f"aggregation: {problem}" for problem in self.aggregation.problems]
        return found


@dataclass(frozen=True)
class Protocol:
    """How it is measured: every switch of protocols/<name>.yaml, and what each arm is."""

    arms: dict[str, Arm]
    kl_numerator: float
    kl_percentile: float
    kl_noise_floor: float
    prompt_split: Literal["train", "test"]
    gap_rewards: Literal["batch", "heldout"]
    gap_baseline: Literal["first_batch", "heldout"]
    paired_seeds: bool
    policy_dropout: bool
    reward_dropout: bool
    sampling: Literal["truncated", "full"]
    temperature: float
    top_p: float
    top_k: int | None
    grid_precision: Literal["bfloat16", "float32"]
    entropy_tokens: Literal["prompt", "response"]
    prompt_format: Literal["plain", "dpo"]
    enable_thinking: bool
    retokenize_responses: bool
    prompt_cut: Literal["right", "left"]
    score_eos: bool
    probe_layer: Literal["last", "penultimate"]
    probe_members: Literal["first", "all"]
    diversity_prompts: Literal["across", "within"]
    normalize_rewards: bool
    uwo_weight: float
    controlled_threshold: float


def protocol_problems(protocol: Protocol) -> list[str]:
    """What is wrong with the values of a protocol file, one text each."""
    unfit = [name for name in protocol.arms if not _ARM.fullmatch(name)]
    named = [f"arms: found {unfit}; expected names of letters, digits and _, which file names hold"] if unfit else []
    arms = [f"arms.{name}: {problem}" for name, arm in protocol.arms.items() for problem in arm.problems]
    return range_problems(protocol) + named + arms
