"""Whether a training starts where its objective starts, which tells that policy and reference are one model."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from pessimism.errors import DataError
from pessimism.experiment.params import ModelParams
from pessimism.offline.objective import OfflineObjective, PairScores

# Standard deviation, nats, of a pair's log-ratio between two layouts of its batch that rounding alone is granted, by
# what the policy computes in: four times what docs/decisions.md names, for responses of 99 tokens.
ROUNDING = {"float32": 3e-3, "nf4": 0.3, "mixed": 0.3, "bfloat16": 0.9}


class FirstLossCheck(TrainerCallback):
    """Stops a training whose first loss is not the objective's own: policy and reference differ before any update."""

    def __init__(self, expected: float, tolerance: float) -> None:
        self.expected, self.tolerance = expected, tolerance

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kwargs: Any
    ) -> None:
        if state.global_step == 1 and "loss" in logs and not abs(logs["loss"] - self.expected) <= self.tolerance:
            raise DataError(
                f"the first loss is {logs['loss']:.6f}; expected {self.expected:.6f}, the objective's at log-ratios of "
                f"0, within {self.tolerance:.2g}: the policy does not compute what the reference table holds: run "
                "`dvc repro --single-item --force measure_reference` and check that the base has no dropout of its own"
            )


def first_loss_checks(
    objective: OfflineObjective, strength: float | None, policy: ModelParams, scores: PairScores, pairs: int
) -> list[FirstLossCheck]:
    """The check of a training whose objective says where it starts; none of one without a reference.

    Args:
        scores: of the training pairs at the start, which are log-ratios of 0.
        pairs: that make the first step.
    """
    if objective.first_loss is None:
        return []
    expected = objective.first_loss(strength)
    return [FirstLossCheck(expected, first_loss_tolerance(objective, strength, policy, scores, pairs))]


def first_loss_tolerance(
    objective: OfflineObjective, strength: float | None, policy: ModelParams, scores: PairScores, pairs: int
) -> float:
    """Distance from the objective's first loss that rounding alone may cause where ``pairs`` pairs make the first step.

    Noise of standard deviation s in the log-ratios raises the mean loss by the loss's curvature, and shifts it by its
    slope times s over the root of the number of pairs; four times that shift is allowed.
    """
    four_bit_alone = policy.dtype == "float32" and policy.quantization == "nf4"
    noise = ROUNDING["nf4" if four_bit_alone else policy.dtype]
    above, at, below = (objective.losses(strength, scores.with_chosen(shift)).mean() for shift in (noise, 0.0, -noise))
    return float(abs((above + below) / 2 - at) + 2 * abs(above - below) / math.sqrt(pairs))
