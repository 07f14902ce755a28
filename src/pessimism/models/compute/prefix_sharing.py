"""The two texts of a pair in one row, so that what they begin with is computed once: the same states, less work.

A row is ``shared | rest of the longer text | rest of the other | padding``: ``shared`` is all tokens with which both
begin, the prompt at least. Positions of both rests go on from it, and the second rest sees ``shared`` and itself alone.
Models with windows, and other attention than SDPA, compute each text in a row of its own (:func:`shares_prefixes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pessimism.errors import DataError
from pessimism.models.compute.batching import unmasked_queries

SDPA = "sdpa"
OTHER_PATTERNS = ("sliding_window", "attention_chunk_size", "alibi")
"""Names by which a configuration without ``layer_types`` says that no layer attends to all that came before alike."""


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether a model computes a pair in one row as it computes the two texts by themselves.

    A mask with four axes reaches every layer as it is (transformers.masking_utils), also in place of a window or of
    chunks, which would be shorter than the row; recurrent layers and convolutions read a row without any. So every
    layer must be of full attention. The configurations of Qwen2 and Qwen3 may name a window that none of their
    ``layer_types`` uses. Other kernels than SDPA take no Boolean mask: eager attention would add 1 and 0.
    """
    text = model.config.get_text_config()
    if text._attn_implementation != SDPA or not model._supports_attention_backend:
        return False
    kinds = getattr(text, "layer_types", None)
    if kinds is not None:
        return set(kinds) == {"full_attention"}
    return not any(getattr(text, name, None) for name in OTHER_PATTERNS)


class TextRows:
    """The rows that a backbone computes for the B texts of a right-padded batch: here each text is one.

    Attributes:
        lengths: tokens of every row.
    """

    def __init__(self, ids_B_T: torch.Tensor, tokens: Sequence[int]) -> None:
        """Take the batch as it is.

        Args:
            ids_B_T: token ids.
            tokens: real ones of every text.
        """
        self.ids_B_T, self.tokens = ids_B_T, tokens
        self.lengths = list(tokens)

    def inputs(self, rows: list[int]) -> dict[str, torch.Tensor | None]:
        """What the backbone reads for ``rows``, of which the first is the longest.

        No token looks back at what is padded on the right, so nothing is masked.
        """
        return {"input_ids": self.ids_B_T[rows, : self.lengths[rows[0]]], "attention_mask": None}

    def spread(self, states_N_H: torch.Tensor, starts: Sequence[int]) -> torch.Tensor:
        """(B, T, H) states in the layout of the batch, 0 at padding.

        Args:
            states_N_H: of all positions of all rows.
            starts: position of every row's first token among them.
        """
        places_B_T = self._places(starts).clamp(max=len(states_N_H) - 1)  # of padding, any
        padding_B_T = self._columns(self.ids_B_T.shape[1]) >= self._column(self.tokens)
        # On CUDA the backward pass of this adds as it goes; that of plain indexing sorts all places first.
        states_B_T_H = states_N_H.index_select(0, places_B_T.flatten()).view(*places_B_T.shape, -1)
        return states_B_T_H.masked_fill(padding_B_T[..., None], 0)

    def _places(self, starts: Sequence[int]) -> torch.Tensor:
        """(B, T) position of every token of the texts among those of all rows."""
        return self._column(starts) + self._columns(self.ids_B_T.shape[1])

    def _columns(self, width: int) -> torch.Tensor:
        return torch.arange(width, device=self.ids_B_T.device)

    def _column(self, values: Sequence[int]) -> torch.Tensor:
        """(R, 1) of one value per row."""
        return torch.tensor(values, device=self.ids_B_T.device)[:, None]


