"""Sampling of responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import online_prompt_ids
from pessimism.params import Params, Protocol


@dataclass(frozen=True)
class Sampling:
    """What responses are drawn from. ``top_k``: None as in the model's generation config, 0 without a limit."""

    temperature: float
    top_p: float
    top_k: int | None

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of ``generate``; what is not given there, the model's own generation config decides."""
        options = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "repetition_penalty": 1.0}
        return options if self.top_k is None else options | {"top_k": self.top_k}


FULL = Sampling(temperature=1.0, top_p=1.0, top_k=0)
"""The model's own distribution, of which log-probabilities, entropy and KL are taken."""


def protocol_sampling(protocol: Protocol) -> Sampling:
    """What the protocol samples from."""
    if protocol.sampling == "full":
        return FULL
    return Sampling(protocol.temperature, protocol.top_p, protocol.top_k)


@dataclass(frozen=True)
class Rollouts:
    """One sampled response per prompt; the ids are those that were fed and drawn, never re-tokenised text.

    Attributes:
        prompt_ids: token ids of each prompt, at most ``lengths.prompt``.
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
    params: Params,
    sampling: Sampling | None = None,
) -> Rollouts:
    """Draw one response per prompt from torch's global random stream, with dropout off.

    The model's mode is restored afterwards.

    Args:
        sampling: None samples as the protocol says.
    """
    scale, protocol = params.scale, params.protocol
    chosen = protocol_sampling(protocol) if sampling is None else sampling
    side = "right" if protocol.right_padding else "left"
    was_training = model.training
    model.eval()
    prompt_ids = [online_prompt_ids(tokenizer, prompt, protocol, scale.lengths) for prompt in prompts]
    response_ids: list[list[int]] = []
    for start in range(0, len(prompts), scale.evaluation_batch_size):
        batch = prompt_ids[start : start + scale.evaluation_batch_size]
        response_ids += _sample_batch(model, tokenizer, batch, chosen, scale.lengths.response, side)
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
    sampling: Sampling,
    response_length: int,
    padding_side: str,
) -> list[list[int]]:
    inputs = tokenizer.pad({"input_ids": prompt_ids}, padding_side=padding_side, return_tensors="pt").to(model.device)
    with torch.no_grad():
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=response_length,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **sampling.options,
        )
    drawn = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [_until_end(ids, tokenizer.eos_token_id) for ids in drawn]


def _until_end(ids: list[int], eos_id: int) -> list[int]:
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids
