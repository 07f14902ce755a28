"""Training with little padding: parts of an optimiser batch, and groups inside a part, of sequences alike in length.

What an optimiser batch holds stays random and seeded: only the order in which its rows are computed follows length.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from pessimism import rng
from pessimism.errors import DataError
from pessimism.models.batching import length_order

SAVING = 1 / 32
"""Share of a batch's real tokens that a further forward pass must save in padding."""

FURTHER_OUTPUTS = ("output_hidden_states", "output_attentions", "output_router_logits")
"""What a backbone may be asked for beside its last states."""


class SortedBatches(Sampler[int]):
    """Row numbers of an epoch: random optimiser batches, each with its longest rows first.

    An optimiser batch that does not divide into whole parts keeps a short one. The mean over a short part weighs its
    rows more than the others', so these are drawn at random and not the shortest.

    Args:
        lengths: of the rows, tokens.
        batch: rows of an optimiser batch, of all its parts and processes together.
        part: rows of one forward pass.
        seed: of the epochs' orders.
    """

    def __init__(self, lengths: np.ndarray, batch: int, part: int, seed: int) -> None:
        self.lengths = lengths
        self.batch, self.part, self.seed, self.epoch = batch, part, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch, with its number from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = rng.generator(self.seed, "epoch", self.epoch).permutation(len(self))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            whole = len(rows) - len(rows) % self.part
            for part in (rows[:whole], rows[whole:]):
                yield from part[np.argsort(-self.lengths[part], kind="stable")].tolist()


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers in groups of neighbours by length, longest first: cut where a cut saves enough padding.

    Args:
        lengths: real tokens of each row.
    """
    order = length_order(lengths)
    ordered = np.array([lengths[row] for row in order])
    enough = SAVING * ordered.sum()

    def cut(start: int, stop: int) -> list[list[int]]:
        saved = (ordered[start] - ordered[start:stop]) * np.arange(stop - start, 0, -1)
        best = int(saved.argmax())
        if saved[best] <= enough:
            return [order[start:stop]]
        return cut(start, start + best) + cut(start + best, stop)

    return cut(0, len(order))


def compute_by_length(model: PreTrainedModel) -> None:
    """Make ``model``'s backbone compute the rows of a right-padded training batch in groups of similar length.

    The groups are made inside the one forward pass that the trainer and data-parallel training see, whose states keep
    the layout of the batch. Outside training mode nothing changes.

    In training mode, its forward takes ``input_ids`` and ``attention_mask`` (1 = real token), both (B, T), and returns
    ``last_hidden_state`` (B, T, H) alone, 0 where a row's group is narrower than the batch.

    Args:
        model: causal, with any head.

    Raises:
        DataError: by that forward, where there is no mask, a row is not padded on the right, or more is asked for.
    """
    backbone = model.base_model
    plain = backbone.forward

    @functools.wraps(type(backbone).forward)
    def forward(
        self: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: Any
    ) -> BaseModelOutputWithPast:
        if not self.training:
            return plain(input_ids, attention_mask=attention_mask, **options)
        _check_further_outputs(self, options)
        lengths, states = _right_padded_lengths(attention_mask), []
        groups = length_groups(lengths)
        for rows in groups:
            width = lengths[rows[0]]
            # No token looks back at what is padded on the right, so nothing is masked.
            found = plain(input_ids[rows, :width], **options)
            states.append(pad(found.last_hidden_state, (0, 0, 0, input_ids.shape[1] - width)))
        rows = [row for group in groups for row in group]
        return BaseModelOutputWithPast(last_hidden_state=torch.cat(states)[np.argsort(rows)])

    backbone.forward = types.MethodType(forward, backbone)


def _check_further_outputs(backbone: PreTrainedModel, options: dict[str, Any]) -> None:
    asked = [name for name in FURTHER_OUTPUTS if options.get(name, getattr(backbone.config, name, False))]
    if asked:
        raise DataError(
            f"a training batch: found {' and '.join(asked)}; expected that the last states alone are asked for, which "
            "is all that groups of similar length give: set them to false in the base's config.json, and "
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
