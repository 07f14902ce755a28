"""Peer T: the trainers of the pinned TRL release, in the precision and with the batches of ours.

Ready token ids are handed to them, so that tokenisation is no part of the comparison, and gradient checkpointing,
which TRL switches on by default, is off in every arm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, ProgressCallback
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    RLOOConfig,
    RLOOTrainer,
)

from pessimism.data.prompts import EncodedPair
from pessimism.experiment.params import Params
from pessimism.models.adapters import lora_config
from pessimism.models.loading import load_policy_base, load_reward_base
from pessimism.models.training import shared_arguments

_PUBLISHED = {"loss_type": "grpo", "use_bias_correction_kl": False}
ONLINE = {"grpo": (GRPOTrainer, GRPOConfig, _PUBLISHED), "rloo": (RLOOTrainer, RLOOConfig, {})}
"""By the name of our objective: TRL's trainer, its configuration, and which of its defaults the paper does not have."""


class ReadyDpoTrainer(DPOTrainer):
    """DPOTrainer on token ids."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def pair_dataset(pairs: Sequence[EncodedPair], **columns: np.ndarray) -> Dataset:
    """Columns that DPOTrainer reads; ``ref_chosen_logps`` and ``ref_rejected_logps`` may be given."""
    return Dataset.from_dict(
        {
            "prompt_ids": [pair.prompt_ids for pair in pairs],
            "chosen_ids": [pair.chosen_ids for pair in pairs],
            "rejected_ids": [pair.rejected_ids for pair in pairs],
            **columns,
        }
    )


def train_dpo(
    params: Params, beta: float, pairs: Dataset, tokenizer: PreTrainedTokenizerBase, precompute: bool
) -> DPOTrainer:
    """One epoch of TRL's DPO.

    Args:
        pairs: with columns of reference log-probabilities, none is computed.
        precompute: whether TRL computes the reference log-probabilities before it trains, rather than at every step.
    """
    base, dpo = load_policy_base(params), params.scale.dpo
    with tempfile.TemporaryDirectory() as directory:
        arguments = DPOConfig(
            **shared_arguments(directory, 0),  # type: ignore[arg-type]
            beta=beta,
            precompute_ref_log_probs=precompute,
            num_train_epochs=1,
            per_device_train_batch_size=dpo.batch_size,
            gradient_accumulation_steps=dpo.accumulation,
            learning_rate=dpo.learning_rate,
            activation_checkpointing=False,
        )
        lora = lora_config(params.scale.policy, base.config.hidden_size, len(pairs), "CAUSAL_LM")
        trainer = ReadyDpoTrainer(
            model=base, args=arguments, train_dataset=pairs, processing_class=tokenizer, peft_config=lora
        )
        trainer.precompute_ref_logps |= "ref_chosen_logps" in pairs.column_names
        return _trained(trainer)


def train_reward(
    params: Params, chosen: Sequence[list[int]], rejected: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> RewardTrainer:
    """One epoch of TRL's reward training."""
    base, training = load_reward_base(params), params.scale.reward_training
    with tempfile.TemporaryDirectory() as directory:
        arguments = RewardConfig(
            **shared_arguments(directory, 0),  # type: ignore[arg-type]
            num_train_epochs=1,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            activation_checkpointing=False,
        )
        lora = lora_config(params.scale.reward, base.config.hidden_size, len(chosen), "SEQ_CLS", ["score"])
        dataset = Dataset.from_dict({"chosen_ids": chosen, "rejected_ids": rejected})
        trainer = RewardTrainer(
            model=base, args=arguments, train_dataset=dataset, processing_class=tokenizer, peft_config=lora
        )
        return _trained(trainer)


def online_trainer(
    objective: str,
    params: Params,
    checkpoint: Path,
    prompts: Sequence[str],
    generations: int,
    steps: int,
    beta: float,
    tokenizer: PreTrainedTokenizerBase,
    reward: Callable[..., list[float]],
    directory: Path,
) -> Any:
    """TRL's trainer of ``objective`` (:data:`ONLINE`) that goes on training an adapter.

    TRL makes itself a copy of the adapter as the reference.

    Every step draws ``generations`` responses to each of ``prompts``, from the distribution that the protocol draws
    from, and makes one update of all of them.

    Args:
        reward: of keyword arguments ``prompts`` and ``completions``, both texts.
        directory: TRL makes it; nothing is written into it.
    """
    base, online, protocol = load_policy_base(params), params.scale.online, params.protocol
    shared = shared_arguments(directory, 0)
    del shared["max_length"]
    trainer_class, config_class, chosen = ONLINE[objective]
    arguments = config_class(
        **shared,
        **chosen,
        beta=beta,
        max_steps=steps,
        per_device_train_batch_size=len(prompts) * generations,
        num_generations=generations,
        max_completion_length=params.scale.lengths.response,
        temperature=protocol.temperature,
        top_p=protocol.top_p,
        top_k=base.generation_config.top_k if protocol.top_k is None else protocol.top_k,
        learning_rate=online.learning_rate,
        lr_scheduler_type="constant",
        activation_checkpointing=False,
    )
    trainer = trainer_class(
        model=PeftModel.from_pretrained(base, str(checkpoint), is_trainable=True),
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
        processing_class=tokenizer,
    )
    return _silent(trainer)


def _trained(trainer: Any) -> Any:
    _silent(trainer).train()
    return trainer


def _silent(trainer: Any) -> Any:
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer
