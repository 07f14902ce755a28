"""Assess the reward ensemble on validation pairs, dropout off, raw scores (paper section 4, Eq. 13).

Reads: data/preferences/val.parquet, the reward base, models/reward/.
Writes: metrics/ensemble.json (accuracy, calibration, disagreement), metrics/reward_members.json (each member's accuracy
and the statistics that normalise its rewards).
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.reward.assessment import assess
from pessimism.reward.ensemble import RewardEnsemble


@stage.main("assess_ensemble")
def main(params: Params) -> None:
    pairs = records.read_table(layout.preferences("val"))
    ensemble = RewardEnsemble.load_raw(params)
    chosen_K_B = ensemble.score(list(pairs["prompt"]), list(pairs["chosen"]))
    rejected_K_B = ensemble.score(list(pairs["prompt"]), list(pairs["rejected"]))
    quality, members = assess(chosen_K_B, rejected_K_B, ensemble.members)
    records.write_json(layout.ENSEMBLE, quality)
    records.write_json(layout.REWARD_MEMBERS_RECORD, members)


if __name__ == "__main__":
    main()
