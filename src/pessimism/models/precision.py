"""Mixed precision: what a layer computes in bfloat16, what is summed up over layers in float32."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from pessimism.models.architecture import ATTENTIONS, MLP, decoder_layers, linear_shape

LOADED_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "mixed": torch.float32}
"""What a model is loaded in, by the ``dtype`` of a scale; ``mixed`` then rounds what is inside its layers."""

BLOCK_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "mixed": torch.bfloat16}
"""What layers compute in, keys and values included."""

BLOCKS = (*ATTENTIONS, MLP)
"""Parts of a layer that hold its linear layers."""

ROUNDED_OPTIONS = ("hidden_states", "position_embeddings")
"""Inputs of a layer's parts that are rounded where they are given by name."""

ROTARY = "rotary_emb"
PLAIN_NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
"""Classes of transformers that compute what torch.nn.RMSNorm does. Others stay: Gemma's add 1 to the weight."""


def fuse_norms(model: PreTrainedModel) -> None:
    """Put torch's own RMSNorm, one kernel on a GPU instead of seven.

    The result is the same up to rounding; between bfloat16 numbers it rounds once instead of twice.
    """
    for path, module in list(model.named_modules()):
        if type(module).__name__ in PLAIN_NORMS:
            norm = torch.nn.RMSNorm(module.weight.shape, module.variance_epsilon, device="meta")
            norm.weight = module.weight
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, norm)


def compute_blocks_in_bfloat16(model: PreTrainedModel) -> None:
    """Have the parts of every layer take, compute and give bfloat16: attention, MLP and the norms before or after them.

    The residual stream that they add to stays float32, and so do the embeddings, the last norm and the head: no sum
    over layers or over the vocabulary is rounded. On SmolLM2, norms that read float32 made log-ratios no more exact.

    Args:
        model: in float32, of an architecture that :func:`has_blocks`.
    """
    parts = {id(part) for layer in decoder_layers(model) for part in layer.children()}
    for path, module in model.named_modules():
        if id(module) in parts:
            module.register_forward_pre_hook(_round_inputs, with_kwargs=True)
            for parameter in module.parameters():
                if parameter.dtype == torch.float32:
                    parameter.data = parameter.data.to(torch.bfloat16)
        elif path.rpartition(".")[2] == ROTARY:
            # Once here instead of once per layer.
            module.register_forward_hook(lambda _, args, output: _rounded(output))


def has_blocks(model: PreTrainedModel) -> bool:
    """Whether BLOCKS hold all linear layers, and none is called with the residual stream, which it would round."""
    blocks = [part for layer in decoder_layers(model) for name, part in layer.named_children() if name in BLOCKS]
    inside = {id(module) for block in blocks for module in block.modules()}
    linear = [module for module in model.get_decoder().modules() if linear_shape(module) is not None]
    takes_residual = any("residual" in inspect.signature(block.forward).parameters for block in blocks)
    return bool(blocks) and all(id(module) in inside for module in linear) and not takes_residual


def _round_inputs(
    part: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """States and rotary angles, but no mask: its lowest float32 number would round to minus infinity."""
    return _rounded(args), {name: _rounded(x) if name in ROUNDED_OPTIONS else x for name, x in options.items()}


def _rounded(value: Any) -> Any:
    """Float32 tensors, alone or in tuples, as bfloat16; all else as it is."""
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    is_float32 = isinstance(value, torch.Tensor) and value.dtype == torch.float32
    return value.to(torch.bfloat16) if is_float32 else value
