"""Measure the base policy's rewards on the held-out problems and its entropy, sampled once for all cells.

Reads: the base, the reward ensembles, the held-out problems, the probes' problems.
Writes: metrics/base.json (means and standard deviations over problems, ddof 1; of the proxy reward by seed and their
means over seeds; entropies as a checkpoint's), data/base_samples.parquet (one row per seed, whose ensemble gave the
proxy reward, and problem).
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pessimism.checks import stage
from pessimism.experiment import layout, records, rng
from pessimism.experiment.cells import seed_key
from pessimism.experiment.params import Params
from pessimism.models.compute.generation import Rollouts
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.rollout import ScoredRollouts, reward_summary, sample, sample_table, score
from pessimism.probes.parts.distributions import prompt_entropies, response_entropies
from pessimism.probes.parts.readings import probe_problems
from pessimism.reward.ensemble import RewardEnsemble, of_each_seed
from pessimism.tasks.parts.posing import posed

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BY_ENSEMBLE = ("proxy_reward", "proxy_reward_sd")
SHARED = ("prompts", "true_reward_sd", "response_length", "run_on_fraction")


def draw(params: Params, heldout: pd.DataFrame) -> tuple[Rollouts, dict[str, float]]:
    """The base policy's response to every problem, and its entropies; it is gone when the reward models come."""
    model, tokenizer = load_policy_base(params), load_tokenizer(params, "policy")
    seeds = rng.row_seeds(params.root_seed, "measure-base", rows=len(heldout))
    return sample(model, tokenizer, heldout, params, seeds), entropies(model, tokenizer, params, heldout)


def entropies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, params: Params, heldout: pd.DataFrame
) -> dict[str, float]:
    """What the entropy probe finds of a checkpoint, of the base; its responses are drawn as those of the first seed."""
    problems = probe_problems(params, records.read_table(layout.tasks("test")))
    own_N, with_next_N = prompt_entropies(model, tokenizer, posed(problems["question"], params), params)
    seeds = rng.row_seeds(params.root_seed, "probe-divergence", params.seeds[0], rows=len(heldout))
    response_P = response_entropies(model, tokenizer, posed(heldout["question"], params), params, seeds)
    found = {"prompt_entropy": own_N, "prompt_and_next_entropy": with_next_N, "response_entropy": response_P}
    return {name: float(entropy_N.mean()) for name, entropy_N in found.items()}


def base_metrics(scored: Mapping[int, ScoredRollouts]) -> dict[str, Any]:
    """What metrics/base.json holds: what the rewards of the ensembles have no part in is the same for every seed."""
    summaries = {seed: reward_summary(rollouts) for seed, rollouts in scored.items()}
    first, columns = next(iter(summaries.values())), next(iter(scored.values())).true_rewards
    by_seed = {seed_key(seed): {key: summary[key] for key in BY_ENSEMBLE} for seed, summary in summaries.items()}
    means = {key: fmean(values[key] for values in by_seed.values()) for key in BY_ENSEMBLE}
    return {key: first[key] for key in (*SHARED, *columns)} | means | {"seeds": by_seed}


@stage.main("measure_base")
def main(params: Params) -> None:
    import pandas as pd

    heldout = records.read_table(layout.tasks("heldout"))
    drawn, entropy = draw(params, heldout)
    scored = of_each_seed(params, RewardEnsemble.load, lambda _, ensemble: score(drawn, ensemble, heldout, params))
    records.write_json(layout.BASE_METRICS, base_metrics(scored) | entropy)
    samples = [sample_table(rollouts).assign(seed=seed) for seed, rollouts in scored.items()]
    records.write_table(layout.BASE_SAMPLES, pd.concat(samples, ignore_index=True))


if __name__ == "__main__":
    main()
