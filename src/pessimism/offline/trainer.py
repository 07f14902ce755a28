"""TRL's trainers as the offline phase uses them: on what measure_reference has measured, and with our chunked head."""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import FusedCausalLMOutput

from pessimism.models.compute.logprobs import score_positions, spread
from pessimism.models.pair_trainer import PairTrainer

IGNORED = -100  # label of a token that TRL does not score
FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
LOGGED = ("entropy", "mean_logits", "is_top1")  # by TRL's loss, which takes only the log-probabilities into account


class ReferencedDpoTrainer(PairTrainer, DPOTrainer):
    """DPOTrainer on ready token ids and ready reference log-probabilities: no tokenisation, no reference forward."""

    config_class = DPOConfig

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Set after construction: TRL would measure the reference by itself, on a cache key that never hits.
        self.precompute_ref_logps = True
        add_chunked_head(self.model.get_base_model())

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class ReferenceFreeTrainer(PairTrainer):
    """What TRL's experimental trainers without a reference get: ready token ids, and means by our chunked head.

    A subclass puts it before one of those that take their loss from ``concatenated_forward``.
    """

    def __init__(self, processing_class: PreTrainedTokenizerBase, **arguments: Any) -> None:
        collate = DataCollatorForPreference(processing_class.pad_token_id)
        super().__init__(data_collator=collate, processing_class=processing_class, **arguments)
        add_chunked_head(self.model.get_base_model())

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return {}

    def concatenated_forward(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(P,) mean log-probabilities per token of chosen and of rejected responses, nats; mean logits of their tokens;
        and minus the mean of the first, which is the loss of the likelihood.
        """
        scored_2P_T = batch["completion_mask"].bool()
        labels_2P_T = batch["input_ids"].masked_fill(~scored_2P_T, IGNORED)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        found = model(**inputs, use_cache=False, labels=labels_2P_T, fused_lm_head=True)
        chosen_P, rejected_P = (found.log_probs.sum(dim=1) / scored_2P_T.sum(dim=1)).chunk(2)
        return chosen_P, rejected_P, *found.mean_logits.chunk(2), -chosen_P.mean()


def add_chunked_head(model: PreTrainedModel) -> None:
    """Put our chunks in place of TRL's fused head, which off a GPU scores prompts and padding too, in wide tiles.

    Called with ``fused_lm_head=True``, ``model`` then scores the completions' tokens alone; called without, it is what
    it was.
    """
    plain = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, fused_lm_head: bool = False, **options: Any) -> Any:
        if not fused_lm_head:
            return plain(*args, **options)
        labels_B_T = options.pop("labels")[:, 1:]
        states_B_T_H = self.base_model(*args, **options).last_hidden_state[:, :-1]
        scored_B_T = labels_B_T != IGNORED
        found = score_positions(self, states_B_T_H[scored_B_T], labels_B_T[scored_B_T], LOGGED)
        fields = {name: None if x is None else spread(x, scored_B_T) for name, x in zip(FIELDS, found, strict=True)}
        return FusedCausalLMOutput(label_mask=scored_B_T, **fields)

    model.forward = types.MethodType(forward, model)