class PairRows(TextRows):
    """P pairs, each in one row: the whole longer text, and after it the rest of the other one.

    Both parts go on from the shared beginning, and neither sees the other. A mask is needed by the second part alone.
    """

    def __init__(self, ids_2P_T: torch.Tensor, tokens: Sequence[int], shared: Sequence[int]) -> None:
        """Take a batch that holds the P chosen texts first and the rejected ones in the same order.

        Args:
            ids_2P_T: token ids.
            tokens: real ones of every text.
            shared: those with which both texts of each pair begin.
        """
        super().__init__(ids_2P_T, tokens)
        self.shared, chosen, rejected = shared, tokens[: len(shared)], tokens[len(shared) :]
        self.longer = list(map(max, chosen, rejected))
        self.rejected_first = [first < second for first, second in zip(chosen, rejected, strict=True)]
        self.lengths = [sum(texts) - both for *texts, both in zip(chosen, rejected, shared, strict=True)]

    def inputs(self, rows: list[int]) -> dict[str, torch.Tensor | None]:
        """What the backbone reads for the pairs ``rows``, of which the first is the longest."""
        columns_W = self._columns(self.lengths[rows[0]])
        shared_R_1, longer_R_1, lengths_R_1, rejected_first_R_1 = (
            self._column([values[row] for row in rows])
            for values in (self.shared, self.longer, self.lengths, self.rejected_first)
        )
        after_R_W = columns_W >= longer_R_1  # the rest of the shorter text, and padding
        positions_R_W = columns_W - after_R_W * (longer_R_1 - shared_R_1)
        positions_R_W = positions_R_W.clamp(max=self.ids_B_T.shape[1] - 1)  # of padding, any
        texts_R_W = self._column(rows) + (after_R_W ^ rejected_first_R_1) * len(self.shared)
        ids_R_W = self.ids_B_T[texts_R_W, positions_R_W].masked_fill(columns_W >= lengths_R_1, 0)
        mask_R_W_W = _causal_but(after_R_W, (columns_W >= shared_R_1) & ~after_R_W)
        mask_R_1_Q_W = mask_R_W_W[:, None, unmasked_queries(self.longer, self.lengths, rows) :]
        return {"input_ids": ids_R_W, "position_ids": positions_R_W, "attention_mask": mask_R_1_Q_W}

    def _places(self, starts: Sequence[int]) -> torch.Tensor:
        columns_T, rejected_first_P_1 = self._columns(self.ids_B_T.shape[1]), self._column(self.rejected_first)
        shared_P_1, longer_P_1 = self._column(self.shared), self._column(self.longer)
        after_P_T = (columns_T >= shared_P_1) * (longer_P_1 - shared_P_1)
        behind_2P_T = torch.cat([after_P_T * rejected_first_P_1, after_P_T * ~rejected_first_P_1])
        return columns_T + behind_2P_T + self._column([*starts, *starts])


def attention_in_parts(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA of transformers, which also takes masks of the last queries alone.

    The queries before look back at all that came before, which PyTorch's fast kernels do without a mask. Such masks
    come with as many keys as queries, that is without a cache.
    """
    masked = query.shape[2] if attention_mask is None else attention_mask.shape[2]
    if not 1 < masked < query.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    first = query.shape[2] - masked
    before, after = query.split([first, masked], dim=2)
    found_before, _ = sdpa_attention_forward(module, before, key[:, :, :first], value[:, :, :first], None, **options)
    found_after, _ = sdpa_attention_forward(module, after, key, value, attention_mask, **options)
    return torch.cat([found_before, found_after], dim=1), None


# The masks that are made here are read by this function alone; all others go on to the one that it replaces.
ALL_ATTENTION_FUNCTIONS.register(SDPA, attention_in_parts)


def _causal_but(queries_R_W: torch.Tensor, keys_R_W: torch.Tensor) -> torch.Tensor:
    """(R, W, W) whether a token may look at another: never at what lies ahead, nor from a query to a key as given."""
    causal_W_W = torch.ones(queries_R_W.shape[1:] * 2, dtype=torch.bool, device=queries_R_W.device).tril()
    return causal_W_W & ~(queries_R_W[:, :, None] & keys_R_W[:, None, :])


def rows_of(ids_B_T: torch.Tensor, tokens: Sequence[int], one_row: bool) -> TextRows:
    """The rows to compute for a training batch.

    Args:
        ids_B_T: token ids, padded on the right.
        tokens: real ones of every text.
        one_row: whether the batch is of pairs, chosen texts first, of which each becomes one row.

    Raises:
        DataError: the texts cannot be pairs.
    """
    if not one_row:
        return TextRows(ids_B_T, tokens)
    if len(tokens) % 2:
        raise DataError(
            f"a training batch: found {len(tokens)} rows; expected an even number, the chosen texts of all pairs and "
            "after them the rejected ones in the same order: have the data collator return both texts of every pair"
        )
    chosen_P_T, rejected_P_T = ids_B_T.chunk(2)
    equal = (chosen_P_T == rejected_P_T).cumprod(dim=1).sum(dim=1).tolist()
    pairs = len(equal)
    return PairRows(ids_B_T, tokens, list(map(min, equal, tokens[:pairs], tokens[pairs:])))
