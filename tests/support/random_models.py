"""Small random models of real architectures, and a tokenizer with a chat template that thinks as Qwen3's does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from pessimism.experiment.params import Params
from pessimism.models.embedded import make_tokenizer

SPECIAL = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n\n{{ message.content }}<|im_end|>\n\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
ROWS = 192  # of the embedding; more than the tokenizer has ids, as in Qwen3

# Gemma: the generations of which transformers has both a causal language model and a sequence classifier for text.
ARCHITECTURES: dict[str, Callable[..., PreTrainedConfig]] = {
    "qwen3": Qwen3Config,
    "llama": LlamaConfig,
    "gemma2": Gemma2Config,
    "gemma3": Gemma3TextConfig,
    "gpt2": GPT2Config,
}
SIZE = {
    "vocab_size": ROWS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
}
OWN: dict[str, dict[str, Any]] = {
    "qwen3": {"tie_word_embeddings": False},
    "llama": {"tie_word_embeddings": True},
    # Windows shorter than the rows, and a layer of each kind.
    "gemma2": {"sliding_window": 32, "query_pre_attn_scalar": 32},
    "gemma3": {
        "sliding_window": 32,
        "query_pre_attn_scalar": 32,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt2": {"n_inner": 128, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0},
}


ATTENTION_LAYERS = dict.fromkeys(ARCHITECTURES, ("q_proj", "k_proj", "v_proj", "o_proj"))
ATTENTION_LAYERS["gpt2"] = ("c_attn", "attn.c_proj")
"""Linear layers of attention, as adapters name them."""


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """The embedded world's tokenizer with a chat template; ``enable_thinking: false`` closes an empty thought."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def small_config(architecture: str, **changes: Any) -> PreTrainedConfig:
    """Configuration of an architecture of ARCHITECTURES whose every linear layer has a multiple of 64 inputs."""
    tokenizer = chat_tokenizer()
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return ARCHITECTURES[architecture](**SIZE | OWN[architecture] | ends | changes)


def save_config(config: PreTrainedConfig, directory: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> None:
    """Write configuration and tokenizer, and no weights."""
    config.save_pretrained(directory)
    (chat_tokenizer() if tokenizer is None else tokenizer).save_pretrained(directory)


def save_model(config: PreTrainedConfig, directory: Path, seed: int = 0) -> None:
    """Write a causal language model with random weights, in bfloat16 as on the hub, and the tokenizer."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(directory)
    chat_tokenizer().save_pretrained(directory)


def save_random_adapter(params: Params, directory: Path, seed: int, role: str = "policy") -> None:
    """Write an adapter with every weight drawn at random, as if it had been trained on the tiny world's base."""
    import torch
    from peft import get_peft_model

    from pessimism.models.adapters import DEFAULT, lora_config, save_adapter, trainable_parameters
    from pessimism.models.loading import load_policy_base, load_reward_base

    base = load_policy_base(params) if role == "policy" else load_reward_base(params)
    heads = None if role == "policy" else ["score"]
    task = "CAUSAL_LM" if role == "policy" else "SEQ_CLS"
    model = get_peft_model(base, lora_config(params.scale.model(role), 32, 100, task, heads))
    torch.manual_seed(seed)
    for parameter in trainable_parameters(model):
        torch.nn.init.normal_(parameter, std=0.2)
    save_adapter(model, DEFAULT, directory)
