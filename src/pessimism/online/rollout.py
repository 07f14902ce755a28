"""Responses with their proxy and true rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import math_prompt
from pessimism.experiment.params import Params, Protocol
from pessimism.models.compute.batching import token_batches
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.models.compute.logprobs import ResponseBatch, pad_pairs
from pessimism.reward.ensemble import RewardEnsemble, aggregate, disagreement
from pessimism.tasks.answers import true_reward, true_reward_flexible


@dataclass(frozen=True)
class ScoredRollouts:
    """One response per problem with its rewards, arrays of shape (B,).

    ``true_reward`` is the strict rule's, ``true_reward_flexible`` the other's (``pessimism.tasks.answers``).
    """

    task_ids: list[str]
    prompts: list[str]
    rollouts: Rollouts
    proxy_reward: np.ndarray
    ensemble_std: np.ndarray
    true_reward: np.ndarray
    true_reward_flexible: np.ndarray

    @property
    def response_tokens(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.rollouts.response_ids])

    @classmethod
    def joined(cls, parts: Sequence[ScoredRollouts]) -> ScoredRollouts:
        """The responses of all ``parts``, in order."""
        rollouts = {
            name: [row for part in parts for row in getattr(part.rollouts, name)]
            for name in ("prompt_ids", "response_ids", "texts", "finished")
        }
        rewards = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("proxy_reward", "ensemble_std", "true_reward", "true_reward_flexible")
        }
        return cls(
            task_ids=[task for part in parts for task in part.task_ids],
            prompts=[prompt for part in parts for prompt in part.prompts],
            rollouts=Rollouts(**rollouts),
            **rewards,
        )


def roll_out(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    tasks: pd.DataFrame,
    params: Params,
    seeds: Sequence[int],
    reward_dropout_seed: int | None = None,
) -> ScoredRollouts:
    """Sample a response to every problem and score it: ensemble (Eq. 13) and exact match.

    Args:
        seeds: one per problem.
        reward_dropout_seed: None scores with dropout off; a seed scores in training mode.
    """
    prompts = [math_prompt(question, params.scale.tasks.prompt_template) for question in tasks["question"]]
    rollouts = sample_responses(model, tokenizer, prompts, params, seeds)
    texts_and_answers = list(zip(rollouts.texts, tasks["answer"], strict=True))
    scores_K_B = ensemble.score(prompts, rollouts.texts, reward_dropout_seed)
    return ScoredRollouts(
        task_ids=list(tasks["task_id"]),
        prompts=prompts,
        rollouts=rollouts,
        proxy_reward=aggregate(scores_K_B, params.aggregation, params.protocol.uwo_weight),
        ensemble_std=disagreement(scores_K_B),
        true_reward=np.array([true_reward(*pair) for pair in texts_and_answers]),
        true_reward_flexible=np.array([true_reward_flexible(*pair) for pair in texts_and_answers]),
    )


def reward_summary(scored: ScoredRollouts) -> dict[str, float]:
    """Means and spreads (ddof 1) over the prompts of one batch or evaluation."""
    return {
        "prompts": len(scored.task_ids),
        "proxy_reward": float(scored.proxy_reward.mean()),
        "proxy_reward_sd": float(scored.proxy_reward.std(ddof=1)),
        "true_reward": float(scored.true_reward.mean()),
        "true_reward_sd": float(scored.true_reward.std(ddof=1)),
        "true_reward_flexible": float(scored.true_reward_flexible.mean()),
        "ensemble_std": float(scored.ensemble_std.mean()),
        "response_length": float(scored.response_tokens.mean()),
        "finished_fraction": float(np.mean(scored.rollouts.finished)),
        "tokens": int(scored.response_tokens.sum()),
    }


def sample_table(scored: ScoredRollouts) -> pd.DataFrame:
    """One row per problem with its rewards."""
    return pd.DataFrame(
        {
            "task_id": scored.task_ids,
            "proxy_reward": scored.proxy_reward,
            "true_reward": scored.true_reward,
            "true_reward_flexible": scored.true_reward_flexible,
            "ensemble_std": scored.ensemble_std,
            "response_tokens": scored.response_tokens,
        }
    )


def trained_response_ids(rollouts: Rollouts, tokenizer: PreTrainedTokenizerBase, protocol: Protocol) -> list[list[int]]:
    """Ids of the responses whose log-probabilities the online loss takes.

    The sampled ids with the token that ended them are what was drawn; the protocol may ask for the decoded text
    tokenised again, and for the end to be left out. A response may then be empty and has no share in the loss.
    """
    if protocol.retokenize_responses:
        bodies = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in rollouts.texts]
    else:
        bodies = [ids[:-1] if done else ids for ids, done in zip(rollouts.response_ids, rollouts.finished, strict=True)]
    if not protocol.score_eos:
        return bodies
    rows = zip(bodies, rollouts.response_ids, rollouts.finished, strict=True)
    return [[*body, drawn[-1]] if done else body for body, drawn, done in rows]


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
