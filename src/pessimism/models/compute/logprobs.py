"""Log-probabilities and entropies of tokens: the backbone once, the head only where a token is scored.

No tensor of (B, T, V) ever exists: TRL's kernel folds tiles of the logits into running sums, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from pessimism.errors import DataError
from pessimism.models.compute.padding import pad_right

CHUNK = 1024
"""Vocabulary columns of one tile; TRL takes at most 4,096 rows at a time."""

ROWS = 256
"""Positions whose logits are held over all columns at once, where a kernel has no narrower tiles."""


@dataclass(frozen=True)
class ResponseBatch:
    """Prompts followed by their responses, padded on the right.

    Attributes:
        input_ids: (B, T) token ids, T = the longest prompt with its response.
        scored_B_T: Boolean, the tokens of the responses.
    """

    input_ids: torch.Tensor
    scored_B_T: torch.Tensor


@dataclass(frozen=True)
class TokenLogps:
    """Of every scored token, in its own column; float32 nats, 0 elsewhere.

    Attributes:
        logps_B_T: log-probability given all tokens before it; differentiable.
        entropy_B_T: entropy of the distribution that it was scored by, without a gradient.
        scored_B_T: Boolean, which tokens those are.
    """

    logps_B_T: torch.Tensor
    entropy_B_T: torch.Tensor
    scored_B_T: torch.Tensor

    @property
    def sums(self) -> torch.Tensor:
        """(B,) log-probability of all scored tokens of a row, nats."""
        return self.logps_B_T.sum(dim=1)

    @property
    def mean_entropy(self) -> torch.Tensor:
        """(B,) mean entropy per scored token, nats per token; 0 where a row has none."""
        return self.entropy_B_T.sum(dim=1) / self.scored_B_T.sum(dim=1).clamp(min=1)


def pad_pairs(
    prompt_ids: Sequence[Sequence[int]], response_ids: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> ResponseBatch:
    """Stack prompts and responses of different lengths into one batch.

    Raises:
        DataError: a prompt has no token, so that nothing predicts the first of its response.
    """
    pairs = list(zip(prompt_ids, response_ids, strict=True))
    empty = [row for row, (prompt, _) in enumerate(pairs) if not prompt]
    if empty:
        raise DataError(
            f"found no prompt token in rows {empty[:5]} of a batch; expected at least 1: check the prompts' texts, "
            "the task's prompt and lengths.prompt"
        )
    input_ids, attention_mask = pad_right([[*prompt, *response] for prompt, response in pairs], pad_id, device)
    starts_B_1 = torch.tensor([[len(prompt)] for prompt, _ in pairs], device=device)
    columns_T = torch.arange(input_ids.shape[1], device=device)
    return ResponseBatch(input_ids, attention_mask.bool() & (columns_T >= starts_B_1))


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """(B, T, H) states that the head reads; those of column t predict the token of column t + 1.

    Args:
        input_ids: (B, T), padded on the right: no token looks back at padding, so nothing is masked.
    """
    return model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state


def soft_cap(model: PreTrainedModel) -> float | None:
    """Bound that the model's own forward puts on its logits; None = none."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def capped_logits(model: PreTrainedModel, hidden_N_H: torch.Tensor) -> torch.Tensor:
    """(N, V) logits as the model's own forward gives them, all columns at once."""
    logits_N_V, cap = model.get_output_embeddings()(hidden_N_H), soft_cap(model)
    return logits_N_V if cap is None else cap * torch.tanh(logits_N_V / cap)


def score_positions(
    model: PreTrainedModel, hidden_N_H: torch.Tensor, targets_N: torch.Tensor, outputs: tuple[str, ...] = ("entropy",)
) -> tuple[Any, ...]:
    """What TRL's ChunkedLogProbFunction says of N target tokens, at temperature 1, in float32.

    Args:
        hidden_N_H: states that predict the targets.
        outputs: what is computed beside log-probabilities: entropy, log_sum_sq_probs, mean_logits, is_top1.

    Returns:
        (N,) log-probabilities, and in the order above the outputs, None where not asked for. Log-probabilities and
        entropy are differentiable.
    """
    head = model.get_output_embeddings()
    columns = min(CHUNK, head.weight.shape[0])
    return ChunkedLogProbFunction.apply(
        hidden_N_H, head.weight, head.bias, targets_N, 1.0, columns, soft_cap(model), 1.0, outputs
    )


def token_logps(model: PreTrainedModel, input_ids: torch.Tensor, scored_B_T: torch.Tensor) -> TokenLogps:
    """Log-probabilities and entropies of the scored tokens. Dropout follows the model's mode.

    Args:
        input_ids: (B, T), padded on the right.
        scored_B_T: Boolean; no token of the first column.
    """
    hidden_N_H = hidden_states(model, input_ids)[scored_B_T.roll(-1, dims=1)]
    logps_N, entropy_N, *_ = score_positions(model, hidden_N_H, input_ids[scored_B_T])
    return TokenLogps(spread(logps_N, scored_B_T), spread(entropy_N.detach(), scored_B_T), scored_B_T)


def spread(values_N: torch.Tensor, where_B_T: torch.Tensor) -> torch.Tensor:
    """(B, T) with the values where the mask is true, row by row, and 0 elsewhere."""
    return values_N.new_zeros(where_B_T.shape).masked_scatter(where_B_T, values_N)


def response_logps(model: PreTrainedModel, batch: ResponseBatch) -> TokenLogps:
    """Log-probability and entropy of every response token under ``model``'s full distribution at temperature 1.

    The softmax is taken in float32 whatever the model's dtype. Dropout follows the model's mode.
    """
    return token_logps(model, batch.input_ids, batch.scored_B_T)
