"""The passes that stages make over models, each traced once at its largest shape by the stages' own code."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import cast

import torch
from peft import PeftModel
from transformers import DynamicCache, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import EncodedPair
from pessimism.experiment.params import LengthParams
from pessimism.models.adapters import rounded_adapters, trainable_parameters, use_adapter
from pessimism.models.compute.generation import RowDraw, Sampling
from pessimism.models.compute.length_groups import compute_rows
from pessimism.models.compute.logprobs import ResponseBatch
from pessimism.models.compute.prefix_sharing import PairRows, TextRows, shares_prefixes
from pessimism.offline.reference import pair_logps, sequence_logps
from pessimism.offline.trainer import add_chunked_head
from pessimism.online.objectives.reinforce import OBJECTIVE
from pessimism.online.update import Passes, accumulate_gradients
from pessimism.planning.bases import META, resident_tensors, size
from pessimism.planning.kernels import Target, kernels_of
from pessimism.planning.lengths import Load
from pessimism.planning.tracing import ACTIVATIONS, Fill, Trace, Work
from pessimism.probes.parts.distributions import batch_entropy_and_kl
from pessimism.reward.ensemble import RewardEnsemble

CACHE = "KV cache"
FEWEST_PROMPT_TOKENS = 8
"""Of a pair's prompt with the tokens of its format: the fewer, the more positions are scored at once."""


@dataclass(frozen=True)
class Pass:
    """One call of a model at its largest.

    Attributes:
        rows: sequences of the call.
        tokens: positions of the call.
        scored: of them, those that the head scores.
        memory: bytes by component at the peak, beside what stays in memory all the time.
        work: floating-point operations and bytes moved of one call.
        unmasked: first positions of a pair's row that no mask covers; None where all of a row is alike.
    """

    name: str
    rows: int
    tokens: int
    scored: int
    memory: dict[str, int]
    work: Work
    unmasked: int | None = None

    def fill(self, load: Load) -> Fill:
        """How full such calls are, beside this one."""
        width = self.tokens / self.rows
        squares = self.rows * (width if self.unmasked is None else self.unmasked) ** 2
        scored = load.scored / self.scored if self.scored else 0.0
        filled = Fill(load.positions / self.tokens, load.squares / squares, scored, load.passes)
        if self.unmasked is None or load.masked is None:
            return filled
        return replace(filled, masked=load.masked / (self.rows * (width - self.unmasked) * width))


@dataclass(frozen=True)
class Tracer:
    """Traces passes as ``target`` would run them, on texts of the greatest length.

    Attributes:
        cache_dtype: of the policy's keys and values.
    """

    target: Target
    lengths: LengthParams
    cache_dtype: torch.dtype

    def logps(self, model: PreTrainedModel, rows: int, dtypes: tuple[torch.dtype, ...], context: int) -> Pass:
        """Log-probabilities of whole sequences (offline.reference)."""
        length = self.lengths.sequence
        sequences = [[1] * length] * rows

        def call() -> None:
            with contextlib.redirect_stderr(io.StringIO()):  # the progress bar of one batch
                sequence_logps(model, sequences, [context] * rows, 0, rows * length, "", dtypes)

        return self._trace("log-probabilities", model, rows, length, call, scored=rows * (length - context))

    def pair_logps(self, model: PreTrainedModel, texts: int) -> Pass:
        """Log-probabilities of the responses of pairs, in a pass as large as so many texts (offline.reference)."""
        length, prompt = self.lengths.sequence, FEWEST_PROMPT_TOKENS
        one_row = shares_prefixes(model)
        pairs = max(1, texts * length // (2 * length - prompt) if one_row else texts // 2)
        pair = EncodedPair([1] * prompt, [1] * (length - prompt), [1] * (length - prompt))
        rows, width = (pairs, 2 * length) if one_row else (2 * pairs, length)  # without numbers, pairs share no token

        def call() -> None:
            with contextlib.redirect_stderr(io.StringIO()):  # the progress bar of one batch
                pair_logps(model, [pair] * pairs, 0, texts * length, "")

        scored = 2 * pairs * (length - prompt)
        return self._of_pairs(self._trace("log-probabilities", model, rows, width, call, scored))

    def dpo_step(self, model: PeftModel, pairs: int, checkpointing: bool) -> Pass:
        """Forward and backward pass of TRL's DPO loss on pairs whose reference is known."""
        ids = _ids(2 * pairs, self.lengths.sequence)
        reference = torch.zeros(pairs, device=META)
        _prepare_training(model, checkpointing)
        rows = self._compute_pairs(model, ids)
        add_chunked_head(model.get_base_model())

        def call() -> None:
            outputs = model(input_ids=ids, use_cache=False, labels=ids, fused_lm_head=True)
            chosen, rejected = outputs.log_probs.sum(dim=1).chunk(2, dim=0)
            margins = (chosen - reference) - (rejected - reference)
            (-torch.nn.functional.logsigmoid(margins)).mean().backward()

        scored = 2 * pairs * (self.lengths.sequence - FEWEST_PROMPT_TOKENS)
        return self._of_pairs(self._trace("training step", model, len(rows), rows[0], call, scored))

    def reward_step(self, model: PeftModel, pairs: int, checkpointing: bool) -> Pass:
        """Forward and backward pass of TRL's Bradley-Terry loss."""
        ids = _ids(2 * pairs, self.lengths.sequence)
        _prepare_training(model, checkpointing)
        rows = self._compute_pairs(model, ids)

        def call() -> None:
            rewards = model(input_ids=ids, use_cache=False).logits.squeeze(-1)
            chosen, rejected = torch.chunk(rewards, chunks=2)
            (-torch.nn.functional.logsigmoid(chosen - rejected)).mean().backward()

        return self._of_pairs(self._trace("training step", model, len(rows), rows[0], call))

    def online_step(self, passes: Passes, rows: int, parts: int) -> Pass:
        """Gradients of the online loss over a batch in ``parts`` of ``rows`` (online.update)."""
        batch, advantages = self._response_batch(rows), torch.zeros(parts * rows, device=META)
        model = passes.model
        _hold_gradients(model)
        if passes.checkpointing:
            model.activation_checkpointing_enable()

        def coefficient(log_ratios: torch.Tensor) -> torch.Tensor:
            return torch.zeros(())

        def call() -> None:
            accumulate_gradients(passes, [batch] * parts, advantages, coefficient, OBJECTIVE.loss, [0] * parts)

        found = self._trace("training step", model, parts * rows, batch.input_ids.shape[1], call, self._responses(rows))
        return replace(found, scored=parts * found.scored)

    def compare(self, passes: Passes, rows: int) -> Pass:
        """Log-probabilities and entropies of policy and reference, without a gradient (online.update)."""
        batch = self._response_batch(rows)
        return self._trace(
            "held-out log-probabilities",
            passes.model,
            rows,
            batch.input_ids.shape[1],
            lambda: passes.compare(batch),
            self._responses(rows),
        )

    def divergence(self, model: PeftModel, rows: int, policy: str) -> Pass:
        """Entropy of a policy and its divergence from the base, over the whole vocabulary (probes.parts)."""
        batch = self._response_batch(rows)
        model.eval()

        def call() -> None:
            with use_adapter(model, policy):
                batch_entropy_and_kl(model, batch)

        return self._trace("entropy and divergence", model, rows, batch.input_ids.shape[1], call, self._responses(rows))

    def prefill(self, model: PreTrainedModel, rows: int) -> Pass:
        """The first forward pass of generation, over the prompts."""
        ids = _ids(rows, self.lengths.prompt)
        mask = torch.ones_like(ids)

        def call() -> None:
            with torch.no_grad():
                model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)

        return self._trace("generation, prompts", model, rows, self.lengths.prompt, call)

    def decode(self, model: PreTrainedModel, rows: int, sampling: Sampling) -> Pass:
        """The last step of generation: one token per row, with the keys and values of all before it, and its draw."""
        length = self.lengths.prompt + self.lengths.response
        cache = _full_cache(model, rows, length - 1, self.cache_dtype)
        ids, mask = _ids(rows, 1), torch.ones(rows, length, dtype=torch.long, device=META)
        *others, draw = sampling.processors(model, [])
        assert isinstance(draw, RowDraw)
        draw.generators = cast(list[torch.Generator], [None] * rows)  # there are none on the meta device
        processors = LogitsProcessorList([*others, draw])

        def call() -> None:
            with torch.no_grad():
                logits = model(
                    input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1
                ).logits
                processors(ids, logits[:, -1].to(copy=True, dtype=torch.float32)).argmax(dim=-1)

        with rounded_adapters(model, self.cache_dtype):
            found = self._trace("generation, one token", model, rows, 1, call, cache=cache)
        return replace(found, memory=_with_cache(found.memory, size(_cached(cache))))

    def scores(self, model: PeftModel, rows: int, member: int) -> Pass:
        """One member's score of a batch of texts (reward.ensemble)."""
        ensemble = self._ensemble(model, rows, member)
        return self._trace(
            "reward scores", model, rows, self.lengths.sequence, lambda: ensemble.score([""] * rows, [""] * rows)
        )

    def representations(self, model: PeftModel, rows: int, member: int) -> Pass:
        """One member's states of every layer over a batch of texts (reward.ensemble)."""
        ensemble = self._ensemble(model, rows, member)
        texts = [""] * rows
        return self._trace(
            "reward representations",
            model,
            rows,
            self.lengths.sequence,
            lambda: ensemble.representations(member, texts, texts),
        )

    def _compute_pairs(self, model: PeftModel, ids_2P_T: torch.Tensor) -> list[int]:
        """Make the backbone compute pairs as models.compute.length_groups does; returns the length of every row.

        The fewer tokens a pair shares, the longer is its row.
        """
        backbone = model.get_base_model().base_model
        texts, length = ids_2P_T.shape
        tokens, plain = [length] * texts, backbone.forward
        if shares_prefixes(backbone):
            rows: TextRows = PairRows(ids_2P_T, tokens, [FEWEST_PROMPT_TOKENS] * (texts // 2))
        else:
            rows = TextRows(ids_2P_T, tokens)
        backbone.forward = lambda input_ids, attention_mask=None, **options: compute_rows(rows, plain, options)
        return rows.lengths

    def _of_pairs(self, found: Pass) -> Pass:
        """A pass over rows of pairs, if they are: these are longer than any text."""
        one_row = found.tokens > found.rows * self.lengths.sequence
        return replace(found, unmasked=self.lengths.sequence if one_row else None)

    def _ensemble(self, model: PeftModel, rows: int, member: int) -> RewardEnsemble:
        padding = cast(PreTrainedTokenizerBase, SimpleNamespace(pad_token_id=0))
        return _LongestTexts(model.eval(), padding, (member,), self.lengths, rows * self.lengths.sequence)

    def _response_batch(self, rows: int) -> ResponseBatch:
        ids = _ids(rows, self.lengths.prompt + self.lengths.response)
        return ResponseBatch(ids, torch.ones_like(ids, dtype=torch.bool))

    def _responses(self, rows: int) -> int:
        """Tokens of as many responses of the greatest length."""
        return rows * self.lengths.response

    def _trace(
        self,
        name: str,
        model: PreTrainedModel | PeftModel,
        rows: int,
        length: int,
        call: Callable[[], object],
        scored: int = 0,
        cache: DynamicCache | None = None,
    ) -> Pass:
        head = model.get_output_embeddings()
        vocabulary = model.config.get_text_config().vocab_size
        trace = Trace(vocabulary, None if head is None else head.weight, scored)
        trace.leave_out(resident_tensors(model))
        if cache is not None:
            trace.hold(_cached(cache))
        with kernels_of(self.target), trace:
            call()
        return Pass(name, rows, rows * length, scored or rows, trace.peak, trace.work)


class _LongestTexts(RewardEnsemble):
    """The reward ensemble on texts that all have the greatest length, whatever they say."""

    def _encode(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        return [[1] * self.lengths.sequence for _ in prompts]


def _ids(rows: int, length: int) -> torch.Tensor:
    return torch.zeros(rows, length, dtype=torch.long, device=META)


def _full_cache(model: PreTrainedModel, rows: int, length: int, dtype: torch.dtype) -> DynamicCache:
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = DynamicCache(config=config)
    for layer in range(config.num_hidden_layers):
        shape = (rows, config.num_key_value_heads, length, width)
        keys, values = (torch.empty(shape, dtype=dtype, device=META) for _ in range(2))
        cache.update(keys, values, layer)
    return cache


def _cached(cache: DynamicCache) -> list[torch.Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def _with_cache(memory: dict[str, int], cached: int) -> dict[str, int]:
    """Layer by layer, one token more is copied into a new cache: what the trace counts as activations is mostly it."""
    return memory | {CACHE: cached, ACTIVATIONS: memory[ACTIVATIONS] - cached}


def _prepare_training(model: PeftModel, checkpointing: bool) -> None:
    """Training mode, and checkpointing as TRL and the Trainer set it up."""
    model.train()
    if checkpointing:
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()
    _hold_gradients(model)


def _hold_gradients(model: PeftModel) -> None:
    """Gradients that exist already, as they do from the second part of a batch on."""
    for parameter in trainable_parameters(model):
        parameter.grad = torch.zeros_like(parameter)
