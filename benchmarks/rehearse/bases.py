"""Random bases of published sizes, drawn layer by layer straight into 4 bits, and a project whose loaders find them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.quantizers import AutoHfQuantizer

from benchmarks import worlds
from pessimism.data.hashing import content_hash
from pessimism.experiment import layout, records
from pessimism.experiment.params import LengthParams, Params, load_params
from pessimism.models import loading
from pessimism.planning.role import PUBLISHED, find_role
from pessimism.planning.setting import Setting
from pessimism.planning.stages import training_values

ROLES = ("policy", "reward")
SCALES = ("paper", "24gb")
MICRO = "micro"
"""The paper's scale with everything that costs time made small, for a CPU."""

MICRO_MODEL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
MICRO_MODEL |= {"num_key_value_heads": 1, "vocab_size": 512}
MICRO_SCALE: dict[str, Any] = {
    "device": "auto",
    "gpu_memory_gb": 2.0,  # batches of 8 by the formula
    "lengths": LengthParams(prompt=24, response=16, sequence=80),
    "tasks": {"heldout": 8},
    "dpo": {"batch_size": 8, "accumulation": 2},
    "reward_training": {"batch_size": 16, "micro_batch_size": 8},
}
LOADERS = ("AutoModelForCausalLM", "AutoModelForSequenceClassification")


class DrawnBase:
    """Takes the place of one of transformers' classes that load a model: its weights are drawn instead of read."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def from_pretrained(
        self, location: str, dtype: torch.dtype, quantization_config: Any, device_map: dict[str, Any], **options: Any
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The model that the files at ``location`` describe, with what transformers says of a whole loading."""
        named = {name: options[name] for name in ("num_labels",) if name in options}
        config = AutoConfig.from_pretrained(location, **named)
        with torch.device("meta"):
            model = self.kind.from_config(config, dtype=dtype)
        quantizer = None
        if quantization_config is not None:
            quantizer = AutoHfQuantizer.from_config(quantization_config, pre_quantized=False)
            quantizer.preprocess_model(model, device_map=None)
        draw_weights(model, torch.device(device_map[""]), dtype)
        if quantizer is not None:
            model.hf_quantizer = quantizer
            quantizer.postprocess_model(model)
        return model, {"missing_keys": set()}


@torch.no_grad()
def draw_weights(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
    """Give a model on the meta device weights by its own initialiser, its linear layers in 4 bits where it has such.

    Of the layers that become 4-bit, one at a time exists in ``dtype``: memory peaks at the model as it is in the end
    and one weight beside it.
    """
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            _draw_4bit(module, model.config.get_text_config().initializer_range, device, dtype)
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            module.to_empty(device=device, recurse=False)
            model._init_weights(module)
    model.tie_weights()


def _draw_4bit(layer: Any, spread: float, device: torch.device, dtype: torch.dtype) -> None:
    """Draw and quantise one weight, with the settings that the quantiser put on the layer."""
    empty = layer.weight
    drawn = torch.empty(layer.out_features, layer.in_features, device=device, dtype=dtype).normal_(std=spread)
    settings = {name: getattr(empty, name) for name in ("quant_type", "compress_statistics", "quant_storage")}
    layer.weight = type(empty)(drawn, requires_grad=False, module=layer, **settings).to(device)


@contextmanager
def project(scale: str) -> Iterator[Params]:
    """A temporary working directory in which the stages' loaders find drawn bases of a scale's own sizes.

    Args:
        scale: name of a scale file whose models' sizes are shipped, or MICRO.
    """
    with worlds.temporary_directory(), ExitStack() as patches:
        for name in LOADERS:
            patches.enter_context(mock.patch.object(loading, name, DrawnBase(getattr(loading, name))))
        yield _derived(_parameters(scale))


def _parameters(scale: str) -> Params:
    """The checkout's parameters at ``scale``, with its bases and their records as prepare_base would leave them."""
    params = load_params(worlds.CHECKOUT, scale="paper" if scale == MICRO else scale)
    sections: dict[str, Any] = {}
    for role in ROLES:
        chosen = params.scale.model(role)
        sizes = PUBLISHED[chosen.name] | (MICRO_MODEL if scale == MICRO else {})
        directory = _save_description(role, sizes)
        sections[role] = dataclasses.replace(chosen, source="path", name=str(directory), revision=None)
    params = with_scale(params, **sections, **(MICRO_SCALE if scale == MICRO else {}))
    rows = Setting(params).rows.train_pairs
    for role in ROLES:
        place, sized = params.scale.model(role).name, find_role(params, role, rows)
        identity = {"source": "path", "name": place, "revision": None, "content_sha256": content_hash(Path(place))}
        sizes = {"parameters": sized.parameters, "hidden_size": sized.hidden, "vocabulary": sized.vocabulary}
        records.write_json(layout.base_record(role), identity | sizes)
    return params


def _derived(params: Params) -> Params:
    """What follows from the number of the scale's own rows, set: the rehearsal itself trains on few."""
    setting, scale = Setting(params), params.scale
    dpo = training_values(setting, setting.policy, scale.dpo)
    reward = training_values(setting, setting.reward, scale.reward_training)
    return with_scale(
        params,
        policy={"lora_dropout": setting.policy.dropout},
        reward={"lora_dropout": setting.reward.dropout},
        dpo={name: dpo[name] for name in ("batch_size", "accumulation")},
        reward_training={"batch_size": reward["batch_size"], "epochs": 1},
    )


def with_scale(params: Params, **sections: Any) -> Params:
    """Parameters whose scale has other sections; a mapping replaces keys of a section."""
    scale = params.scale
    found = {
        name: dataclasses.replace(getattr(scale, name), **value) if isinstance(value, dict) else value
        for name, value in sections.items()
    }
    return dataclasses.replace(params, scale=dataclasses.replace(scale, **found))


def _save_description(role: str, sizes: dict[str, Any]) -> Path:
    """A directory with the configuration and a tokenizer of as many words, and no weights."""
    directory = Path(f"base-{role}").absolute()
    tokens = {"bos_token_id": None, "eos_token_id": worlds.EOS, "pad_token_id": worlds.PAD}
    AutoConfig.for_model(**sizes, **tokens).save_pretrained(directory)
    worlds.word_tokenizer(sizes["vocab_size"]).save_pretrained(directory)
    return directory
