"""Sampling of responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import plain_ids
from pessimism.params import LengthParams, Protocol


@dataclass(frozen=True)
class Rollouts:
    """One sampled response per prompt; the ids are those that were fed and drawn, never re-tokenised text.

    Attributes:
        prompt_ids: token ids of each prompt, cut to its last ``lengths.prompt`` tokens.
        response_ids: token ids of each response, with the end-of-sequence token where it was drawn.
        texts: decoded responses without special tokens.
        finished: whether the response ended by itself before ``lengths.response`` tokens.
    """

    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    texts: list[str]
    finished: list[bool]


def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    protocol: Protocol,
    lengths: LengthParams,
    batch_size: int,
) -> Rollouts:
    """Draw one response per prompt from torch's global random stream, with dropout off.

    Prompts are padded on the left; the model's mode is restored afterwards.
    """
    was_training = model.training
    model.eval()
    prompt_ids = [plain_ids(tokenizer, prompt)[-lengths.prompt :] for prompt in prompts]
    response_ids: list[list[int]] = []
    for start in range(0, len(prompts), batch_size):
        response_ids += _sample_batch(model, tokenizer, prompt_ids[start : start + batch_size], protocol, lengths)
    model.train(was_training)
    return Rollouts(
        prompt_ids=prompt_ids,
        response_ids=response_ids,
        texts=tokenizer.batch_decode(response_ids, skip_special_tokens=True),
        finished=[bool(ids) and ids[-1] == tokenizer.eos_token_id for ids in response_ids],
    )


def _sample_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[list[int]],
    protocol: Protocol,
    lengths: LengthParams,
) -> list[list[int]]:
    inputs = tokenizer.pad({"input_ids": prompt_ids}, padding_side="left", return_tensors="pt").to(model.device)
    # Without a value here, the model's own generation config decides.
    top_k = {} if protocol.top_k is None else {"top_k": protocol.top_k}
    with torch.no_grad():
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            temperature=protocol.temperature,
            top_p=protocol.top_p,
            repetition_penalty=1.0,
            max_new_tokens=lengths.response,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **top_k,
        )
    drawn = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [_until_end(ids, tokenizer.eos_token_id) for ids in drawn]


def _until_end(ids: list[int], eos_id: int) -> list[int]:
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids
