"""Token-level entropy of a policy on prompts (Eq. 11) and on its own responses, and its divergence from the base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from pessimism.data.prompts import online_prompt_ids
from pessimism.experiment.params import Params
from pessimism.models.adapters import use_adapter
from pessimism.models.compute.batching import evaluation_tokens, token_batches
from pessimism.models.compute.generation import FULL, sample_responses
from pessimism.models.compute.logprobs import ROWS, ResponseBatch, hidden_states, score_positions, soft_cap, spread
from pessimism.models.compute.padding import pad_right
from pessimism.online.rollout import sorted_response_batches

REVERSE = 1.0
"""TRL's name for the direction KL(policy || base)."""


def prompt_entropy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], params: Params
) -> torch.Tensor:
    """Entropy of the next-token distribution, averaged over each prompt's own tokens (Eq. 11).

    Returns:
        (N,) nats per token, in [0, ln V]; higher = less certain.
    """
    encoded = [online_prompt_ids(tokenizer, prompt, params.protocol, params.scale.lengths) for prompt in prompts]
    means_N = torch.empty(len(encoded))
    for rows in token_batches([len(ids) for ids in encoded], evaluation_tokens(params, "policy")):
        means_N[rows] = _batch_entropy(model, [encoded[row] for row in rows], tokenizer.pad_token_id).cpu()
    return means_N


@torch.no_grad()
def _batch_entropy(model: PreTrainedModel, prompt_ids: list[list[int]], pad_id: int) -> torch.Tensor:
    """(B,) mean over each prompt's tokens of the entropy of what follows them."""
    input_ids, attention_mask = pad_right(prompt_ids, pad_id, model.device)
    real_B_T = attention_mask.bool()
    hidden_N_H = hidden_states(model, input_ids)[real_B_T]
    # The entropy does not depend on the target.
    _, entropy_N, *_ = score_positions(model, hidden_N_H, input_ids[real_B_T])
    return spread(entropy_N, real_B_T).sum(dim=1) / real_B_T.sum(dim=1)


def response_entropy_and_kl(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], params: Params, seeds: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy and divergence from the base of the policy that is active on ``model``, over its own responses.

    One response per prompt is drawn from the full distribution, whatever the protocol samples from. At each of its
    tokens both distributions are compared over the whole vocabulary, which has less noise than log-ratios of the
    sampled tokens and cannot be negative.

    Args:
        seeds: one per prompt.

    Returns:
        (N,) mean entropy per token, nats, and (N,) KL(policy || base), nats, of each response.
    """
    rollouts = sample_responses(model, tokenizer, prompts, params, seeds, sampling=FULL)
    rows, budget = range(len(prompts)), evaluation_tokens(params, "policy")
    batches = sorted_response_batches(rollouts, rows, tokenizer, model.device, budget)
    found = [batch_entropy_and_kl(model, batch) for batch in batches]
    entropy_N, kl_N = (torch.cat(column) for column in zip(*found, strict=True))
    return entropy_N, kl_N


@torch.no_grad()
def batch_entropy_and_kl(model: PeftModel, batch: ResponseBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) mean entropy per token and (B,) KL to the base summed over tokens."""
    predicting_B_T = batch.scored_B_T.roll(-1, dims=1)
    policy_N_H = hidden_states(model, batch.input_ids)[predicting_B_T]
    with use_adapter(model, None):
        base_N_H = hidden_states(model, batch.input_ids)[predicting_B_T]
    head, cap = model.get_output_embeddings(), soft_cap(model)
    found = [
        ChunkedDivergenceFunction.apply(
            policy_R_H, head.weight, head.bias, base_R_H, head.weight, head.bias, REVERSE, 1.0, 1.0, cap, 1.0, cap
        )
        for policy_R_H, base_R_H in zip(policy_N_H.split(ROWS), base_N_H.split(ROWS), strict=True)
    ]
    kl_N, entropy_N = (torch.cat(column) for column in zip(*found, strict=True))
    entropy_B = spread(entropy_N, batch.scored_B_T).sum(dim=1) / batch.scored_B_T.sum(dim=1)
    return entropy_B, spread(kl_N, batch.scored_B_T).sum(dim=1)
