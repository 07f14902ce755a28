"""The two models of a scale, policy and reward, by their sizes."""

from __future__ import annotations

from dataclasses import dataclass

from peft import LoraConfig

from pessimism.experiment.params import Params
from pessimism.models.adapters import count_trainable
from pessimism.models.compute.batching import derived_batch_size
from pessimism.planning import bases

FLOAT32_BYTES = 4
ADAM_MOMENTS = 2


@dataclass(frozen=True)
class Role:
    """Sizes of one role's model, found without its weights.

    Attributes:
        parameters: of the base.
        trainable: parameters of the adapter, and of the head where one is trained.
        weight_bytes: of the base as it is loaded.
        evaluation_batch: rows of a pass without a gradient.
    """

    parameters: int
    trainable: int
    adapter: LoraConfig
    weight_bytes: int
    evaluation_batch: int

    @property
    def adapter_bytes(self) -> int:
        return FLOAT32_BYTES * self.trainable

    def training_memory(self) -> dict[str, int]:
        """Bytes of an adapter in training: its weights, their gradients, and AdamW's two moments, all float32."""
        size = self.adapter_bytes
        return {"adapters": size, "gradients": size, "optimiser": ADAM_MOMENTS * size}


def find_role(params: Params, name: str, train_pairs: int) -> Role:
    """Sizes of the model of role ``name``, "policy" or "reward".

    Args:
        train_pairs: pairs to train on, from which the adapter's dropout is derived.

    Raises:
        SourceError: the model is neither known nor in reach.
    """
    full = bases.full_base(params, name)
    adapter = bases.adapter_of(params, name, full, train_pairs)
    parameters, given = full.num_parameters(), params.scale.evaluation_batch_size
    return Role(
        parameters=parameters,
        trainable=count_trainable(full, adapter),
        adapter=adapter,
        weight_bytes=bases.size(bases.resident_tensors(bases.base(params, name))),
        evaluation_batch=derived_batch_size(params.scale, parameters, inference=True) if given is None else given,
    )
