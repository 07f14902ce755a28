"""TRL's trainers on pairs: random batches that are sorted inside, one row per pair, parts weighed by their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as compute
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from pessimism.experiment import records
from pessimism.machine import processes
from pessimism.models.compute.length_groups import SortedBatches, group_by_length
from pessimism.models.compute.prefix_sharing import shares_prefixes


class PairTrainer(Trainer):
    """What every trainer of TRL's gets here: prompts computed once, little padding, weighed parts, a count of pairs.

    A subclass puts it before a trainer of TRL's, whose batches hold ``input_ids`` and ``attention_mask``, padded on
    the right, the chosen texts first and the rejected ones in the same order.

    Attributes:
        config_class: the configuration that the trainer takes.
    """

    config_class: type[TrainingArguments]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        group_by_length(self.model.get_base_model())
        self.pairs_trained = 0
        self.pairs_of_step: int | None = None

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SortedBatches:
        args = self.args
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        lengths = pair_lengths(train_dataset or self.train_dataset, shares_prefixes(self.model))
        return SortedBatches(lengths, batch, args.seed)

    def get_batch_samples(self, *arguments: Any, **options: Any) -> tuple[list[dict[str, Any]], Any]:
        """The parts of the next step, whose pairs are counted."""
        parts, items = super().get_batch_samples(*arguments, **options)
        self.pairs_of_step = sum(map(_pairs, parts))
        return parts, items

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        self.pairs_trained += _pairs(inputs)
        return super().training_step(model, inputs, *rest)

    def counts(self) -> dict[str, Any]:
        """What this process has counted beside the trainer's own state, JSON-ready; a subclass adds its own."""
        return {"pairs_trained": self.pairs_trained}

    def set_counts(self, counts: dict[str, Any]) -> None:
        self.pairs_trained = counts["pairs_trained"]

    def save_counts(self, state: Path) -> None:
        records.write_json(state / _counts_file(), self.counts())

    def restore_counts(self, state: Path) -> None:
        self.set_counts(records.read_json(state / _counts_file()))

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *rest: Any, **options: Any) -> torch.Tensor:
        """Mean over the pairs of a part, weighed so that the trainer's mean over parts is that over a step's pairs."""
        share = 1.0
        if self.pairs_of_step is not None:
            share = _pairs(inputs) * self.current_gradient_accumulation_steps / self.pairs_of_step
        return share * super().compute_loss(model, inputs, *rest, **options)


def _counts_file() -> str:
    return f"counts-{processes.rank()}.json"


def _pairs(inputs: dict[str, Any]) -> int:
    """Number of pairs in a batch, which holds two texts of each."""
    return len(inputs["input_ids"]) // 2


def pair_lengths(pairs: Dataset, one_row: bool) -> np.ndarray:
    """(N,) tokens of each pair's row or, where pairs are not one row, of its longer text; prompt included.

    Args:
        one_row: whether a pair is one row (models.compute.prefix_sharing).
    """
    table = pairs.with_format("arrow")[:]
    lengths = {name: compute.list_value_length(table[name]).to_numpy() for name in table.column_names if "_ids" in name}
    chosen, rejected = lengths["chosen_ids"], lengths["rejected_ids"]
    if one_row:
        texts = zip(table["chosen_ids"], table["rejected_ids"], strict=True)
        responses = chosen + rejected - [common_tokens(*(ids.values.to_numpy() for ids in pair)) for pair in texts]
    else:
        responses = np.maximum(chosen, rejected)
    return lengths.get("prompt_ids", 0) + responses


def common_tokens(first: np.ndarray, second: np.ndarray) -> int:
    """Tokens with which both begin."""
    shorter = min(len(first), len(second))
    return int(np.append(first[:shorter] != second[:shorter], True).argmax())
