"""Responses with their proxy and true rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.annotator import exploit_counts
from pessimism.data.prompts import text_ids
from pessimism.experiment.params import Params, Protocol
from pessimism.models.compute.batching import token_batches
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.models.compute.logprobs import ResponseBatch, pad_pairs
from pessimism.models.compute.stopping import ids_within
from pessimism.reward.aggregation import aggregate, disagreement, proxy_aggregation
from pessimism.reward.ensemble import RewardEnsemble
from pessimism.tasks.parts.declaration import TRUE_REWARD, chosen_task
from pessimism.tasks.parts.posing import posed, reward_prompts


@dataclass(frozen=True)
class ScoredRollouts:
    """One response per problem with its rewards, arrays of shape (B,).

    Attributes:
        member_rewards: (K, B) of each member of the ensemble, in its order.
        true_rewards: by column (``true_reward``, ``true_reward_flexible``), what the task's verdicts give; in [0, 1].
        runs_on: whether the response goes on after its answer.
    """

    task_ids: list[str]
    prompts: list[str]
    rollouts: Rollouts
    member_rewards: np.ndarray
    proxy_reward: np.ndarray
    ensemble_std: np.ndarray
    true_rewards: dict[str, np.ndarray]
    runs_on: np.ndarray

    @property
    def true_reward(self) -> np.ndarray:
        """Reward r*, by the strict verdict."""
        return self.true_rewards[TRUE_REWARD]

    @property
    def response_tokens(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.rollouts.response_ids])

    @classmethod
    def joined(cls, parts: Sequence[ScoredRollouts]) -> ScoredRollouts:
        """The responses of all ``parts``, in order."""
        columns = parts[0].true_rewards
        rollouts = {
            name: [row for part in parts for row in getattr(part.rollouts, name)]
            for name in ("prompt_ids", "response_ids", "texts", "finished", "stops")
        }
        return cls(
            task_ids=[task for part in parts for task in part.task_ids],
            prompts=[prompt for part in parts for prompt in part.prompts],
            rollouts=Rollouts(**rollouts),
            member_rewards=np.concatenate([part.member_rewards for part in parts], axis=1),
            proxy_reward=np.concatenate([part.proxy_reward for part in parts]),
            ensemble_std=np.concatenate([part.ensemble_std for part in parts]),
            true_rewards={column: np.concatenate([part.true_rewards[column] for part in parts]) for column in columns},
            runs_on=np.concatenate([part.runs_on for part in parts]),
        )


@dataclass(frozen=True)
class TaskBatch:
    """Problems that are answered and scored together.

    Attributes:
        tasks: one row per response.
        seeds: of the draws, one per row.
        reward_dropout_seed: None scores with dropout off; a seed scores in training mode.
    """

    tasks: pd.DataFrame
    seeds: Sequence[int]
    reward_dropout_seed: int | None = None


def roll_out(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    tasks: pd.DataFrame,
    params: Params,
    seeds: Sequence[int],
) -> ScoredRollouts:
    """Sample a response to every problem and score it, with dropout off.

    Args:
        seeds: one per problem.
    """
    (scored,) = roll_out_batches(model, tokenizer, ensemble, [TaskBatch(tasks, seeds)], params)
    return scored


def roll_out_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    batches: Sequence[TaskBatch],
    params: Params,
) -> list[ScoredRollouts]:
    """Sample the responses of all batches together, and score each batch."""
    seeds = [seed for batch in batches for seed in batch.seeds]
    drawn = sample(model, tokenizer, pd.concat([batch.tasks for batch in batches]), params, seeds)
    scored, start = [], 0
    for batch in batches:
        end = start + len(batch.tasks)
        scored.append(score(drawn.rows(start, end), ensemble, batch.tasks, params, batch.reward_dropout_seed))
        start = end
    return scored


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: pd.DataFrame,
    params: Params,
    seeds: Sequence[int],
) -> Rollouts:
    """Draw a response to every problem; ``seeds`` are one per problem."""
    return sample_responses(model, tokenizer, posed(tasks["question"], params), params, seeds)


def score(
    rollouts: Rollouts,
    ensemble: RewardEnsemble,
    tasks: pd.DataFrame,
    params: Params,
    reward_dropout_seed: int | None = None,
) -> ScoredRollouts:
    """Rewards of one response to every problem: of the ensemble (Eq. 13), and the task's verdicts.

    Args:
        reward_dropout_seed: None scores with dropout off; a seed scores in training mode.
    """
    task = chosen_task(params.scale.tasks)
    scores_K_B = ensemble.score(reward_prompts(tasks["question"], params), rollouts.texts, reward_dropout_seed)
    return ScoredRollouts(
        task_ids=list(tasks["task_id"]),
        prompts=posed(tasks["question"], params),
        rollouts=rollouts,
        member_rewards=scores_K_B,
        proxy_reward=aggregate(scores_K_B, proxy_aggregation(params)),
        ensemble_std=disagreement(scores_K_B),
        true_rewards=task.judge(rollouts.texts, list(tasks["answer"])),
        runs_on=np.array([task.runs_on(text) for text in rollouts.texts]),
    )


def reward_summary(scored: ScoredRollouts) -> dict[str, float]:
    """Means and spreads (ddof 1) over the prompts of one batch or evaluation, taken in double precision.

    So whoever averages the samples finds the same numbers.
    """
    proxy, ensemble_std = (values.astype(np.float64) for values in (scored.proxy_reward, scored.ensemble_std))
    return {
        "prompts": len(scored.task_ids),
        "proxy_reward": float(proxy.mean()),
        "proxy_reward_sd": float(proxy.std(ddof=1)),
        "true_reward": float(scored.true_reward.mean()),
        "true_reward_sd": float(scored.true_reward.std(ddof=1)),
        **{column: float(rewards.mean()) for column, rewards in scored.true_rewards.items() if column != TRUE_REWARD},
        "ensemble_std": float(ensemble_std.mean()),
        "response_length": float(scored.response_tokens.mean()),
        "finished_fraction": float(np.mean(scored.rollouts.finished)),
        "run_on_fraction": float(scored.runs_on.mean()),
        "tokens": int(scored.response_tokens.sum()),
    }


def sample_table(scored: ScoredRollouts) -> pd.DataFrame:
    """One row per problem with its rewards, and how often its response has each exploit that an annotator may like."""
    exploits = pd.DataFrame([exploit_counts(text) for text in scored.rollouts.texts])
    return pd.DataFrame(
        {
            "task_id": scored.task_ids,
            "proxy_reward": scored.proxy_reward,
            **scored.true_rewards,
            "ensemble_std": scored.ensemble_std,
            "response_tokens": scored.response_tokens,
            **{str(name): counts for name, counts in exploits.items()},
        }
    )


def shown_rollouts(scored: ScoredRollouts, tasks: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """The responses to ``count`` of the problems ``tasks`` with their rewards, to be read.

    The shortest problem of all, the longest, and those at equal distances between them in the order of their length:
    the same ones whoever answers.
    """
    return [
        {
            "task_id": scored.task_ids[index],
            "prompt": scored.prompts[index],
            "response": scored.rollouts.texts[index],
            "answer": tasks["answer"].iloc[index],
            "proxy_reward": float(scored.proxy_reward[index]),
            **{column: float(rewards[index]) for column, rewards in scored.true_rewards.items()},
        }
        for index in _by_length(scored.prompts, count)
    ]


def _by_length(prompts: Sequence[str], count: int) -> list[int]:
    """Indices of at most ``count`` prompts, the shortest first."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    return [order[place] for place in np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]


