"""What a column about a checkpoint is made from: its probes as the protocol reads them, its responses, its margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.params import Protocol

PENULTIMATE = "penultimate"


@dataclass(frozen=True)
class Probed:
    """Probes of one policy.

    Attributes:
        record: of data/probes/<cell>.json, for one policy.
        protocol: what the paper's measures are taken from. The controlled ones are always the same: response tokens,
            penultimate layer, all reward members, several responses to one prompt.
    """

    record: Mapping[str, Any]
    protocol: Protocol

    @property
    def entropy(self) -> float:
        """Eq. 11 on the tokens that the protocol names."""
        return float(self.record[f"{self.protocol.entropy_tokens}_entropy"])

    @property
    def diversity(self) -> float:
        """Diversity of the responses that the protocol names."""
        return self.published(f"diversity_{self.protocol.diversity_prompts}")

    def of_policy(self, name: str) -> float:
        return float(self.record[name])

    def published(self, name: str) -> float:
        """Distance or diversity in the layer and by the members that the protocol names."""
        layers = [
            self.record["members"][key][self.protocol.probe_layer] for key in sorted(self.record["members"], key=int)
        ]
        chosen = layers[:1] if self.protocol.probe_members == "first" else layers
        return float(np.mean([probes[name] for probes in chosen]))

    def over_members(self, name: str) -> float:
        """Mean over members, in the penultimate layer."""
        return float(np.mean([layers[PENULTIMATE][name] for layers in self.record["members"].values()]))


@dataclass(frozen=True)
class Checkpoint:
    """One DPO checkpoint.

    Attributes:
        before: probes before its online run.
        after: probes after it.
        samples: held-out samples of its online run.
        base: the base policy's samples on the same problems.
        reward_accuracy: share of validation pairs whose margin is positive.
    """

    before: Probed
    after: Probed
    samples: pd.DataFrame
    base: pd.DataFrame
    reward_accuracy: float

    @property
    def win_rate(self) -> float:
        """Share of held-out problems on which the checkpoint has the higher proxy reward than the base; ties half.

        Raises:
            DataError: the two were measured on different problems.
        """
        start = self.samples[self.samples["step"] == 0].set_index("task_id")["proxy_reward"]
        opponent = self.base.set_index("task_id")["proxy_reward"]
        if set(start.index) != set(opponent.index):
            raise DataError(
                f"{layout.BASE_SAMPLES}: found other problems than in the online runs; expected the same held-out "
                "ones: run `dvc repro measure_base`"
            )
        margins = start - opponent.reindex(start.index)
        return float((margins > 0).mean() + 0.5 * (margins == 0).mean())
