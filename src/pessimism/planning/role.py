"""One role's model, policy or reward: its architecture in the scale's precision, with the adapter that it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pessimism.errors import SourceError
from pessimism.experiment.params import Params
from pessimism.models import hyperparameters as derive
from pessimism.planning.architecture import Architecture, find_architecture

FLOAT32 = 4
BYTES = {"float32": (4, 4), "bfloat16": (2, 2), "mixed": (2, 4)}
"""Bytes per number inside layers, and of the residual stream, the embedding and the head, by ``dtype``."""

PACKED_BLOCK, NESTED_BLOCK = 64, 256
"""4-bit weights per 8-bit scale, and scales per float32 scale of theirs: what bitsandbytes does by default."""

TABLES = FLOAT32 * (16 + 256 + 1)
"""Further bytes of every 4-bit layer: the values of its codes and of its scales' codes, and an offset."""

PACKED_PRODUCT = 2
"""Bytes per number in products with 4-bit weights: bfloat16."""


@dataclass(frozen=True)
class Role:
    """A base with adapters.

    Attributes:
        model: as the scale names it.
        from_hub: whether its files are downloaded.
        block: bytes per number inside layers, keys and values included.
        stream: bytes per number of the residual stream, embedding and head.
        packed: whether linear layers are in 4 bits.
        rank, dropout: of an adapter.
        targets: linear layers that it is put on.
    """

    name: str
    model: str
    from_hub: bool
    architecture: Architecture
    block: int
    stream: int
    packed: bool
    rank: int
    dropout: float
    targets: tuple[str, ...]

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
        linear = sum(map(math.prod, self.architecture.linear.values()))
        return self.architecture.layers * (linear + self.architecture.small_weights) + sum(self._outer_weights)

    @property
    def adapter_weights(self) -> int:
        """Weights of an adapter in one layer."""
        return self.rank * sum(sum(self.architecture.linear[target]) for target in self.targets)

    @property
    def trainable(self) -> int:
        """Parameters of an adapter, and of the score head next to it."""
        return self.architecture.layers * self.adapter_weights + self._outer_weights[1]

    @property
    def weight_bytes(self) -> float:
        """Of the base in memory."""
        sizes, (outer, score_head) = self.architecture, self._outer_weights
        layer = sum(map(self._linear_bytes, sizes.linear.values())) + self.block * sizes.small_weights
        return sizes.layers * layer + self.stream * outer + FLOAT32 * score_head

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
        return 2 * self.architecture.layers * self.block * self.architecture.keys

    @property
    def _outer_weights(self) -> tuple[int, int]:
        """Weights outside the layers: of embedding, last norm and head over the vocabulary, and of a score head."""
        sizes, heads = self.architecture, self.language_head and not self.architecture.tied
        return sizes.embedding * (1 + heads) + sizes.hidden, 0 if self.language_head else sizes.hidden

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
    model, architecture = params.scale.model(name), find_architecture(params, name)
    unknown = sorted(set(model.lora_targets) - architecture.linear.keys())
    if unknown:
        raise SourceError(f"{name}.lora_targets: found {unknown}; expected some of {sorted(architecture.linear)}")
    rank = derive.lora_rank(architecture.hidden) if model.lora_rank is None else model.lora_rank
    dropout = derive.lora_dropout(train_pairs) if model.lora_dropout is None else model.lora_dropout
    precision = (*BYTES[model.dtype], model.quantization == "nf4")
    return Role(name, model.name, model.source == "hub", architecture, *precision, rank, dropout, model.lora_targets)
