"""Many responses of one checkpoint to the same problems, of which an optimiser may choose."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.experiment import rng
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import Params
from pessimism.online.rollout import roll_out
from pessimism.reward.ensemble import RewardEnsemble, member_name


def draw_seeds(params: Params, cell: DpoCell, problems: int) -> list[int]:
    """One seed per problem and draw, the draws of a problem in a row.

    A draw's seed depends on neither the number of problems nor that of draws. Betas of a seed share it where paired.
    """
    stream = rng.run_stream(params.protocol, cell.label, cell.seed)
    of_problems = (
        rng.row_seeds(params.root_seed, "best-of-n", *stream, problem, rows=params.scale.best_of_n.draws)
        for problem in range(problems)
    )
    return [seed for seeds in of_problems for seed in seeds]


def draw_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    problems: pd.DataFrame,
    params: Params,
    seeds: Sequence[int],
) -> pd.DataFrame:
    """Draw and score ``best_of_n.draws`` responses to every problem, sampled as the protocol says, dropout off.

    Args:
        problems: one row each.
        seeds: one per row of the result.

    Returns:
        One row per problem and ``draw``, those of a problem in a row: ``task_id``, a column per member of the ensemble
        (``member-0``), ``proxy_reward`` by the design's aggregation, ``true_reward``.
    """
    draws = params.scale.best_of_n.draws
    repeated = problems.loc[problems.index.repeat(draws)]
    scored = roll_out(model, tokenizer, ensemble, repeated, params, seeds)
    return pd.DataFrame(
        {
            "task_id": scored.task_ids,
            "draw": list(range(draws)) * len(problems),
            **dict(zip(map(member_name, ensemble.members), scored.member_rewards, strict=True)),
            "proxy_reward": scored.proxy_reward,
            "true_reward": scored.true_reward,
        }
    )
