"""The project's models on the meta device: real modules and real adapters, without a weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import bitsandbytes
import torch
from bitsandbytes.functional import QuantState
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from pessimism.experiment.params import Params
from pessimism.models.adapters import fuse_adapters, lora_config
from pessimism.models.loading import SCORE_HEAD, Float32Linear, quantization_config, set_precision
from pessimism.models.precision import LOADED_DTYPES
from pessimism.planning.architectures import model_config

META = torch.device("meta")
BLOCK, NESTED_BLOCK = 64, 256
"""Weights per scale in 4 bits, and scales per scale of theirs: what bitsandbytes does by default on any device."""


def full_base(params: Params, role: str) -> PreTrainedModel:
    """The base of ``role`` before any quantisation, for counting parameters."""
    kind = {"policy": AutoModelForCausalLM, "reward": AutoModelForSequenceClassification}[role]
    config = model_config(params, role)
    if role == "reward":
        config.num_labels = 1
    config.pad_token_id = 0
    with META:
        model = kind.from_config(config, dtype=LOADED_DTYPES[params.scale.model(role).dtype])
        if role == "reward":
            head = Float32Linear(getattr(model, SCORE_HEAD).in_features, 1, bias=False, dtype=torch.float32)
            setattr(model, SCORE_HEAD, head)
    return model.requires_grad_(False).eval()


def base(params: Params, role: str) -> PreTrainedModel:
    """The frozen base of ``role`` as the loaders give it, quantised where the scale says so."""
    model = full_base(params, role)
    quantization = quantization_config(params.scale.model(role))
    if quantization is not None:
        model = replace_with_bnb_linear(model, [*get_keys_to_not_convert(model), SCORE_HEAD], quantization)
        for module in model.modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                _quantise(module)
        model.is_loaded_in_4bit = True
    set_precision(model, params.scale.model(role))
    return model.requires_grad_(False).eval()


def adapter_of(params: Params, role: str, full: PreTrainedModel, train_pairs: int) -> LoraConfig:
    """The adapter that ``role``'s training stage makes."""
    task, saved = {"policy": ("CAUSAL_LM", None), "reward": ("SEQ_CLS", [SCORE_HEAD])}[role]
    hidden_size = full.config.get_text_config().hidden_size
    return lora_config(params.scale.model(role), hidden_size, train_pairs, task, modules_to_save=saved)


def adapted(model: PreTrainedModel, config: LoraConfig, names: Sequence[str], trainable: str | None) -> PeftModel:
    """Adapters of one shape on a base; the trainable one, or the first, is active."""
    first, *others = names
    with META:
        adapted = get_peft_model(model, config, adapter_name=first)
        for name in others:
            adapted.add_adapter(name, config)
    adapted.set_adapter(first if trainable is None else trainable, inference_mode=trainable is None)
    fuse_adapters(adapted)
    return adapted.eval()


def resident_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """Everything of a model that stays in memory: parameters, their gradients, buffers, scales of 4-bit weights."""
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit) and module.quant_state is not None:
            state = module.quant_state
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    return tensors


def size(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors, each memory counted once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def _quantise(linear: bitsandbytes.nn.Linear4bit) -> None:
    """Give a layer what loading would: packed weights, their 8-bit scales, and the scales of those."""
    rows, columns = linear.out_features, linear.in_features
    scales = rows * columns // BLOCK
    nested = QuantState(
        absmax=_empty(-(-scales // NESTED_BLOCK)), blocksize=NESTED_BLOCK, code=_empty(256), dtype=torch.float32
    )
    state = QuantState(
        absmax=_empty(scales, dtype=torch.uint8),
        shape=torch.Size((rows, columns)),
        code=_empty(16),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=linear.compute_dtype,
        offset=_empty(),
        state2=nested,
    )
    linear.weight = bitsandbytes.nn.Params4bit(
        _empty(rows * columns // 2, 1, dtype=torch.uint8), quant_state=state, blocksize=BLOCK, bnb_quantized=True
    )
    linear.quant_state = state


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=META)
