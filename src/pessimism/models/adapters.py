"""LoRA adapters on one frozen base: configuration, attaching, switching, saving."""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora import model as lora_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import linear
from transformers import PreTrainedModel

from pessimism.errors import SourceError
from pessimism.experiment import records
from pessimism.experiment.digests import MENDING
from pessimism.experiment.params import ModelParams
from pessimism.models import hyperparameters as derive
from pessimism.models.architecture import linear_shape, matching

DEFAULT = "default"  # what PEFT and TRL call the one adapter they make
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
DIGEST = "sha256"


def has_quantised_layers() -> bool:
    """What PEFT asks before it looks for layers of bitsandbytes in a base, for which it would load that library.

    Whoever made such a layer has loaded it.
    """
    return "bitsandbytes" in sys.modules


lora_model.is_bnb_available = lora_model.is_bnb_4bit_available = has_quantised_layers


def lora_config(
    params: ModelParams, hidden_size: int, n_train: int, task_type: str, modules_to_save: list[str] | None = None
) -> LoraConfig:
    """LoRA on ``params.lora_targets`` without biases; rank and dropout by formula where the scale has null (App. C).

    Args:
        hidden_size: width of the base.
        n_train: training rows, for the dropout formula.
        task_type: CAUSAL_LM or SEQ_CLS.
        modules_to_save: modules trained in full and saved with the adapter.
    """
    rank = derive.lora_rank(hidden_size) if params.lora_rank is None else params.lora_rank
    return LoraConfig(
        r=rank,
        lora_alpha=derive.lora_alpha(rank),
        lora_dropout=derive.lora_dropout(n_train) if params.lora_dropout is None else params.lora_dropout,
        target_modules=list(params.lora_targets),
        modules_to_save=modules_to_save,
        bias="none",
        task_type=task_type,
    )


def count_trainable(base: PreTrainedModel, config: LoraConfig) -> int:
    """Number of parameters that an adapter of ``config`` would train, before it exists.

    Raises:
        SourceError: a target names no linear layer of the base.
    """
    targets = set(config.target_modules or ())
    total = 0
    found: set[str] = set()
    for path, module in base.named_modules():
        shape, named = linear_shape(module), matching(path, targets)
        if named and shape is not None:
            total += config.r * sum(shape)
            found.update(named)
        elif matching(path, config.modules_to_save or ()):
            total += sum(parameter.numel() for parameter in module.parameters())
    if found != targets:
        raise SourceError(
            f"{type(base).__name__} has no linear layers called {sorted(targets - found)}; expected every name in "
            "lora_targets of the scale file to match some"
        )
    return total


def attach(base: PreTrainedModel, adapters: Mapping[str, Path], trainable: str | None) -> PeftModel:
    """Load adapters from disk onto ``base``, by name; the first, or the trainable one, is active.

    Args:
        adapters: name -> directory written by :func:`save_adapter`. Two names may share a directory.
        trainable: the one adapter whose parameters get gradients; None = no parameter does.

    Raises:
        SourceError: a directory holds no adapter, or a damaged one.
    """
    for directory in dict.fromkeys(adapters.values()):
        check_adapter(directory)
    names = list(adapters)
    first, *others = names
    model = PeftModel.from_pretrained(base, str(adapters[first]), adapter_name=first)
    for name in others:
        model.load_adapter(str(adapters[name]), adapter_name=name)
    model.set_adapter(first if trainable is None else trainable, inference_mode=trainable is None)
    fuse_adapters(model)
    return model.eval()


