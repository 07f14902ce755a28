"""Where a decoder's parts lie, and what they are called: what families of models do not have in common.

Linear layers are torch's, and those that GPT-2 calls Conv1D, which hold their weights transposed.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

ATTENTIONS = ("self_attn", "attn")
"""Names of a layer's attention, where it is called with the normed states and its result is added to the stream."""

MLP = "mlp"


def decoder_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The decoder's equal layers, first to last; empty where it has no list of so many as its configuration says."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    stacks = [child for child in model.get_decoder().children() if isinstance(child, torch.nn.ModuleList)]
    return next((list(stack) for stack in stacks if len(stack) == count), [])


def linear_layers(module: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer inside ``module``, by path."""
    return {path: shape for path, part in module.named_modules() if (shape := linear_shape(part)) is not None}


def linear_shape(module: torch.nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer; None where ``module`` is something else."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    return (module.in_features, module.out_features) if isinstance(module, torch.nn.Linear) else None


def matching(path: str, names: Collection[str]) -> list[str]:
    """Those of ``names`` that mean the layer at ``path``: all of it or its end after a dot, as PEFT takes them."""
    return [name for name in names if f".{path}".endswith(f".{name}")]


def stored_transposed(model: torch.nn.Module, names: Collection[str]) -> bool:
    """Whether a layer that ``names`` mean holds its weights as (inputs, outputs)."""
    return any(isinstance(part, Conv1D) and matching(path, names) for path, part in model.named_modules())
