"""Token-level entropy of a policy on prompts (Eq. 11) and on its own responses, and its divergence from the base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import online_prompt_ids
from pessimism.models.adapters import use_adapter
from pessimism.models.batching import evaluation_batch_size
from pessimism.models.generation import FULL, sample_responses
from pessimism.models.logprobs import ResponseBatch, pad_pairs, position_ids, response_logits
from pessimism.params import Params


def prompt_entropy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], params: Params
) -> torch.Tensor:
    """Entropy of the next-token distribution, averaged over each prompt's own tokens (Eq. 11).

    Returns:
        (N,) nats per token, in [0, ln V]; higher = less certain.
    """
    encoded = [online_prompt_ids(tokenizer, prompt, params.protocol, params.scale.lengths) for prompt in prompts]
    size = evaluation_batch_size(params, "policy")
    means = [_batch_entropy(model, tokenizer, encoded[start : start + size]) for start in range(0, len(encoded), size)]
    return torch.cat(means)


@torch.no_grad()
def _batch_entropy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt_ids: list[list[int]]
) -> torch.Tensor:
    inputs = tokenizer.pad({"input_ids": prompt_ids}, padding_side="left", return_tensors="pt").to(model.device)
    mask_B_T = inputs["attention_mask"]
    logits = model(
        input_ids=inputs["input_ids"], attention_mask=mask_B_T, position_ids=position_ids(mask_B_T), use_cache=False
    ).logits
    logps_B_T_V = logits.float().log_softmax(dim=-1)
    entropy_B_T = -(logps_B_T_V.exp() * logps_B_T_V).sum(dim=-1) * mask_B_T
    return entropy_B_T.sum(dim=1) / mask_B_T.sum(dim=1)


def response_entropy_and_kl(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], params: Params, seeds: Sequence[int]
) -> tuple[float, float]:
    """Entropy and divergence from the base of the policy that is active on ``model``, over its own responses.

    One response per prompt is drawn from the full distribution, whatever the protocol samples from. At each of its
    tokens both distributions are compared over the whole vocabulary, which has less noise than log-ratios of the
    sampled tokens and cannot be negative.

    Args:
        seeds: one per prompt.

    Returns:
        Mean entropy per token, nats, each response weighing the same; mean KL(policy || base) per response, nats.
    """
    rollouts = sample_responses(model, tokenizer, prompts, params, seeds, sampling=FULL)
    size = evaluation_batch_size(params, "policy")
    entropies, divergences = [], []
    for start in range(0, len(prompts), size):
        rows = slice(start, start + size)
        batch = pad_pairs(rollouts.prompt_ids[rows], rollouts.response_ids[rows], tokenizer.pad_token_id, model.device)
        entropy_B, kl_B = batch_entropy_and_kl(model, batch)
        entropies.append(entropy_B)
        divergences.append(kl_B)
    return float(torch.cat(entropies).mean()), float(torch.cat(divergences).mean())


@torch.no_grad()
def batch_entropy_and_kl(model: PeftModel, batch: ResponseBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) mean entropy per token and (B,) KL to the base summed over tokens."""
    policy_B_R_V = response_logits(model, batch).log_softmax(dim=-1)
    with use_adapter(model, None):
        base_B_R_V = response_logits(model, batch).log_softmax(dim=-1)
    mask_B_R = batch.response_mask
    probabilities_B_R_V = policy_B_R_V.exp()
    entropy_B_R = -(probabilities_B_R_V * policy_B_R_V).sum(dim=-1) * mask_B_R
    kl_B_R = (probabilities_B_R_V * (policy_B_R_V - base_B_R_V)).sum(dim=-1) * mask_B_R
    return entropy_B_R.sum(dim=1) / mask_B_R.sum(dim=1), kl_B_R.sum(dim=1)
