"""Loading of tokenizers and frozen base models, checked against what prepare_base recorded.

``dtype`` is the dtype of everything that is not quantised; ``mixed`` is bfloat16 inside the layers and float32 in
embeddings, residual stream, last norm and head (models.precision).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations import sdpa_attention

from pessimism.data.hashing import content_hash, ways_out
from pessimism.errors import SourceError
from pessimism.experiment import layout, records
from pessimism.experiment.params import ModelParams, Params
from pessimism.experiment.sections import section
from pessimism.machine import hub, processes
from pessimism.models.precision import LOADED_DTYPES, compute_blocks_in_bfloat16, fuse_norms

SCORE_HEAD = "score"
ADAPTER = "adapter_config.json"


class Float32Linear(torch.nn.Linear):
    """A float32 score head on hidden states of any dtype: bfloat16 rewards near 4 would be multiples of 1/32."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden.float())


def device() -> torch.device:
    """Where this process's models run: its own CUDA device, or the CPU."""
    return torch.device("cuda", processes.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def load_tokenizer(params: Params, role: str) -> PreTrainedTokenizerBase:
    """Tokenizer of ``role``, with a padding token that is not its EOS token.

    Raises:
        SourceError: the source or the warm start changed since prepare_base, or the tokenizer has no token to pad with.
    """
    tokenizer = AutoTokenizer.from_pretrained(_checked_location(params, role), trust_remote_code=False)
    set_padding_token(tokenizer)
    return tokenizer


def load_policy_base(params: Params) -> PreTrainedModel:
    """Frozen causal language model of the policy, after its warm start if it has one, in eval mode on :func:`device`.

    Raises:
        SourceError: the source or the warm start changed since prepare_base, or its files lack weights.
    """
    return _load(params, "policy", AutoModelForCausalLM, new_weights=set())


def load_float32_policy(params: Params) -> PreTrainedModel:
    """The policy's source, before any warm start, in float32 on the CPU, rounded nowhere: to be changed and saved.

    Raises:
        SourceError: the source changed since prepare_base.
    """
    source = _checked_source(params, "policy")
    return AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )


def load_reward_base(params: Params) -> PreTrainedModel:
    """Frozen one-score classifier of the reward ensemble, after the warm start if it begins there.

    The head is float32, never quantised, and zero: each member brings its own.

    Raises:
        SourceError: the source or the warm start changed since prepare_base, or its files lack weights.
    """
    head_weight = f"{SCORE_HEAD}.weight"
    model = _load(params, "reward", AutoModelForSequenceClassification, new_weights={head_weight}, num_labels=1)
    old_head = getattr(model, SCORE_HEAD)
    head = Float32Linear(old_head.in_features, 1, bias=False, device=model.device, dtype=torch.float32)
    torch.nn.init.zeros_(head.weight)
    setattr(model, SCORE_HEAD, head.requires_grad_(False))
    return model


def set_padding_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Choose a padding token other than EOS, or padding would be taken for the end of a response and the reverse.

    A special token that the tokenizer already has is reused, one called "pad" first, then the lowest id: new tokens
    would need new embedding rows.

    Raises:
        SourceError: there is no such token.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    taken = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    special = [
        (("pad" not in token.content.lower(), index), token.content)
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special and index not in taken
    ]
    if not special:
        raise SourceError(
            f"the tokenizer of {tokenizer.name_or_path!r} pads with {tokenizer.pad_token!r} and ends with "
            f"{tokenizer.eos_token!r}; expected a padding token of its own, or a spare special token to use as one: "
            "add a pad_token to a local copy of its tokenizer_config.json and load that (source: path)"
        )
    tokenizer.pad_token = min(special)[1]


def has_adapter(directory: Path) -> bool:
    """Whether an adapter lies beside a model's files: transformers would put it on the model without a word."""
    return (directory / ADAPTER).is_file()


def adapter_problem(role: str) -> str:
    """Why such a directory is refused."""
    return (
        f"found {ADAPTER} beside the model; expected a base alone, for transformers would add the adapter to it: merge "
        f"the two and save the result, or choose a directory without it ({role}.name)"
    )


@cache
def hash_once(directory: Path) -> str:
    """Content hash of a model directory, read once per process: tens of gigabytes at the paper's scale."""
    return content_hash(directory)


def _checked_location(params: Params, role: str) -> str:
    """Directory of ``role``'s files: of its source or, where prepare_base recorded one for it, of a warm start."""
    source = _checked_source(params, role)
    if not layout.WARM_START_RECORD.is_file():
        return source
    record = records.read_json(layout.WARM_START_RECORD)
    if role not in record["roles"]:
        return source
    _check_unchanged(layout.WARM_START, record["content_sha256"])
    return str(layout.WARM_START)


