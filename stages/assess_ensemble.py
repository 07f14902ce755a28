"""Assess the reward ensemble of every seed on validation pairs, dropout off, raw scores (paper section 4, Eq. 13).

Reads: data/preferences/val.parquet, the reward base, models/reward/.
Writes: metrics/ensemble.json (accuracy, calibration, disagreement: means over seeds and by seed),
metrics/reward_members.json (by seed, each member's accuracy and the statistics that normalise its rewards).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.cells import seed_key
from pessimism.experiment.params import Params
from pessimism.models import unfinished
from pessimism.models.unfinished import KeptResults
from pessimism.reward.assessment import assess, with_means
from pessimism.reward.ensemble import RewardEnsemble, of_each_seed

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def assessment(
    seed: int, ensemble: RewardEnsemble, pairs: pd.DataFrame, kept: KeptResults
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Quality of an ensemble, and of each of its members."""

    def scores(side: str) -> np.ndarray:
        return kept.result(f"{side}, seed {seed}", lambda: ensemble.score(list(pairs["prompt"]), list(pairs[side])))

    return assess(scores("chosen"), scores("rejected"), ensemble.members)


@stage.main("assess_ensemble")
def main(params: Params) -> None:
    pairs = records.read_table(layout.preferences("val"))
    with unfinished.kept_work("assess_ensemble") as kept:
        results = KeptResults(kept)
        found = of_each_seed(params, RewardEnsemble.load_raw, partial(assessment, pairs=pairs, kept=results))
        quality = {seed_key(seed): quality for seed, (quality, _) in found.items()}
        members = {seed_key(seed): members for seed, (_, members) in found.items()}
        records.write_json(layout.ENSEMBLE, with_means(quality))
        records.write_json(layout.REWARD_MEMBERS_RECORD, members)


if __name__ == "__main__":
    main()
