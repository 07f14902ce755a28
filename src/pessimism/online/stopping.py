"""When an arm stops learning: its held-out evaluation is too far from the checkpoint's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pessimism.errors import DataError
from pessimism.experiment.params import Arm

Evaluation = Mapping[str, Any]
"""Row of one held-out evaluation: means over ``prompts`` problems, and the proxy reward's spread over them."""


def stops(arm: Arm, first: Evaluation, now: Evaluation) -> bool:
    """Whether ``arm`` learns no more after the evaluation ``now``; never at the first one.

    ``stop_at_gap`` reads the true reward of the held-out problems, which a training without a verifier does not have:
    what it saves is an upper bound for early stopping. ``kl_budget`` reads no truth. Evaluations lie some steps apart,
    so that a run ends a little above its limit.

    Args:
        first: of step 0, the checkpoint.
        now: of this step.
    """
    too_hacked = arm.stop_at_gap is not None and gap_since(first, now) > arm.stop_at_gap
    too_far = arm.kl_budget is not None and now["kl_k3"] > arm.kl_budget
    return too_hacked or too_far


def gap_since(first: Evaluation, now: Evaluation) -> float:
    """Change of the proxy minus change of the true reward, each in standard deviations of the checkpoint.

    The unit of the controlled gap (``measures.goodhart``) is the base policy's, which another stage measures. That of
    the 0/1 true reward is smoothed as there, so that it does not vanish.

    Returns:
        Standard deviations; 0 at step 0, positive = the proxy rose more than the true reward.

    Raises:
        DataError: the checkpoint's responses all have one proxy reward.
    """
    if not first["proxy_reward_sd"] > 0:
        raise DataError(
            f"found a standard deviation of {first['proxy_reward_sd']} of the proxy reward on the checkpoint's "
            "held-out responses; expected a positive number: stop_at_gap has no unit for this cell, leave the arm out"
        )
    answers = first["prompts"]
    right = (first["true_reward"] * answers + 0.5) / (answers + 1)
    proxy = (now["proxy_reward"] - first["proxy_reward"]) / first["proxy_reward_sd"]
    true = (now["true_reward"] - first["true_reward"]) / math.sqrt(right * (1 - right))
    return float(proxy - true)