def trained_response_ids(rollouts: Rollouts, tokenizer: PreTrainedTokenizerBase, protocol: Protocol) -> list[list[int]]:
    """Ids of the responses whose log-probabilities the online loss takes.

    The sampled ids with the tokens that ended them are what was drawn; the protocol may ask for the decoded text
    tokenised again, and for the end to be left out. A response may then be empty and has no share in the loss. A token
    that holds the last of a text and the first of its stop string is of the end.
    """
    split = _retokenized if protocol.retokenize_responses else _as_drawn
    rows = zip(rollouts.response_ids, rollouts.texts, rollouts.finished, rollouts.stops, strict=True)
    both = [split(tokenizer, *row) for row in rows]
    return [whole if protocol.score_eos else body for body, whole in both]


def _as_drawn(
    tokenizer: PreTrainedTokenizerBase, drawn: list[int], text: str, finished: bool, stop: str
) -> tuple[list[int], list[int]]:
    """The drawn ids without and with those that ended the response."""
    kept = ids_within(tokenizer, drawn, text) if stop else len(drawn) - finished
    return drawn[:kept], drawn


def _retokenized(
    tokenizer: PreTrainedTokenizerBase, drawn: list[int], text: str, finished: bool, stop: str
) -> tuple[list[int], list[int]]:
    """As :func:`_as_drawn`, of the decoded text."""
    body = text_ids(tokenizer, text)
    if stop:
        return body, text_ids(tokenizer, text + stop)
    return body, [*body, drawn[-1]] if finished else body


def response_batch(
    rollouts: Rollouts,
    response_ids: Sequence[Sequence[int]],
    rows: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
) -> ResponseBatch:
    """The prompts of ``rows`` with their responses."""
    prompts, responses = [rollouts.prompt_ids[row] for row in rows], [response_ids[row] for row in rows]
    return pad_pairs(prompts, responses, tokenizer.pad_token_id, device)


def sorted_response_batches(
    rollouts: Rollouts, rows: range, tokenizer: PreTrainedTokenizerBase, device: torch.device, budget: int
) -> list[ResponseBatch]:
    """The sampled responses of ``rows``, neighbours by length together: for what does not depend on their order.

    Args:
        budget: padded tokens of a batch.
    """
    lengths = [len(rollouts.prompt_ids[row]) + len(rollouts.response_ids[row]) for row in rows]
    return [
        response_batch(rollouts, rollouts.response_ids, [rows[place] for place in batch], tokenizer, device)
        for batch in token_batches(lengths, budget)
    ]
