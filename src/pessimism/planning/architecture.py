"""Sizes of a decoder: shipped with the scales of this repository, or read from a config.json.

Counted is what Llama, Mistral, Qwen2 and Qwen3 have in common: attention to all that came before, keys and values that
heads may share, a gated MLP, an RMSNorm before each. Any other architecture is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pessimism.data import embedded_world
from pessimism.errors import SourceError
from pessimism.experiment.params import EmbeddedParams, Params

KINDS = ("llama", "mistral", "qwen2", "qwen3")
HEAD_NORMS, BIASES = {"qwen3"}, {"qwen2"}
"""Kinds that norm every head's queries and keys; whose query, key and value layers have biases."""

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
SPECIAL_TOKENS = 3
"""Of the embedded model, besides the pieces of its world: padding, end, unknown."""

PUBLISHED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published_models.json").read_text("utf-8"))
"""config.json of the shipped scales' models, as far as sizes go."""


@dataclass(frozen=True)
class Architecture:
    """A decoder of ``layers`` equal layers.

    Attributes:
        hidden, intermediate, head_width: widths of the residual stream, inside the MLP, and of an attention head.
        heads, key_heads: attention heads of queries, and of keys and values.
        tied: whether the output head is the embedding.
        head_norms, biases: whether every head's queries and keys are normed; whether their layers have biases.
    """

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
        biases = self.queries + 2 * self.keys if self.biases else 0
        return 2 * self.hidden + biases + (2 * self.head_width if self.head_norms else 0)

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of an output head over the vocabulary."""
        return self.vocabulary * self.hidden


def find_architecture(params: Params, role: str) -> Architecture:
    """Sizes of ``role``'s base: shipped, embedded, or read from the config.json of a directory.

    Raises:
        SourceError: there are no sizes, or the architecture is none that is counted.
    """
    model = params.scale.model(role)
    if model.source == "embedded":
        assert params.scale.embedded is not None
        return _embedded(params.scale.embedded)
    if model.source == "hub" and model.name in PUBLISHED:
        return read(PUBLISHED[model.name], f"{role}.name")
    if model.source == "hub":
        raise SourceError(
            f"{role}.name: found no sizes of {model.name!r}; expected one of {sorted(PUBLISHED)}, or source: path and "
            f"a directory: `hf download {model.name} config.json --local-dir DIRECTORY`"
        )
    path = Path(model.name) / "config.json"
    if not path.is_file():
        raise SourceError(f"{role}.name: found no {path.absolute()}; expected the directory of a model")
    return read(json.loads(path.read_text(encoding="utf-8")), f"{role}.name")


def read(config: Mapping[str, Any], key: str) -> Architecture:
    """Sizes from a config.json; messages call the model by its ``key`` of the scale file.

    Raises:
        SourceError: the architecture is none that is counted.
    """
    _refuse_others(config, key)
    hidden, intermediate, layers, heads, vocabulary = (config[name] for name in SIZES)
    return Architecture(
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        key_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or hidden // heads,
        vocabulary=vocabulary,
        tied=config.get("tie_word_embeddings", False),
        head_norms=config["model_type"] in HEAD_NORMS,
        biases=config["model_type"] in BIASES,
    )


def _refuse_others(config: Mapping[str, Any], key: str) -> None:
    kind, activation = config.get("model_type"), config.get("hidden_act", "silu")
    window = config.get("sliding_window") if config.get("use_sliding_window", kind == "mistral") else None
    problems = [f"no {name}" for name in SIZES if name not in config]
    problems += [f"model_type {kind!r}"] if kind not in KINDS else []
    problems += [f"hidden_act {activation!r}"] if activation != "silu" else []
    problems += [f"sliding_window {window}"] if window is not None else []
    problems += [f"{name} true" for name in ("attention_bias", "mlp_bias") if config.get(name)]
    if problems:
        raise SourceError(
            f"{key}: found a config.json with {', '.join(problems)}; expected one of {', '.join(KINDS)} with sizes, "
            "SiLU, full attention and no further biases, which is what the plan counts: the run itself needs no plan"
        )


def _embedded(size: EmbeddedParams) -> Architecture:
    widths = (size.hidden_size, size.intermediate_size, size.layers)
    heads = (size.attention_heads, size.key_value_heads, size.hidden_size // size.attention_heads)
    vocabulary = len(embedded_world.vocabulary()) + SPECIAL_TOKENS
    return Architecture(*widths, *heads, vocabulary, tied=True, head_norms=True, biases=False)
