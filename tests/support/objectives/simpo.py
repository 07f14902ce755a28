"""Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734), by TRL's CPOTrainer: no reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from pessimism.models.pair_trainer import PairTrainer
from pessimism.offline.objective import OfflineObjective, PairScores
from pessimism.offline.trainer import IGNORED

GAMMA = 0.5  # margin that the loss asks for, times the strength


class ReadyCpoTrainer(PairTrainer, CPOTrainer):
    """CPOTrainer on ready token ids."""

    config_class = CPOConfig

    def __init__(self, processing_class: PreTrainedTokenizerBase, **arguments: Any) -> None:
        collate = DataCollatorForPreference(processing_class.pad_token_id)
        super().__init__(
            data_collator=lambda rows: labelled(collate(rows)), processing_class=processing_class, **arguments
        )

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return {}

    @staticmethod
    def concatenated_inputs(batch: dict[str, torch.Tensor], **options: Any) -> dict[str, torch.Tensor]:
        return {f"concatenated_{name}": batch[name] for name in ("input_ids", "attention_mask", "labels")}


def labelled(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch with the labels that CPOTrainer counts and scores."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    return batch | {"labels": labels, "chosen_labels": labels[: len(labels) // 2]}


OBJECTIVE = OfflineObjective(
    strength="beta: how much of a margin per token counts",
    needs_reference=False,
    arguments=lambda beta: {"loss_type": "simpo", "beta": beta, "simpo_gamma": GAMMA, "cpo_alpha": 0.0},
    margins=PairScores.token_margins,
    losses=lambda beta, scores: np.logaddexp(0, GAMMA - beta * scores.token_margins()),
    first_loss=None,
    trainer=ReadyCpoTrainer,
)
