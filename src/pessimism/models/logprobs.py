"""Log-probabilities and entropies of responses, from the batch tensor that every compared pass shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class ResponseBatch:
    """Prompts padded on the left and responses on the right, so that every response starts in one column.

    Attributes:
        input_ids: (B, T) token ids, T = longest prompt + longest response.
        attention_mask: (B, T), 1 on real tokens.
        response_mask: (B, R), 1 on the real tokens of the last R columns, which hold the responses.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    response_mask: torch.Tensor


@dataclass(frozen=True)
class ResponseLogps:
    """Log-probabilities and entropies of the response tokens, float32 nats, 0 where masked."""

    logps_B_R: torch.Tensor
    entropy_B_R: torch.Tensor
    mask_B_R: torch.Tensor

    @property
    def sums(self) -> torch.Tensor:
        """(B,) log-probability of each whole response, nats."""
        return self.logps_B_R.sum(dim=1)

    @property
    def mean_entropy(self) -> torch.Tensor:
        """(B,) mean entropy per response token, nats per token; 0 for an empty response."""
        return self.entropy_B_R.sum(dim=1) / self.mask_B_R.sum(dim=1).clamp(min=1)


def pad_pairs(
    prompt_ids: Sequence[Sequence[int]], response_ids: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> ResponseBatch:
    """Stack prompts and responses of different lengths into one batch."""
    prompt_width = max(map(len, prompt_ids))
    response_width = max(1, *map(len, response_ids))
    rows, masks = [], []
    for prompt, response in zip(prompt_ids, response_ids, strict=True):
        left, right = prompt_width - len(prompt), response_width - len(response)
        rows.append([pad_id] * left + [*prompt, *response] + [pad_id] * right)
        masks.append([0] * left + [1] * (len(prompt) + len(response)) + [0] * right)
    attention_mask = torch.tensor(masks, device=device)
    return ResponseBatch(
        input_ids=torch.tensor(rows, device=device),
        attention_mask=attention_mask,
        response_mask=attention_mask[:, -response_width:],
    )


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, T) positions that count real tokens only, as generation with left padding counts them."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)


def response_logits(model: PreTrainedModel, batch: ResponseBatch) -> torch.Tensor:
    """(B, R, V) float32 logits that predict each response token, whatever the model's dtype."""
    width = batch.response_mask.shape[1]
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=position_ids(batch.attention_mask),
        logits_to_keep=width + 1,
        use_cache=False,
    ).logits
    return logits[:, :-1].float()


def response_logps(model: PreTrainedModel, batch: ResponseBatch) -> ResponseLogps:
    """Log-probability and entropy of every response token under ``model``'s full distribution at temperature 1.

    The softmax is taken in float32 whatever the model's dtype. Dropout follows the model's mode.
    """
    logps_B_R_V = response_logits(model, batch).log_softmax(dim=-1)
    targets_B_R_1 = batch.input_ids[:, -batch.response_mask.shape[1] :].unsqueeze(-1)
    logps_B_R = logps_B_R_V.gather(-1, targets_B_R_1).squeeze(-1)
    with torch.no_grad():
        entropy_B_R = -(logps_B_R_V.exp() * logps_B_R_V).sum(dim=-1)
    mask = batch.response_mask.to(logps_B_R.dtype)
    return ResponseLogps(logps_B_R * mask, entropy_B_R * mask, mask)