def fuse_adapters(model: torch.nn.Module) -> None:
    """Have LoRA layers compute in the dtype of their input, and scale and add in their second product.

    PEFT computes them in the dtype of their weights, float32, with a copy of the base's result, a factor and a sum as
    kernels of their own. What comes out is the same up to the rounding of that dtype; so are the weights' gradients,
    which are added up in float32 over the parts of a step. Other kinds of LoRA, such as DoRA, are left to PEFT.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer) and not module.lora_variant and not any(module.lora_bias.values()):
            module.forward = types.MethodType(_fused_forward, module)


def _fused_forward(layer: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    if layer.disable_adapters or layer.merged or options or args:
        return type(layer).forward(layer, x, *args, **options)
    (name,) = layer.active_adapters
    result = layer.base_layer(x)
    narrow = linear(layer.lora_dropout[name](x), layer.lora_A[name].weight.to(x.dtype))
    up = layer.lora_B[name].weight.to(x.dtype).T
    flat = torch.addmm(result.flatten(0, -2), narrow.flatten(0, -2), up, alpha=layer.scaling[name])
    return flat.view_as(result)


@contextmanager
def rounded_adapters(model: PreTrainedModel | PeftModel, dtype: torch.dtype) -> Iterator[None]:
    """Run the body with the adapters' weights in ``dtype``, instead of casting them at every call.

    For many calls without a gradient, such as the tokens of a response. The weights come back as they were.
    """
    weights = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
    kept = [parameter.data for parameter in weights]
    try:
        for parameter in weights:
            parameter.data = parameter.data.to(dtype)
        yield
    finally:
        for parameter, data in zip(weights, kept, strict=True):
            parameter.data = data


@contextmanager
def use_adapter(model: PeftModel, name: str | None) -> Iterator[None]:
    """Run the body with one adapter active, or with none: the base alone. May be nested.

    Unlike PEFT's own switching, it changes no parameter's ``requires_grad``, so an optimiser's parameters stay
    trainable. With gradient checkpointing, ``backward`` runs layers again: call it inside the same context.

    Raises:
        ValueError: the model has no adapter of that name.
    """
    before = active_adapter(model)
    if before == name:
        yield
        return
    _activate(model, name)
    try:
        yield
    finally:
        _activate(model, before)


def active_adapter(model: PeftModel) -> str | None:
    """Name of the active adapter; None where adapters are off."""
    return None if next(_adapted_layers(model)).disable_adapters else model.active_adapter


def _activate(model: PeftModel, name: str | None) -> None:
    """Set what forward passes read: PEFT's methods set every parameter's ``requires_grad`` too, which takes longer."""
    if name is not None and name not in model.peft_config:
        raise ValueError(f"the model has no adapter {name!r}; expected one of {sorted(model.peft_config)}")
    for layer in _adapted_layers(model):
        layer._disable_adapters = name is None
        if name is not None:
            layer._active_adapter = [name]
    if name is not None:
        model.active_adapter = model.base_model.active_adapter = name


def _adapted_layers(module: torch.nn.Module) -> Iterator[BaseTunerLayer | ModulesToSaveWrapper]:
    """Layers with an adapter, and heads of which every adapter has its own; what is inside them is not searched."""
    if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
        yield module
        return
    for child in module.children():
        yield from _adapted_layers(child)


def trainable_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Parameters that get gradients, in the model's order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save_adapter(model: PeftModel, name: str, directory: Path) -> None:
    """Write one adapter: LoRA weights, fully trained modules and configuration, byte for byte reproducible.

    The weights carry the hash of all of it. PEFT's own method adds a model card, the base's path and sets in the
    interpreter's hash order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = model.peft_config[name].to_dict()
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    config |= {"inference_mode": True, "base_model_name_or_path": None}
    records.write_json(directory / CONFIG_FILE, config)
    kept = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    weights = {key: tensor.contiguous().cpu() for key, tensor in kept.items()}
    digest = _content_digest((directory / CONFIG_FILE).read_bytes(), weights)
    save_file(weights, str(directory / WEIGHTS_FILE), metadata={DIGEST: digest})


def check_adapter(directory: Path) -> None:
    """See that a directory holds what :func:`save_adapter` wrote there. PEFT would look for what is missing on the hub.

    Raises:
        SourceError: a file is missing or damaged, or the content is not the one whose hash the weights carry.
    """
    config, weights = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    for file in (config, weights):
        if not file.is_file():
            raise SourceError(f"found no {file.name} in {directory}; expected an adapter: run `dvc repro` to train it")
    try:
        with safe_open(weights, framework="pt") as stored:
            recorded = (stored.metadata() or {}).get(DIGEST)
            names = stored.keys()
            tensors = {name: stored.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{weights} is no whole file of weights ({error}); {MENDING}") from error
    found = _content_digest(config.read_bytes(), tensors)
    if found != recorded:
        expected = f"{recorded[:12]}, the hash that they carry" if recorded else "weights that carry their hash"
        raise SourceError(
            f"{directory}: found weights and {CONFIG_FILE} of content {found[:12]}; expected {expected}: {MENDING}"
        )


def _content_digest(config: bytes, weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a configuration file and of every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(config)
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
