"""Token-level entropy of a policy on a fixed set of prompts (Eq. 11)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import plain_ids
from pessimism.models.logprobs import position_ids


def prompt_entropy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    prompt_length: int,
    batch_size: int,
) -> torch.Tensor:
    """Entropy of the next-token distribution, averaged over each prompt's own tokens.

    Args:
        prompt_length: tokens; a longer prompt keeps its last ones.

    Returns:
        (N,) nats per token, in [0, ln V]; higher = less certain.
    """
    encoded = [plain_ids(tokenizer, prompt)[-prompt_length:] for prompt in prompts]
    means = [
        _batch_entropy(model, tokenizer, encoded[start : start + batch_size])
        for start in range(0, len(encoded), batch_size)
    ]
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
