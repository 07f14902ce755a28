"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306, Eq. 7), by TRL's KTOTrainer: every text is
judged by itself against a reference point, the divergence of the policy from the base.

The two texts of a pair are one desirable and one undesirable example; the loss never compares them. The reference
point is the mean log-ratio of mismatched texts, each a prompt with a response of the pair before it, at least 0: of
the batch in training, of all validation pairs where the loss is validated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from pessimism.data.prompts import EncodedPair
from pessimism.errors import ParamsError
from pessimism.models.adapters import use_adapter
from pessimism.models.pair_trainer import PairTrainer
from pessimism.offline.objective import OfflineObjective, PairScores
from pessimism.offline.reference import pair_logps
from pessimism.offline.trainer import add_chunked_head

MISMATCHED = {"chosen_ids": "other_chosen_ids", "rejected_ids": "other_rejected_ids"}


class PairedKtoTrainer(PairTrainer, KTOTrainer):
    """KTOTrainer on both texts of every pair, with ready token ids and ready reference log-probabilities.

    Those of the mismatched texts are computed in every step, under the policy and under the base.
    """

    config_class = KTOConfig

    def __init__(self, processing_class: PreTrainedTokenizerBase, args: KTOConfig, **arguments: Any) -> None:
        if args.per_device_train_batch_size < 2:
            raise ParamsError(
                "dpo.micro_batch_size: found 1 pair per forward pass; expected 2 or more for kto, whose reference "
                "point is a mean over them: raise it in the scale's file, or choose another offline.objective"
            )
        collate = DataCollatorForPreference(processing_class.pad_token_id)
        super().__init__(
            data_collator=lambda rows: collate(rows) | _mismatched_inputs(collate(_mismatched_rows(rows))),
            processing_class=processing_class,
            args=args,
            **arguments,
        )
        # Set after construction: TRL would measure the reference by itself.
        self.precompute_ref_logps = True
        add_chunked_head(self.model.get_base_model())

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        columns = [dataset[name] for name in ("prompt_ids", *MISMATCHED)]
        others = mismatched([EncodedPair(*ids) for ids in zip(*columns, strict=True)])
        for name, other in MISMATCHED.items():
            dataset = dataset.add_column(other, [getattr(pair, name) for pair in others])
        return dataset

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool) -> torch.Tensor:
        batch = dict(inputs)
        references = [batch.pop(f"ref_{side}_logps") for side in ("chosen", "rejected")]
        batch["ref_logps"] = torch.cat(references)
        batch["label"] = torch.arange(2 * len(references[0]), device=batch["ref_logps"].device) < len(references[0])
        with use_adapter(self.accelerator.unwrap_model(model), None):
            batch["ref_KL_logps"] = self._compute_kl_logps(model, batch)
        return super()._compute_loss(model, batch, return_outputs)


def rotated(rows: Sequence[Any]) -> list[Any]:
    """Every row's predecessor; the first one's is the last."""
    return [*rows[-1:], *rows[:-1]]


def _mismatched_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"prompt_ids": row["prompt_ids"]} | {name: row[other] for name, other in MISMATCHED.items()} for row in rows
    ]


def _mismatched_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"KL_{name}": batch[name] for name in ("input_ids", "attention_mask", "completion_mask")}


def mismatched(pairs: Sequence[EncodedPair]) -> list[EncodedPair]:
    """Every prompt with the responses of the pair before it, cut where they are longer than every text of the pairs.

    So none has more tokens than ``lengths.sequence``, to which the pairs were cut.
    """
    longest = max(len(pair.prompt_ids) + len(ids) for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids))
    return [
        EncodedPair(pair.prompt_ids, *(ids[: longest - len(pair.prompt_ids)] for ids in responses))
        for pair, other in zip(pairs, rotated(pairs), strict=True)
        for responses in [(other.chosen_ids, other.rejected_ids)]
    ]


def reference_point(model: PeftModel, pairs: Sequence[EncodedPair], pad_id: int, budget: int) -> float:
    """Estimate of KL(policy || base) that KTO compares with, nats, at least 0."""
    others = mismatched(pairs)
    policy = np.concatenate(pair_logps(model, others, pad_id, budget, "mismatched log-probs"))
    with use_adapter(model, None):
        base = np.concatenate(pair_logps(model, others, pad_id, budget, "mismatched log-probs of the base"))
    return max(0.0, float((policy - base).mean()))


def arguments(beta: float) -> dict[str, Any]:
    # TRL pairs prompts with other responses in the order of the data set, and wants that order kept; here they are
    # columns of the row, which any order keeps.
    return {"loss_type": "kto", "beta": beta, "train_sampling_strategy": "sequential"}


def losses(beta: float, scores: PairScores) -> np.ndarray:
    """(N,) mean over both texts of a pair."""
    margins_2_N = np.stack([scores.chosen - scores.reference_point, scores.reference_point - scores.rejected])
    return np.exp(-np.logaddexp(0, beta * margins_2_N.astype(float))).mean(axis=0)


def first_loss(beta: float) -> float:
    return 0.5


OBJECTIVE = OfflineObjective(
    strength="beta: how much of a text's log-ratio, in nats, counts; higher = closer to the reference",
    couples=True,
    needs_reference=True,
    arguments=arguments,
    margins=PairScores.margins,
    losses=losses,
    first_loss=first_loss,
    trainer=PairedKtoTrainer,
    reference_point=reference_point,
    further_forwards=2,
)