def _checked_source(params: Params, role: str) -> str:
    """Directory of the source of ``role``; refuses one that is not what prepare_base recorded.

    Files of the hub are loaded from where they lie, too: by name, transformers asks for files that a model may have
    beside them, and waits for minutes where no hub answers.
    """
    model = params.scale.model(role)
    record = records.read_json(layout.base_record(role))
    with section(params, role):
        _check_recorded("source", model.source, record["source"])
        _check_recorded("name", model.name, record["name"])
        if model.source == "embedded":
            _check_unchanged(layout.BASE_WEIGHTS, record["content_sha256"])
            return str(layout.BASE_WEIGHTS)
        if model.source == "path":
            _check_unchanged(Path(model.name), record["content_sha256"])
            return model.name
        # A pinned commit is the one to find recorded, a branch or a tag the one that was asked for.
        key = "revision" if hub.is_commit(model.revision) else "requested_revision"
        _check_recorded("revision", model.revision, record[key])
        return str(hub.snapshot("model", model.name, record["revision"]))


def _check_recorded(key: str, found: str | None, recorded: str | None) -> None:
    if found != recorded:
        raise SourceError(f"found {key} {found!r}; expected {recorded!r}, which prepare_base recorded: run `dvc repro`")


def _check_unchanged(directory: Path, recorded: str) -> None:
    if not directory.is_dir():
        raise SourceError(
            f"found no directory {str(directory)!r}; expected that of a Hugging Face model: change `name`"
        )
    found = hash_once(directory.resolve())
    if found != recorded:
        raise SourceError(
            f"found content {found}; expected {recorded}, which prepare_base recorded: "
            f"{ways_out('prepare_base', layout.BASE)}"
        )


def _load(params: Params, role: str, kind: Any, new_weights: set[str], **options: Any) -> PreTrainedModel:
    location = _checked_location(params, role)
    if has_adapter(Path(location)):
        raise SourceError(f"{location}: {adapter_problem(role)}")
    chosen = params.scale.model(role)
    torch.set_float32_matmul_precision(params.scale.matmul_precision)
    # By default, products over many tokens, such as an adapter's gradient, may be added up in bfloat16 on CUDA.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    model, info = kind.from_pretrained(
        location,
        dtype=LOADED_DTYPES[chosen.dtype],
        quantization_config=quantization_config(chosen),
        device_map={"": device()},
        output_loading_info=True,
        trust_remote_code=False,
        use_safetensors=True,
        **options,
    )
    missing = set(info["missing_keys"]) - new_weights
    if missing:
        raise SourceError(
            f"{location}: found no weights for {sorted(missing)}; expected a complete model ({role}.name)"
        )
    model.config.get_text_config().pad_token_id = load_tokenizer(params, role).pad_token_id
    repeat_shared_heads()
    _keep_gradients_on_cpu(model)
    unpack_into_compute_dtype(model)
    set_precision(model, chosen)
    return model.requires_grad_(False).eval()


def set_precision(model: PreTrainedModel, chosen: ModelParams) -> None:
    """Fused norms, and blocks in bfloat16 where the scale asks for mixed precision."""
    fuse_norms(model)
    if chosen.dtype == "mixed":
        compute_blocks_in_bfloat16(model)


def quantization_config(model: ModelParams) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation and bfloat16 compute; transformers leaves output heads as they are."""
    if model.quantization == "none":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def repeat_shared_heads() -> None:
    """Have attention repeat the keys and values that several heads share, in every model of this process.

    Torch's own grouped attention has no kernel for float32 on CUDA that keeps the (T, T) scores out of memory:
    https://docs.pytorch.org/docs/2.13/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    sdpa_attention.use_gqa_in_sdpa = never_grouped


def never_grouped(mask: torch.Tensor | None, key: torch.Tensor, value: torch.Tensor) -> bool:
    """What :func:`repeat_shared_heads` answers where transformers asks whether to group."""
    return False


def _keep_gradients_on_cpu(model: PreTrainedModel) -> None:
    """Switch off bitsandbytes' repacking of 4-bit weights on CPUs with AVX512-BF16.

    An eval-mode forward repacks them for a kernel without a backward: from then on no gradient passes the layer.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def unpack_into_compute_dtype(model: PreTrainedModel) -> None:
    """Have backward passes unpack 4-bit weights straight into the dtype that they are multiplied in.

    Bitsandbytes would unpack into the dtype of the loaded model, and round that in a second pass to the same bits.
    """
    for module in model.modules():
        if hasattr(module, "compute_dtype") and hasattr(module.weight, "quant_state"):
            module.weight.quant_state.dtype = module.compute_dtype
