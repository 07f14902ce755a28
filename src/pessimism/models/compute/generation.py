"""Sampling of responses, each from a random stream of its own.

A response depends on its prompt and its seed alone, up to rounding: not on the batch that it is drawn in, nor on how
many processes share the work. Of a model's own generation config two things count, and nothing else: the tokens that
end a response, and top-k where the protocol leaves it to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from pessimism.data.prompts import online_prompt_ids
from pessimism.experiment.params import Params, Protocol
from pessimism.models.adapters import rounded_adapters
from pessimism.models.compute.batching import generation_batch_size, length_order
from pessimism.models.compute.stopping import StopAtTexts, decoded, up_to_stop
from pessimism.models.precision import BLOCK_DTYPES
from pessimism.tasks.parts.posing import read_shots


@dataclass(frozen=True)
class Sampling:
    """What responses are drawn from. ``top_k``: None as in the model's generation config, 0 without a limit."""

    temperature: float
    top_p: float
    top_k: int | None

    def processors(self, model: PreTrainedModel, seeds: Sequence[int]) -> LogitsProcessorList:
        """What greedy search needs to draw from this distribution, one seed per row of the batch."""
        default = model.generation_config.top_k
        top_k = (DEFAULT_TOP_K if default is None else default) if self.top_k is None else self.top_k
        draw = RowDraw(top_k, self.top_p, seeds, model.device)
        return LogitsProcessorList([TemperatureLogitsWarper(self.temperature), draw])


DEFAULT_TOP_K = 50
"""Of transformers, where a model's generation config says nothing."""


class RowDraw(LogitsProcessor):
    """Adds Gumbel noise of each row's own random stream: the largest sum is a draw from the row's distribution.

    What top-k leaves out is left out first: top-p then sorts, and noise is drawn for, those K tokens alone.

    Attributes:
        top_k: 0 keeps all.
        top_p: 1 keeps all.
    """

    def __init__(self, top_k: int, top_p: float, seeds: Sequence[int], device: torch.device) -> None:
        self.top_k, self.top_p = top_k, top_p
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.top_k == 0:
            return self._perturbed(input_ids, scores)
        kept_B_K, tokens_B_K = scores.topk(min(self.top_k, scores.shape[1]))
        nothing_B_V = torch.full_like(scores, -torch.inf)
        return nothing_B_V.scatter(1, tokens_B_K, self._perturbed(input_ids, kept_B_K))

    def _perturbed(self, input_ids: torch.Tensor, scores_B_K: torch.Tensor) -> torch.Tensor:
        if self.top_p < 1:
            scores_B_K = TopPLogitsWarper(self.top_p)(input_ids, scores_B_K)
        noise_B_K = torch.empty_like(scores_B_K)
        for row, generator in zip(noise_B_K, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores_B_K - noise_B_K.log()


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
        prompt_ids: token ids of each prompt with its shots, at most ``lengths.prompt``.
        response_ids: token ids of each response, with the token that ended it where one was drawn: an end token, or
            the one that completed a stop string.
        texts: decoded responses without special tokens, before their stop string.
        finished: whether the response ended by itself, by an end token or a stop string, within ``lengths.response``
            tokens.
        stops: the stop string that ended each response, empty where none did.
    """

    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    texts: list[str]
    finished: list[bool]
    stops: list[str]

    def rows(self, start: int, stop: int) -> Rollouts:
        """The rollouts from ``start`` up to ``stop``."""
        kept = slice(start, stop)
        return Rollouts(*(getattr(self, field.name)[kept] for field in fields(self)))


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a response: the tokenizer's EOS, which training appends, and those of the generation config."""
    listed = model.generation_config.eos_token_id
    others = listed if isinstance(listed, list) else [listed]
    return sorted({tokenizer.eos_token_id, *(token for token in others if token is not None)})


def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    params: Params,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
) -> Rollouts:
    """Draw one response per prompt, with dropout off. The model's mode is restored afterwards.

    Every prompt comes after the shots that prepare_data set apart, and a response ends at a stop string, where the
    scale has any (``tasks.shots``, ``tasks.stop``).

    Args:
        seeds: one per prompt.
        sampling: None samples as the protocol says.
    """
    scale, protocol = params.scale, params.protocol
    chosen = protocol_sampling(protocol) if sampling is None else sampling
    shots, stops = read_shots(params), scale.tasks.stop
    prompt_ids = [online_prompt_ids(tokenizer, prompt, protocol, scale.lengths, shots) for prompt in prompts]
    response_ids: list[list[int]] = [[]] * len(prompts)
    ends = end_ids(model, tokenizer)
    size, order = generation_batch_size(params), length_order([len(ids) for ids in prompt_ids])
    with _eval_mode(model), rounded_adapters(model, BLOCK_DTYPES[scale.policy.dtype]):
        for start in range(0, len(prompts), size):
            rows = order[start : start + size]
            processors = chosen.processors(model, [seeds[row] for row in rows])
            batch = [prompt_ids[row] for row in rows]
            drawn = _sample_batch(model, tokenizer, batch, processors, ends, scale.lengths.response, stops)
            for row, ids in zip(rows, drawn, strict=True):
                response_ids[row] = ids
    if not stops:
        texts, stopped = decoded(tokenizer, response_ids), [""] * len(prompts)
    else:
        cut = [up_to_stop(tokenizer, ids, stops) for ids in response_ids]
        response_ids, texts, stopped = map(list, zip(*cut, strict=True))
    finished = [bool(stop) or (bool(ids) and ids[-1] in ends) for ids, stop in zip(response_ids, stopped, strict=True)]
    return Rollouts(prompt_ids, response_ids, texts, finished, stopped)


@contextmanager
def _eval_mode(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _generating_by(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Put ``config`` in the place of the model's own, from which transformers fills in whatever a call leaves open."""
    own = {module: module.generation_config for module in model.modules() if "generation_config" in vars(module)}
    try:
        for module in own:
            module.generation_config = config
        yield
    finally:
        for module, before in own.items():
            module.generation_config = before


def _sample_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[list[int]],
    processors: LogitsProcessorList,
    ends: list[int],
    response_length: int,
    stops: Sequence[str],
) -> list[list[int]]:
    # Deviation: the notebook pads on the right, where the first token of a shorter row is drawn after padding.
    inputs = tokenizer.pad({"input_ids": prompt_ids}, padding_side="left", return_tensors="pt").to(model.device)
    start = inputs["input_ids"].shape[1]
    config = GenerationConfig(
        max_new_tokens=response_length,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=ends,
        do_sample=False,  # the processors draw
    )
    with torch.inference_mode(), _generating_by(model, config):
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            generation_config=config,
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([StopAtTexts(tokenizer, stops, start)] if stops else []),
        )
    drawn = output[:, start:].tolist()
    return [_until_end(ids, ends) for ids in drawn]


def _until_end(ids: list[int], ends: list[int]) -> list[int]:
    length = next((position + 1 for position, token in enumerate(ids) if token in ends), len(ids))
    return ids[:length]
