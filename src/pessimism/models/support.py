"""Which models can be a policy or a reward base, decided from their configuration files: no weight is read.

Every refusal stands for a model that would otherwise fail after hours, or compute something else than the scale says
without a word.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.quantizers import AutoHfQuantizer

from pessimism.data.prompts import PROBE, rendered_turns
from pessimism.errors import SourceError, in_one_line
from pessimism.experiment import layout
from pessimism.experiment.params import ModelParams, Params, Scale
from pessimism.experiment.sections import section
from pessimism.machine import hub
from pessimism.models.architecture import linear_layers, matching
from pessimism.models.loading import (
    SCORE_HEAD,
    adapter_problem,
    device,
    has_adapter,
    quantization_config,
    set_padding_token,
)
from pessimism.models.precision import BLOCKS, has_blocks

CLASSES = {
    "policy": (MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM),
    "reward": (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification),
}
TASKS = {"policy": "causal language model", "reward": "sequence classifier"}
POLICY_INPUTS = ("position_ids", "logits_to_keep")
BLOCK = 64  # weights that share one scale in 4 bits
QUANTIZED_SHARE = 0.9  # of the weights that are neither embedding nor head; 1 but for norms in every dense model


def check_support(params: Params, role: str, revision: str | None = None) -> None:
    """Refuse a base that this experiment cannot use in ``role``: reads config.json and the tokenizer's files.

    A model of the hub is read from the cache where it lies there.

    Args:
        role: policy or reward.
        revision: commit of a hub model; None = the revision that the scale names.

    Raises:
        SourceError: the model cannot be used; one message says everything that is in the way.
    """
    location, commit = _location(params.scale.model(role), revision)
    with section(params, role):
        config, tokenizer = _read(location, commit)
        problems = _file_problems(Path(location), role) + _model_problems(config, params.scale, role)
        problems += _tokenizer_problems(tokenizer, config, role)
        if role == "policy":
            problems += _template_problems(tokenizer)
        if problems:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise SourceError(f"{location!r} cannot be the {role}:\n{listed}")


def policy_tokenizer(params: Params) -> PreTrainedTokenizerBase:
    """The tokenizer of a policy that prepare_base has not recorded yet.

    Raises:
        SourceError: it cannot be read.
    """
    _, tokenizer = _read(*_location(params.scale.policy, None))
    return tokenizer


def _file_problems(directory: Path, role: str) -> list[str]:
    """A model of the hub that is not on this machine has no files yet; they are looked at when it is loaded."""
    return [adapter_problem(role)] if has_adapter(directory) else []


def _model_problems(config: PreTrainedConfig, scale: Scale, role: str) -> list[str]:
    chosen = scale.model(role)
    problems = _config_problems(config, chosen, scale.lengths.sequence, role)
    if problems:
        return problems
    model = _without_weights(config, role)
    problems = _layer_problems(model, chosen)
    problems += _policy_problems(model) if role == "policy" else _reward_problems(model)
    return problems + _quantization_problems(model, chosen) + _precision_problems(model, chosen, role)


def _location(chosen: ModelParams, revision: str | None) -> tuple[str, str | None]:
    """Directory of a base, or name and commit at the hub while its files are not on this machine."""
    if chosen.source != "hub":
        return str(layout.BASE_WEIGHTS) if chosen.source == "embedded" else chosen.name, None
    commit = chosen.revision if revision is None else revision
    snapshot = hub.cached_snapshot("model", chosen.name, commit)
    return (str(snapshot), None) if snapshot else (chosen.name, commit)


def _read(location: str, revision: str | None) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    try:
        config = AutoConfig.from_pretrained(location, revision=revision, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise SourceError(
            f"could not read the configuration or the tokenizer of {location!r} ({in_one_line(error)}); expected files "
            "of an architecture that the installed transformers has: check `name`"
        ) from error
    return config, tokenizer


def _without_weights(config: PreTrainedConfig, role: str) -> PreTrainedModel:
    try:
        with torch.device("meta"):
            return CLASSES[role][1].from_config(config, trust_remote_code=False)
    except Exception as error:
        raise SourceError(
            f"{config.model_type!r} cannot be built from its config.json ({in_one_line(error)}); expected sizes that "
            "fit together: check `name`"
        ) from error


def _config_problems(config: PreTrainedConfig, chosen: ModelParams, sequence: int, role: str) -> list[str]:
    """What the configuration alone shows. Without a class there is nothing further to look at."""
    problems = []
    if type(config) not in CLASSES[role][0]:
        problems.append(
            f"found architecture {config.model_type!r}, of which the installed transformers has no {TASKS[role]}; "
            f"expected one: choose another model under {role}.name"
        )
    if getattr(config, "quantization_config", None) is not None:
        # Transformers would load it so and ignore the scale's own choice.
        problems.append(
            f"found weights that are quantised already; expected plain ones, which {role}.quantization "
            f"({chosen.quantization}) then quantises: choose the original model under {role}.name"
        )
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and 0 < longest < sequence:
        # Learned positions fail at the first long row; rotary ones go on with attention they were never trained for.
        problems.append(
            f"found room for {longest} tokens (max_position_embeddings); expected lengths.sequence ({sequence}) or "
            "more: lower lengths.sequence, or choose another model"
        )
    return problems


def _layer_problems(model: PreTrainedModel, chosen: ModelParams) -> list[str]:
    """Adapters are put on linear layers by name: on every layer meant, and on none beside the language model."""
    linear = linear_layers(model)
    named = {path: names for path in linear if (names := matching(path, chosen.lora_targets))}
    missing = set(chosen.lora_targets).difference(*named.values())
    problems = []
    if missing:
        names = sorted({path.rsplit(".", 1)[-1] for path in linear})
        problems.append(f"found no linear layers called {sorted(missing)}; expected lora_targets to be among {names}")
    inside = {id(module) for module in model.get_decoder().modules()}
    beside = sorted(path for path in named if id(model.get_submodule(path)) not in inside)
    if beside:
        # An adapter on an image tower never gets a gradient, but counts for the learning rate.
        problems.append(
            f"found {len(beside)} layers that lora_targets names outside the language model, the first {beside[0]!r}; "
            "expected all of them inside: choose a text-only model, and no output head in lora_targets"
        )
    return problems


def _policy_problems(model: PreTrainedModel) -> list[str]:
    problems = []
    missing = [name for name in POLICY_INPUTS if name not in inspect.signature(model.forward).parameters]
    if missing:
        # Such a forward swallows the argument: rows padded on the left then count their padding.
        problems.append(
            f"found no {missing} among the inputs of {type(model).__name__}; expected them, as rows are padded on the "
            "left: choose another architecture under policy.name"
        )
    rates = sorted(_dropout_rates(model))
    if rates:
        problems.append(
            f"found dropout of the base's own ({', '.join(rates)}); expected none, or policy and reference differ "
            "while the policy trains: set it to 0 in a local copy of config.json and load that (source: path)"
        )
    return problems


def _dropout_rates(model: PreTrainedModel) -> set[str]:
    """Dropouts above 0, as modules or as rates that a module passes to a function."""
    rates = {
        f"{name} {value}"
        for module in model.modules()
        for name, value in vars(module).items()
        if "drop" in name and isinstance(value, float) and value > 0
    }
    return rates | {
        f"{path.rsplit('.', 1)[-1]} {module.p}"
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Dropout) and module.p > 0
    }


def _reward_problems(model: PreTrainedModel) -> list[str]:
    if isinstance(getattr(model, SCORE_HEAD, None), torch.nn.Linear):
        return []
    found = [name for name, _ in model.named_children()]
    return [
        f"found parts {found} in {type(model).__name__}; expected a linear head called {SCORE_HEAD!r} on the last "
        "token's state: choose a decoder-only model under reward.name"
    ]


def _quantization_problems(model: PreTrainedModel, chosen: ModelParams) -> list[str]:
    """Let transformers replace the layers, as loading would, and look at what it replaced."""
    config = quantization_config(chosen)
    if config is None:
        return []
    total = _weights_between(model)
    AutoHfQuantizer.from_config(config, pre_quantized=False).preprocess_model(model, device_map=None)
    from bitsandbytes.nn import Linear4bit

    layers = {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}
    problems = []
    quantized = sum(layer.in_features * layer.out_features for layer in layers.values())
    if quantized < QUANTIZED_SHARE * total:
        problems.append(
            f"found linear layers with {quantized:,} of {total:,} weights; expected nearly all of them there: the "
            f"others (experts, fused or custom layers) would stay in {chosen.dtype}: set quantization to none, or "
            "choose a dense model"
        )
    odd = sorted({layer.in_features for layer in layers.values() if layer.in_features % BLOCK})
    if odd and device().type == "cpu":
        # Its AVX-512 kernel starts a block with every row; the blocks do not. Nothing fails, the weights are others.
        problems.append(
            f"found layers with {odd} inputs; expected multiples of {BLOCK}: bitsandbytes reads other weights than it "
            "stored on a CPU: set quantization to none, or use a CUDA device"
        )
    return problems


def _precision_problems(model: PreTrainedModel, chosen: ModelParams, role: str) -> list[str]:
    if chosen.dtype != "mixed" or has_blocks(model):
        return []
    return [
        f"found layers of {type(model).__name__} that are not made of {' and '.join(BLOCKS)}; expected these to hold "
        f"every linear layer, as they are what computes in bfloat16: set {role}.dtype to float32 or bfloat16"
    ]


def _weights_between(model: PreTrainedModel) -> int:
    """Number of weights that are neither embedding nor output head."""
    outer = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    outer += [head for head in (model.get_output_embeddings(), getattr(model, SCORE_HEAD, None)) if head is not None]
    left_out = {id(parameter) for module in outer for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in left_out)


def _tokenizer_problems(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, role: str) -> list[str]:
    problems = []
    if role == "policy" and tokenizer.eos_token_id is None:
        problems.append(
            "found a tokenizer without an EOS token; expected one that ends responses: name it as eos_token in a local "
            "copy of tokenizer_config.json and load that (source: path), or choose another model"
        )
    else:
        set_padding_token(tokenizer)
    if not tokenizer.is_fast:
        # Long prompts are cut where a token begins in the text, which only a fast tokenizer knows.
        problems.append(
            f"found the tokenizer {type(tokenizer).__name__}, which does not say where in a text its tokens are; "
            "expected a fast one, with a tokenizer.json: choose another model"
        )
    highest, rows = max(tokenizer.get_vocab().values()), config.get_text_config().vocab_size
    if highest >= rows:
        problems.append(
            f"found token ids up to {highest} and an embedding of {rows} rows; expected a row for every id: use the "
            "tokenizer that belongs to the model"
        )
    return problems


def _template_problems(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Render one turn, as every preference prompt will be, with and without a phase of thinking."""
    problems: list[str] = []
    for thinking in (True, False) if tokenizer.chat_template else ():
        try:
            rendered_turns(tokenizer, [PROBE], thinking)
        except SourceError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))
