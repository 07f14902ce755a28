"""How it is measured: what a protocol file holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from pessimism.experiment.ranges import range_problems

_ARM = re.compile(r"\w+", re.ASCII)


@dataclass(frozen=True)
class Arm:
    """How an online run adapts its checkpoint.

    Attributes:
        reward: what it is trained on: the ensemble's reward, the true one, or noise.
        kappa: numerator of the penalty's coefficient (Eq. 10): the checkpoint's beta, ``kl_numerator``, or no penalty.
        learning_rate_factor: of the online learning rate; 0 makes a placebo, which is measured and never learns.
    """

    reward: Literal["ensemble", "true", "random"]
    kappa: Literal["coupled", "fixed", "none"]
    learning_rate_factor: float

    @property
    def is_placebo(self) -> bool:
        return self.learning_rate_factor == 0

    @property
    def is_coupled(self) -> bool:
        return self.kappa == "coupled"

    @property
    def uncoupled(self) -> Arm:
        """The same arm with one numerator for every beta."""
        return replace(self, kappa="fixed")


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
    return range_problems(protocol) + named
