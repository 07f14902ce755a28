"""Token-level entropy of a policy on prompts (Eq. 11) and on its own responses, and its divergence from the base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from pessimism.data.prompts import online_prompt_ids
from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.models.adapters import use_adapter
from pessimism.models.compute.batching import evaluation_tokens, token_batches
from pessimism.models.compute.generation import FULL, sample_responses
from pessimism.models.compute.logprobs import ROWS, ResponseBatch, hidden_states, score_positions, soft_cap, spread
from pessimism.models.compute.padding import pad_right
from pessimism.online.rollout import sorted_response_batches
from pessimism.tasks.parts.posing import read_shots

REVERSE = 1.0
"""TRL's name for the direction KL(policy || base)."""


def prompt_entropies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], params: Params
) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy of the next-token distribution, averaged over each prompt's tokens (Eq. 11), without and with the next.

    Returns:
        (N,) over the prompt's own tokens, each given those before it, and (N,) the same with one term more: the token
        after the prompt, which is the response's first. Nats per token, in [0, ln V]; higher = less certain.

    Raises:
        DataError: a prompt is cut to a single token, which nothing of it precedes.
    """
    shots, lengths = read_shots(params), params.scale.lengths
    encoded = [online_prompt_ids(tokenizer, prompt, params.protocol, lengths, shots) for prompt in prompts]
    if min(map(len, encoded)) < 2:
        raise DataError("found a prompt of one token; expected two or more, as Eq. 11 needs: raise lengths.prompt")
    means_2_N = torch.empty(2, len(encoded))
    for rows in token_batches([len(ids) for ids in encoded], evaluation_tokens(params, "policy")):
        means_2_N[:, rows] = _batch_entropies(model, [encoded[row] for row in rows], tokenizer.pad_token_id).cpu()
    own_N, with_next_N = means_2_N
    return own_N, with_next_N


@torch.no_grad()
def _batch_entropies(model: PreTrainedModel, prompt_ids: list[list[int]], pad_id: int) -> torch.Tensor:
    """(2, B) mean entropy of what follows each prompt's tokens: all but its last, and all of them."""
    input_ids, attention_mask = pad_right(prompt_ids, pad_id, model.device)
    real_B_T = attention_mask.bool()
    hidden_N_H = hidden_states(model, input_ids)[real_B_T]
    # The entropy does not depend on the target.
    _, entropy_N, *_ = score_positions(model, hidden_N_H, input_ids[real_B_T])
    entropy_B_T = spread(entropy_N, real_B_T)
    # Deviation: the term of the first token is left out, as a tokenizer that puts nothing in front gives it no context.
    own_B_T = torch.nn.functional.pad(real_B_T[:, 1:], (0, 1))
    return torch.stack([(entropy_B_T * counted).sum(dim=1) / counted.sum(dim=1) for counted in (own_B_T, real_B_T)])


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
    batches = _own_responses(model, tokenizer, prompts, params, seeds)
    found = [batch_entropy_and_kl(model, batch) for batch in batches]
    entropy_N, kl_N = (torch.cat(column) for column in zip(*found, strict=True))
    return entropy_N, kl_N


def _own_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    params: Params,
    seeds: Sequence[int],
) -> list[ResponseBatch]:
    rollouts = sample_responses(model, tokenizer, prompts, params, seeds, sampling=FULL)
    rows, budget = range(len(prompts)), evaluation_tokens(params, "policy")
    return sorted_response_batches(rollouts, rows, tokenizer, model.device, budget)


@torch.no_grad()
def response_entropies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    params: Params,
    seeds: Sequence[int],
) -> torch.Tensor:
    """(N,) mean entropy per token, nats, as :func:`response_entropy_and_kl` has it, of a model without adapters."""
    found = []
    for batch in _own_responses(model, tokenizer, prompts, params, seeds):
        states_N_H = hidden_states(model, batch.input_ids)[batch.scored_B_T.roll(-1, dims=1)]
        _, entropy_N, *_ = score_positions(model, states_N_H, batch.input_ids[batch.scored_B_T])
        found.append(spread(entropy_N, batch.scored_B_T).sum(dim=1) / batch.scored_B_T.sum(dim=1))
    return torch.cat(found)


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
