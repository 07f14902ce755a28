"""Where the spread of held-out changes comes from: training runs, problems, or single answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from pessimism.experiment.cells import OnlineCell
from pessimism.measures.intervals import variance_components
from pessimism.scoring.measured import REWARDS
from pessimism.scoring.runs import Measurements


def variance_record(measurements: Measurements) -> dict[str, Any]:
    """Content of metrics/variance.json: by arm, percentile and reward, the variance components of the change.

    The change is that of one held-out problem from step 0 to the last evaluation, in the reward's own unit. Beside the
    components stands the standard error of the mean over these seeds and problems. Empty with one seed.
    """
    params = measurements.params
    if len(params.seeds) < 2:
        return {}
    return {
        arm: {
            label: {reward: _components(measurements, label, arm, reward) for reward in REWARDS}
            for label in params.labels
        }
        for arm in params.arms
    }


def _components(measurements: Measurements, label: str, arm: str, reward: str) -> dict[str, float]:
    seeds = measurements.params.seeds
    values = [measurements.runs[OnlineCell(label, seed, arm)].heldout(reward) for seed in seeds]
    change_S_N = np.array([value_T_N[-1] - value_T_N[0] for value_T_N in values])
    found = variance_components(change_S_N)
    return asdict(found) | {"standard_error": found.standard_error(*change_S_N.shape)}
