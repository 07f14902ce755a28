"""Scores that are read at one token: the last layer computed there alone, but for the keys and values it looks at.

After the attention of the last layer no token looks at another. So its output projection and its MLP may leave out all
tokens but the one whose state the head reads; what they give is then one token wide, is added to the states of all, and
is right at that token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from pessimism.models.architecture import ATTENTIONS, MLP, decoder_layers

BEHIND_ATTENTION = ("self_attn.o_proj", "attn.c_proj", MLP)
"""Parts of a layer that come after its tokens have looked at each other; models that lack one compute all tokens."""

ADDED_TO = (*ATTENTIONS, "attention")
"""Attention of layers that add into new tensors. Falcon adds all tokens to what its MLP gives, in place."""


@contextmanager
def last_layer_where_read(model: PreTrainedModel, input_ids: torch.Tensor) -> Iterator[None]:
    """Run one forward pass of a sequence classifier over ``input_ids``: its scores are those of the plain pass.

    The states that leave the decoder are those of the plain pass at the token that is read, and no others.

    Args:
        input_ids: (B, T), padded on the right.
    """
    read_B = _read_tokens(input_ids, model.config.get_text_config().pad_token_id)
    last = [layer for layer in decoder_layers(model)[-1:] if any(hasattr(layer, name) for name in ADDED_TO)]
    parts = [part for layer in last for name, part in layer.named_modules() if name in BEHIND_ATTENTION]
    hooks = [part.register_forward_pre_hook(partial(_at, read_B)) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _read_tokens(input_ids: torch.Tensor, pad_id: int) -> torch.Tensor:
    """(B,) column of the token that transformers' sequence classifiers read: the last that is not the padding's."""
    columns_T = torch.arange(input_ids.shape[1], device=input_ids.device)
    return (columns_T * (input_ids != pad_id)).argmax(dim=1)


def _at(read_B: torch.Tensor, part: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    states_B_T_H, *others = inputs
    rows_B = torch.arange(len(read_B), device=read_B.device)
    return states_B_T_H[rows_B, read_B][:, None], *others
