"""Values of one online run: the scale file's where it sets them, else the paper's formulas (App. C)."""

from __future__ import annotations

from dataclasses import dataclass

from pessimism.experiment.params import Scale
from pessimism.models import hyperparameters as derive
from pessimism.models.compute.batching import derived_batch_size

PEAK_LEARNING_RATE = 1e-5
MEASURED_POINTS = 50


@dataclass(frozen=True)
class OnlineHyperparameters:
    """Steps are optimiser updates; the batch counts prompts."""

    batch_size: int
    steps: int
    measure_every: int
    learning_rate: float
    weight_decay: float
    clip_norm: float


def online_hyperparameters(
    scale: Scale, arm: str, parameters: int, trainable: int, test_problems: int
) -> OnlineHyperparameters:
    """Values of a run in ``arm``.

    Args:
        parameters: number of the policy base's parameters.
        trainable: number of trainable parameters.
        test_problems: size of the verifiable task's test split.

    Returns:
        The placebo's values differ from the proxy's in one number: its learning rate is 0.
    """
    online = scale.online
    batch = online.batch_size
    if batch is None:
        offline = scale.dpo.batch_size
        if offline is None:
            offline = derived_batch_size(scale, parameters, inference=False)
        batch = max(2, offline // 2)
    steps = derive.online_steps(test_problems, batch) if online.steps is None else online.steps
    learning_rate = online.learning_rate
    if learning_rate is None:
        learning_rate = derive.learning_rate(trainable, base=PEAK_LEARNING_RATE, high=PEAK_LEARNING_RATE)
    return OnlineHyperparameters(
        batch_size=batch,
        steps=steps,
        measure_every=max(1, steps // MEASURED_POINTS) if online.measure_every is None else online.measure_every,
        learning_rate=0.0 if arm == "placebo" else learning_rate,
        weight_decay=trainable**-0.5,
        clip_norm=derive.clip_norm(trainable),
    )
