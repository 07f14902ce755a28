"""A role's model: its sizes, shipped with the scales or read from a config.json, in the scale's precision.

Counted is what Llama, Mistral, Qwen2 and Qwen3 have in common: attention to all that came before, keys and values that
heads may share, a gated MLP, an RMSNorm before each; and GPT-2, with learned positions, one layer for queries, keys and
values, a plain MLP, LayerNorms and biases. Any other architecture is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pessimism.data import embedded_world
from pessimism.errors import SourceError
from pessimism.experiment.params import Params
from pessimism.experiment.scale import EMBEDDED_CONTEXT
from pessimism.models import hyperparameters as derive

GPT2 = "gpt2"
KINDS = ("llama", "mistral", "qwen2", "qwen3", GPT2)
GPT2_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "activation_function": "hidden_act",
}
"""What a GPT-2 calls in its own way."""

SILU = "silu"
ACTIVATIONS = {GPT2: "gelu_new"}
"""What the MLP computes between its products, where it is not SiLU."""

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
SPECIAL_TOKENS = 3
"""Of the embedded model, besides the pieces of its world: padding, end, unknown."""

PUBLISHED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published_models.json").read_text("utf-8"))
"""config.json of the shipped scales' models, as far as sizes go."""

FLOAT32 = 4
BYTES = {"float32": (4, 4), "bfloat16": (2, 2), "mixed": (2, 4)}
"""Bytes per number by ``dtype``: inside layers, and of the residual stream, the embedding and the head."""

PACKED_BLOCK, NESTED_BLOCK = 64, 256
"""4-bit weights per 8-bit scale, and scales per float32 scale of theirs: what bitsandbytes does by default."""

TABLES = FLOAT32 * (16 + 256 + 1)
"""Further bytes of every 4-bit layer: the values of its codes and of its scales' codes, and an offset."""

PACKED_PRODUCT = 2
"""Bytes per number in products with 4-bit weights: bfloat16."""


@dataclass(frozen=True)
class Role:
    """A decoder of ``layers`` equal layers in the scale's precision, with the adapter that is trained on it.

    Attributes:
        model: as the scale names it.
        from_hub: whether its files are downloaded.
        block, stream: bytes per number inside layers, keys and values included; of the residual stream, embedding and
            head.
        packed: whether linear layers are in 4 bits.
        rank, dropout, targets: of the adapter, and the linear layers that it is put on.
        hidden, intermediate, head_width: widths of the residual stream, inside the MLP, and of an attention head.
        heads, key_heads: attention heads of queries, and of keys and values.
        tied: whether the output head is the embedding.
        head_norms, biases: whether every head's queries and keys are normed; whether their layers have biases.
        positions: rows of the embedding of positions, which makes the model a GPT-2; 0: positions are rotary.
    """

    name: str
    model: str
    from_hub: bool
    block: int
    stream: int
    packed: bool
    rank: int
    dropout: float
    targets: tuple[str, ...]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    tied: bool
    head_norms: bool
    biases: bool
    positions: int = 0

    @property
    def queries(self) -> int:
        """Width of all heads' queries together."""
        return self.heads * self.head_width

    @property
    def keys(self) -> int:
        """Width of all heads' keys together, and of their values."""
        return self.key_heads * self.head_width

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear layers, by the names that adapters are put on."""
        if self.positions:
            return {
                "c_attn": (self.hidden, 3 * self.hidden),
                "attn.c_proj": (self.hidden, self.hidden),
                "c_fc": (self.hidden, self.intermediate),
                "mlp.c_proj": (self.intermediate, self.hidden),
            }
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def small_weights(self) -> int:
        """Weights of a layer's norms and biases."""
        if self.positions:
            return 4 * self.hidden + sum(outputs for _, outputs in self.linear.values())
        biases = self.queries + 2 * self.keys if self.biases else 0
        return 2 * self.hidden + biases + (2 * self.head_width if self.head_norms else 0)

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of an output head over the vocabulary."""
        return self.vocabulary * self.hidden

    @property
    def language_head(self) -> bool:
        """Whether the head is one over the vocabulary; else it is one score."""
        return self.name == "policy"

    @property
    def product(self) -> int:
        """Bytes per number in products with the base's weights."""
        return PACKED_PRODUCT if self.packed else self.block

    @property
    def parameters(self) -> int:
        """Of the base, as the paper's formulas count them."""
        linear = sum(map(math.prod, self.linear.values()))
        return self.layers * (linear + self.small_weights) + sum(self._outer_weights)

    @property
    def adapter_weights(self) -> int:
        """Weights of an adapter in one layer."""
        return self.rank * sum(sum(self.linear[target]) for target in self.targets)

    @property
    def trainable(self) -> int:
        """Parameters of an adapter, and of the score head next to it."""
        return self.layers * self.adapter_weights + self._outer_weights[1]

    @property
    def weight_bytes(self) -> float:
        """Of the base in memory."""
        outer, score_head = self._outer_weights
        layer = sum(map(self._linear_bytes, self.linear.values())) + self.block * self.small_weights
        return self.layers * layer + self.stream * outer + FLOAT32 * score_head

    @property
    def adapter_bytes(self) -> float:
        return FLOAT32 * self.trainable

    @property
    def stored_bytes(self) -> float:
        """Of the model's files: bfloat16 on the hub, float32 of an embedded model."""
        return (2 if self.from_hub else FLOAT32) * self.parameters

    @property
    def optimiser_bytes(self) -> float:
        """Of an adapter in training: gradients and AdamW's two moments, float32."""
        return 3 * self.adapter_bytes

    @property
    def cache_bytes(self) -> float:
        """Of one token's keys and values in all layers."""
        return 2 * self.layers * self.block * self.keys

    @property
    def _outer_weights(self) -> tuple[int, int]:
        """Weights outside the layers: of embedding, last norm and head over the vocabulary, and of a score head."""
        heads = self.language_head and not self.tied
        last_norm = self.hidden * (2 if self.positions else 1)
        inside = self.embedding * (1 + heads) + self.positions * self.hidden + last_norm
        return inside, 0 if self.language_head else self.hidden

    def _linear_bytes(self, shape: tuple[int, int]) -> int:
        weights = math.prod(shape)
        if not self.packed:
            return self.block * weights
        scales = weights // PACKED_BLOCK
        return weights // 2 + scales + FLOAT32 * math.ceil(scales / NESTED_BLOCK) + TABLES


