"""Values of one online run: the scale file's where it sets them, else the paper's formulas (App. C)."""

from __future__ import annotations

from dataclasses import dataclass

from pessimism.experiment.params import Arm, Scale
from pessimism.models import hyperparameters as derive
from pessimism.models.compute.batching import derived_batch_size

PEAK_ONLINE_LEARNING_RATE = 1e-5
MEASURED_POINTS = 50


@dataclass(frozen=True)
class OnlineHyperparameters:
    """Steps are optimiser updates; the batch counts responses."""

    batch_size: int
    steps: int
    measure_every: int
    learning_rate: float
    weight_decay: float
    clip_norm: float


def online_batch_size(scale: Scale, parameters: int) -> int:
    """Responses of an optimiser step: half the batch of the offline phase, at least 2."""
    if scale.online.batch_size is not None:
        return scale.online.batch_size
    offline = scale.dpo.batch_size
    if offline is None:
        offline = derived_batch_size(scale, parameters, inference=False)
    return max(2, offline // 2)


def online_hyperparameters(
    scale: Scale, arm: Arm, parameters: int, trainable: int, test_problems: int
) -> OnlineHyperparameters:
    """Values of a run in ``arm``.

    Args:
        arm: two arms differ in their learning rate at most.
        parameters: number of the policy base's parameters.
        trainable: number of trainable parameters.
        test_problems: size of the verifiable task's test split.
    """
    online, batch = scale.online, online_batch_size(scale, parameters)
    steps = derive.online_steps(test_problems, batch) if online.steps is None else online.steps
    learning_rate = online.learning_rate
    if learning_rate is None:
        learning_rate = derive.learning_rate(trainable, base=PEAK_ONLINE_LEARNING_RATE, high=PEAK_ONLINE_LEARNING_RATE)
    return OnlineHyperparameters(
        batch_size=batch,
        steps=steps,
        measure_every=max(1, steps // MEASURED_POINTS) if online.measure_every is None else online.measure_every,
        learning_rate=arm.learning_rate_factor * learning_rate,
        weight_decay=trainable**-0.5,
        clip_norm=derive.clip_norm(trainable),
    )
