"""What a column about a checkpoint is made from: its probes as the protocol reads them, its responses and margins, and
what selection among its draws gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.params import Protocol
from pessimism.scoring.best_of_n import BestOfN


@dataclass(frozen=True)
class Checkpoint:
    """One DPO checkpoint.

    Attributes:
        record: data/probes/<cell>.json.
        protocol: what the paper's measures are taken from; the controlled ones are always the same.
        samples: held-out samples of its online run.
        base: the base policy's samples on the same problems.
        reward_accuracy: share of validation pairs whose margin is positive.
        best_of_n: both rewards of the best of n draws.
    """

    record: Mapping[str, Any]
    protocol: Protocol
    samples: pd.DataFrame
    base: pd.DataFrame
    reward_accuracy: float
    best_of_n: BestOfN

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
