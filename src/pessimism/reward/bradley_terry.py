"""One reward model of the ensemble: an adapter and a score head on bootstrap pairs (Eq. 5), by TRL's RewardTrainer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from pessimism.data.prompts import encode_reward_text
from pessimism.experiment import rng
from pessimism.experiment.params import LengthParams, Params
from pessimism.machine import sharing
from pessimism.models import hyperparameters as derive
from pessimism.models.adapters import count_trainable, lora_config
from pessimism.models.compute.batching import derived_batch_size
from pessimism.models.loading import SCORE_HEAD
from pessimism.models.training import (
    PairTrainer,
    batch_parts,
    check_rows_trained,
    loss_curve,
    prepare,
    shared_arguments,
)
from pessimism.reward.bootstrap import bootstrap_rows


@dataclass(frozen=True)
class RewardHyperparameters:
    """Values of one training: the scale file's where it sets them, else derived (App. C)."""

    epochs: int
    batch_size: int
    steps: int
    warmup_steps: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    lora_rank: int
    lora_dropout: float
    trainable_parameters: int
    seed: int


class UnpaddedRewardTrainer(PairTrainer, RewardTrainer):
    """RewardTrainer whose pairs are computed in one row each, beside others of similar length."""


def reward_dataset(tokenizer: PreTrainedTokenizerBase, pairs: pd.DataFrame, lengths: LengthParams) -> Dataset:
    """Token ids of chosen and rejected texts, prompt included, in the table's order."""
    columns = {}
    for side in ("chosen", "rejected"):
        texts = zip(pairs["prompt"], pairs[side], strict=True)
        columns[f"{side}_ids"] = [encode_reward_text(tokenizer, prompt, text, lengths) for prompt, text in texts]
    return Dataset.from_dict(columns)


def reward_hyperparameters(
    params: Params, member: int, n_train: int, parameters: int, lora: LoraConfig, trainable: int
) -> RewardHyperparameters:
    """Values of one member.

    Args:
        parameters: number of the base's parameters.
        trainable: number of parameters of adapter and head.
    """
    scale, training = params.scale, params.scale.reward_training
    batch = training.batch_size
    if batch is None:
        batch = derived_batch_size(scale, parameters, inference=False)
    steps = derive.optimizer_steps(n_train, batch, 1, training.epochs)
    rate = training.learning_rate
    return RewardHyperparameters(
        epochs=training.epochs,
        batch_size=batch,
        steps=steps,
        warmup_steps=derive.warmup_steps(steps),
        learning_rate=derive.learning_rate(trainable) if rate is None else rate,
        weight_decay=derive.weight_decay(n_train),
        clip_norm=derive.clip_norm(trainable),
        lora_rank=lora.r,
        lora_dropout=lora.lora_dropout,
        trainable_parameters=trainable,
        seed=rng.seed(params.root_seed, "reward", member),
    )


def train_member(
    params: Params,
    member: int,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: pd.DataFrame,
    directory: Path,
) -> tuple[PeftModel, dict[str, Any]]:
    """Train one member on its bootstrap sample of ``pairs``.

    Returns:
        The base with the trained adapter and head, and the record of the training: hyperparameters, how many
        different pairs the sample held, and the loss of every step.

    Raises:
        NonFiniteError: a loss is not finite.
        DataError: rows were lost on the way to the loss, or the trainer took another number of steps than was derived.
    """
    rows = bootstrap_rows(len(pairs), params.root_seed, member)
    parameters = base.num_parameters()
    hidden_size = base.config.get_text_config().hidden_size
    lora = lora_config(params.scale.reward, hidden_size, len(rows), "SEQ_CLS", modules_to_save=[SCORE_HEAD])
    chosen = reward_hyperparameters(params, member, len(rows), parameters, lora, count_trainable(base, lora))
    draw_head(base, rng.seed(params.root_seed, "reward-head", member))
    trainer = build_trainer(
        params,
        chosen,
        base,
        tokenizer,
        reward_dataset(tokenizer, pairs.iloc[rows], params.scale.lengths),
        lora,
        directory,
    )
    prepare(trainer, f"train_reward_model {member}")
    trainer.train()
    check_rows_trained(sharing.total(trainer.pairs_trained), len(rows), chosen.epochs)
    record = {
        "hyperparameters": asdict(chosen),
        "pairs": len(rows),
        "distinct_pairs": len(np.unique(rows)),
        "losses": loss_curve(trainer, chosen.steps),
    }
    return trainer.model.eval(), record


def draw_head(base: PreTrainedModel, seed: int) -> None:
    """Draw a new score head from its own stream, with the base's standard deviation of weights."""
    weight = getattr(base, SCORE_HEAD).weight
    spread = base.config.get_text_config().initializer_range
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * spread
    weight.data.copy_(drawn)


def build_trainer(
    params: Params,
    chosen: RewardHyperparameters,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    lora: LoraConfig,
    directory: Path,
) -> UnpaddedRewardTrainer:
    """TRL's trainer with every argument that matters set here."""
    part, parts = batch_parts(chosen.batch_size, 1, params.scale.reward_training.micro_batch_size, len(train))
    arguments = RewardConfig(
        **shared_arguments(directory, chosen.seed),
        center_rewards_coefficient=None,
        num_train_epochs=chosen.epochs,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=parts,
        learning_rate=chosen.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=chosen.warmup_steps,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.clip_norm,
        activation_checkpointing=params.scale.reward_training.gradient_checkpointing,
    )
    return UnpaddedRewardTrainer(
        model=base, args=arguments, train_dataset=train, processing_class=tokenizer, peft_config=lora
    )
