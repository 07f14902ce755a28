"""Measure the base policy's proxy and true reward on the held-out problems, once for all cells.

Reads: the base, the reward ensemble, the held-out problems.
Writes: metrics/base.json (means and standard deviations over problems, ddof 1), data/base_samples.parquet (one row per
problem).
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records, rng
from pessimism.experiment.params import Params
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.rollout import reward_summary, roll_out, sample_table
from pessimism.reward.ensemble import RewardEnsemble

KEPT = ("prompts", "proxy_reward", "proxy_reward_sd", "true_reward_sd", "response_length", "run_on_fraction")


@stage.main("measure_base")
def main(params: Params) -> None:
    ensemble = RewardEnsemble.load(params)
    heldout = records.read_table(layout.tasks("heldout"))
    seeds = rng.row_seeds(params.root_seed, "measure-base", rows=len(heldout))
    model, tokenizer = load_policy_base(params), load_tokenizer(params, "policy")
    scored = roll_out(model, tokenizer, ensemble, heldout, params, seeds)
    summary = reward_summary(scored)
    records.write_json(layout.BASE_METRICS, {key: summary[key] for key in (*KEPT, *scored.true_rewards)})
    records.write_table(layout.BASE_SAMPLES, sample_table(scored))


if __name__ == "__main__":
    main()
