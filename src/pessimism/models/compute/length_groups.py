"""Training with little padding: parts of an optimiser batch, and groups inside a part, of pairs alike in length.

What an optimiser batch holds stays random and seeded: only the order in which its rows are computed follows length.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from pessimism.errors import DataError
from pessimism.experiment import rng
from pessimism.models.compute.batching import length_groups, longest_first
from pessimism.models.compute.prefix_sharing import TextRows, rows_of, shares_prefixes

FURTHER_OUTPUTS = ("output_hidden_states", "output_attentions", "output_router_logits")
"""What a backbone may be asked for beside its last states."""


class SortedBatches(Sampler[int]):
    """Row numbers of an epoch: random optimiser batches, each with its longest rows first.

    Args:
        lengths: of the rows, tokens.
        batch: rows of an optimiser batch, of all its parts and processes together.
        seed: of the epochs' orders.
    """

    def __init__(self, lengths: np.ndarray, batch: int, seed: int) -> None:
        self.lengths = lengths
        self.batch, self.seed, self.epoch = batch, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch, with its number from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = rng.generator(self.seed, "epoch", self.epoch).permutation(len(self))
        for rows in longest_first(self.lengths, order, self.batch):
            yield from rows.tolist()


def group_by_length(model: PreTrainedModel) -> None:
    """Make ``model``'s backbone compute the pairs of a right-padded training batch in one row each, like beside like.

    The rows are made inside the one forward pass that the trainer and data-parallel training see, whose states keep
    the layout of the batch. Where one row would be another computation, each text stays one. Outside training mode
    nothing changes.

    In training mode, its forward takes ``input_ids`` and ``attention_mask`` (1 = real token), both (2P, T), the chosen
    texts first, and returns ``last_hidden_state`` (2P, T, H) alone, 0 at padding.

    Args:
        model: causal, with any head.

    Raises:
        DataError: by that forward, where there is no mask, a row is not padded on the right, there is an odd number of
            rows, or more is asked for.
    """
    backbone = model.base_model
    plain = backbone.forward

    # Deviation: one mask of LoRA dropout for the prompt of both texts of a pair, where the paper's code, which
    # computes the prompt twice, draws two.
    @functools.wraps(type(backbone).forward)
    def forward(
        self: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any
    ) -> BaseModelOutputWithPast:
        if not self.training:
            return plain(input_ids, attention_mask=attention_mask, **options)
        _check_further_outputs(self, options)
        texts = rows_of(input_ids, _right_padded_lengths(attention_mask), shares_prefixes(self))
        return compute_rows(texts, plain, options)

    backbone.forward = types.MethodType(forward, backbone)


def pair_states(model: PreTrainedModel, input_ids: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """(2P, T, H) states of the texts of P pairs, each pair computed in one row; 0 at padding.

    Args:
        input_ids: (2P, T), padded on the right, the first texts of all pairs and then the second ones.
        tokens: real ones of every text.
    """
    rows = rows_of(input_ids, tokens, one_row=True)
    return compute_rows(rows, model.get_decoder(), {"use_cache": False}).last_hidden_state


def compute_rows(
    texts: TextRows, forward: Callable[..., BaseModelOutputWithPast], options: dict[str, Any]
) -> BaseModelOutputWithPast:
    """Last states of a batch whose rows ``forward`` computes in groups of similar length.

    Args:
        options: of every call, beside the rows.
    """
    states, starts, computed = [], [0] * len(texts.lengths), 0
    for rows in length_groups(texts.lengths):
        found = forward(**options | texts.inputs(rows)).last_hidden_state
        states.append(found.flatten(0, 1))
        for row in rows:
            starts[row] = computed
            computed += found.shape[1]
    states_N_H = torch.cat(states) if len(states) > 1 else states[0]
    return BaseModelOutputWithPast(last_hidden_state=texts.spread(states_N_H, starts))


def _check_further_outputs(backbone: PreTrainedModel, options: dict[str, Any]) -> None:
    asked = [name for name in FURTHER_OUTPUTS if options.get(name, getattr(backbone.config, name, False))]
    if asked:
        raise DataError(
            f"a training batch: found {' and '.join(asked)}; expected that the last states alone are asked for, which "
            "is all that rows of pairs give: set them to false in the base's config.json, and "
            "router_aux_loss_coef, for which TRL asks for router logits, to 0"
        )


def _right_padded_lengths(mask_B_T: torch.Tensor | None) -> list[int]:
    """Real tokens of each row."""
    if mask_B_T is None:
        raise DataError(
            "a training batch: found no attention_mask; expected one of 0 and 1, which tells padding from tokens: "
            "have the data collator return it"
        )
    uneven = (mask_B_T[:, 1:] > mask_B_T[:, :-1]).any(dim=1).nonzero()[:, 0].tolist()
    if uneven:
        raise DataError(
            f"a training batch: found padding before tokens in rows {uneven[:5]}; expected padding on the right alone, "
            "which no token looks back at: have the data collator pad there"
        )
    return mask_B_T.sum(dim=1).tolist()
