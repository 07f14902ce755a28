"""Both texts of a pair in one row: the states are those of each text by itself, whatever the pair shares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

from pessimism.errors import DataError
from pessimism.models.compute.length_groups import group_by_length
from pessimism.models.compute.padding import pad_right
from pessimism.models.compute.prefix_sharing import rows_of, shares_prefixes
from support.pair_batches import random_batch, watch_widths
from support.random_models import ARCHITECTURES, small_config

# (shared, chosen alone, rejected alone) tokens of pairs: of all kinds, and in an order that groups change.
PAIRS = [(20, 50, 11), (5, 4, 61), (0, 13, 31), (30, 3, 2), (25, 0, 0), (20, 5, 0), (20, 0, 5)]
PACKED = [(2, 81), (2, 44), (3, 25)]
ALONE = [(2, 70), (4, 33), (8, 25)]
WINDOWED = {"gemma2", "gemma3"}


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("head", [AutoModelForCausalLM, AutoModelForSequenceClassification])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_states_of_pairs_in_one_row_are_those_of_the_batch(architecture: str, head: type, checkpointing: bool) -> None:
    torch.manual_seed(0)
    model = head.from_config(small_config(architecture)).train()
    ids, mask = batch_of_pairs(PAIRS)
    expected = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    if checkpointing:
        model.activation_checkpointing_enable()
    group_by_length(model)
    widths = watch_widths(model)
    states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert widths == (ALONE if architecture in WINDOWED else PACKED)
    assert states.shape == expected.shape
    assert torch.allclose(states[mask == 1], expected[mask == 1], atol=1e-5)
    assert (states[mask == 0] == 0).all()


@given(pairs=st.lists(st.tuples(*[st.integers(0, 9)] * 3).filter(lambda pair: pair[0] or min(pair[1:])), min_size=1))
def test_pairs_in_one_row_are_what_each_text_is_by_itself(pairs: list[tuple[int, int, int]]) -> None:
    ids, mask = batch_of_pairs(pairs)
    tokens, count = mask.sum(dim=1).tolist(), len(pairs)
    rows = rows_of(ids, tokens, one_row=True)
    for pair, length in enumerate(rows.lengths):
        inputs = {name: values[0] for name, values in rows.inputs([pair]).items()}
        assert length == len(inputs["input_ids"]) == sum(pairs[pair])
        # What the last token of a text sees is the text, in order.
        longer, shorter = sorted((pair, pair + count), key=lambda text: -tokens[text])
        for text, last in ((longer, tokens[longer] - 1), (shorter, length - 1)):
            if text == longer or tokens[text] > pairs[pair][0]:
                seen = whole_mask(inputs["attention_mask"][0])[last]
                assert inputs["input_ids"][seen].tolist() == ids[text, : tokens[text]].tolist()
                assert inputs["position_ids"][seen].tolist() == list(range(tokens[text]))


@pytest.mark.parametrize(
    ("changes", "one_row"),
    [
        ({}, True),
        # As Qwen2's and Qwen3's: a window that no layer uses.
        ({"use_sliding_window": True, "sliding_window": 32, "layer_types": ["full_attention"] * 2}, True),
        ({"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1}, False),
        ({"layer_types": ["full_attention", "chunked_attention"], "attention_chunk_size": 32}, False),
        ({"layer_types": ["linear_attention", "full_attention"]}, False),
        ({"attn_implementation": "eager"}, False),
    ],
)
def test_prefixes_are_shared_where_every_layer_looks_back_at_everything(changes: dict[str, Any], one_row: bool) -> None:
    config = small_config("qwen3", **{"attn_implementation": "sdpa"} | changes)
    assert shares_prefixes(SimpleNamespace(config=config, _supports_attention_backend=True)) is one_row


@pytest.mark.parametrize("name", ["sliding_window", "attention_chunk_size"])
def test_a_window_of_all_layers_is_seen_without_their_types(name: str) -> None:
    config = LlamaConfig(attn_implementation="sdpa")
    model = SimpleNamespace(config=config, _supports_attention_backend=True)
    assert shares_prefixes(model)
    setattr(config, name, 32)
    assert not shares_prefixes(model)


def test_rows_that_cannot_be_pairs_are_refused() -> None:
    model = AutoModelForCausalLM.from_config(small_config("qwen3")).train()
    group_by_length(model)
    ids, mask = random_batch([7, 9, 3])
    with pytest.raises(DataError, match="found 3 rows; expected an even number, the chosen texts of all pairs"):
        model(input_ids=ids, attention_mask=mask)


def whole_mask(mask_Q_W: torch.Tensor) -> torch.Tensor:
    """(W, W): the queries before those of a mask look back at everything."""
    width = mask_Q_W.shape[1]
    return torch.cat([torch.ones(width, width, dtype=torch.bool).tril()[: width - len(mask_Q_W)], mask_Q_W])


def batch_of_pairs(pairs: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask of pairs that begin with as many common tokens and go on with as many of their own."""
    generator = np.random.default_rng(1)
    chosen, rejected = [], []
    for shared, *alone in pairs:
        prompt = generator.integers(5, 30, size=shared).tolist()
        for texts, length, first in zip((chosen, rejected), alone, (3, 4), strict=True):
            texts.append(prompt + [first, *generator.integers(5, 30, size=length).tolist()][:length])
    return pad_right(chosen + rejected, 0, torch.device("cpu"))