def find_role(params: Params, name: str, train_pairs: int) -> Role:
    """The model of role ``name``, "policy" or "reward", before it is loaded.

    Args:
        train_pairs: pairs to train on, from which the adapter's dropout is derived.

    Raises:
        SourceError: the model is neither known nor in reach, or none that is counted.
    """
    model = params.scale.model(name)
    sizes, precision = read(_config(params, name), f"{name}.name"), (*BYTES[model.dtype], model.quantization == "nf4")
    rank = derive.lora_rank(sizes["hidden"]) if model.lora_rank is None else model.lora_rank
    dropout = derive.lora_dropout(train_pairs) if model.lora_dropout is None else model.lora_dropout
    role = Role(name, model.name, model.source == "hub", *precision, rank, dropout, model.lora_targets, **sizes)
    unknown = sorted(set(role.targets) - role.linear.keys())
    if unknown:
        raise SourceError(f"{name}.lora_targets: found {unknown}; expected some of {sorted(role.linear)}")
    return role


def read(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Sizes from a config.json, by attributes of :class:`Role`; messages call the model by its ``key`` of the scale."""
    config = _named_alike(config)
    _refuse_others(config, key)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return {
        "hidden": hidden,
        "intermediate": config["intermediate_size"],
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "key_heads": config.get("num_key_value_heads") or heads,
        "head_width": config.get("head_dim") or hidden // heads,
        "vocabulary": config["vocab_size"],
        "tied": config.get("tie_word_embeddings", False),
        "head_norms": config["model_type"] == "qwen3",
        "biases": config["model_type"] == "qwen2",
        "positions": config["max_position_embeddings"] if config["model_type"] == GPT2 else 0,
    }


def _named_alike(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A GPT-2's config.json by the names that the others use, with what it may leave out."""
    if config.get("model_type") != GPT2:
        return config
    named = {GPT2_NAMES.get(name, name): value for name, value in config.items()}
    own = {"intermediate_size": config.get("n_inner") or 4 * named.get("hidden_size", 0)}
    own |= {"num_key_value_heads": None, "head_dim": None}  # which it has not, whatever the file says
    return {"hidden_act": ACTIVATIONS[GPT2], "tie_word_embeddings": True} | named | own


def _config(params: Params, role: str) -> dict[str, Any]:
    """The config.json of ``role``'s base: shipped, in a directory, or as the embedded model would have it."""
    model, size = params.scale.model(role), params.scale.embedded
    if model.source == "embedded":
        assert size is not None
        return {
            "model_type": size.family,
            "hidden_act": ACTIVATIONS.get(size.family, SILU),
            "max_position_embeddings": EMBEDDED_CONTEXT,
            "hidden_size": size.hidden_size,
            "n_inner" if size.family == GPT2 else "intermediate_size": size.intermediate_size,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.attention_heads,
            "num_key_value_heads": size.key_value_heads,
            "vocab_size": len(embedded_world.vocabulary()) + SPECIAL_TOKENS,
            "tie_word_embeddings": True,
        }
    if model.source == "hub" and model.name not in PUBLISHED:
        raise SourceError(
            f"{role}.name: found no sizes of {model.name!r}; expected one of {sorted(PUBLISHED)}, or source: path and "
            f"a directory: `hf download {model.name} config.json --local-dir DIRECTORY`"
        )
    if model.source == "hub":
        return PUBLISHED[model.name]
    path = Path(model.name) / "config.json"
    if not path.is_file():
        raise SourceError(f"{role}.name: found no {path.absolute()}; expected the directory of a model")
    return json.loads(path.read_text(encoding="utf-8"))


def _refuse_others(config: Mapping[str, Any], key: str) -> None:
    kind, activation = config.get("model_type"), config.get("hidden_act", SILU)
    window = config.get("sliding_window") if config.get("use_sliding_window", kind == "mistral") else None
    sizes = (*SIZES, *(["max_position_embeddings"] if kind == GPT2 else []))
    problems = [f"no {name}" for name in sizes if name not in config]
    problems += [f"model_type {kind!r}"] if kind not in KINDS else []
    problems += [f"hidden_act {activation!r}"] if activation != ACTIVATIONS.get(kind or "", SILU) else []
    problems += [f"sliding_window {window}"] if window is not None else []
    problems += [f"{name} true" for name in ("attention_bias", "mlp_bias") if config.get(name)]
    if problems:
        raise SourceError(
            f"{key}: found a config.json with {', '.join(problems)}; expected one of {', '.join(KINDS)} with sizes, "
            "their own activation, full attention and no further biases, which is what the plan counts: the run itself "
            "needs no plan"
        )
