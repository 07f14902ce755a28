"""One reward model of the ensemble: an adapter and a score head on bootstrap pairs (Eq. 5), by TRL's RewardTrainer."""

from __future__ import annotations

from dataclasses import asdict
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
from pessimism.experiment.cells import RewardCell
from pessimism.experiment.params import LengthParams, Params
from pessimism.models.adapters import count_trainable, lora_config
from pessimism.models.compute.batching import training_batch_size
from pessimism.models.loading import SCORE_HEAD
from pessimism.models.pair_trainer import PairTrainer
from pessimism.models.training import TrainingHyperparameters, build_trainer, run_trainer, training_hyperparameters
from pessimism.reward.bootstrap import Stream, bootstrap_rows, member_stream


class UnpaddedRewardTrainer(PairTrainer, RewardTrainer):
    """RewardTrainer whose pairs are computed in one row each, beside others of similar length."""

    config_class = RewardConfig


def reward_dataset(tokenizer: PreTrainedTokenizerBase, pairs: pd.DataFrame, lengths: LengthParams) -> Dataset:
    """Token ids of chosen and rejected texts, prompt included, in the table's order."""
    columns = {}
    for side in ("chosen", "rejected"):
        texts = zip(pairs["prompt"], pairs[side], strict=True)
        columns[f"{side}_ids"] = [encode_reward_text(tokenizer, prompt, text, lengths) for prompt, text in texts]
    return Dataset.from_dict(columns)


def reward_hyperparameters(
    params: Params, stream: Stream, n_train: int, parameters: int, lora: LoraConfig, trainable: int
) -> TrainingHyperparameters:
    """Values of one member.

    Args:
        stream: names of the member's random streams.
        parameters: number of the base's parameters.
        trainable: number of parameters of adapter and head.
    """
    training = params.scale.reward_training
    batch = training_batch_size(params.scale, training, parameters)
    seed = rng.seed(params.root_seed, "reward", *stream)
    return training_hyperparameters(training, n_train, batch, 1, lora, trainable, seed)


def train_member(
    params: Params,
    cell: RewardCell,
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
    stream = member_stream(params, cell)
    rows = bootstrap_rows(len(pairs), params.root_seed, stream)
    parameters = base.num_parameters()
    hidden_size = base.config.get_text_config().hidden_size
    lora = lora_config(params.scale.reward, hidden_size, len(rows), "SEQ_CLS", modules_to_save=[SCORE_HEAD])
    chosen = reward_hyperparameters(params, stream, len(rows), parameters, lora, count_trainable(base, lora))
    draw_head(base, rng.seed(params.root_seed, "reward-head", *stream))
    train = reward_dataset(tokenizer, pairs.iloc[rows], params.scale.lengths)
    trainer = reward_trainer(params, chosen, base, tokenizer, train, lora, directory)
    losses = run_trainer(trainer, chosen, len(rows), f"train_reward_model {cell.key}")
    record = {
        "hyperparameters": asdict(chosen),
        "pairs": len(rows),
        "distinct_pairs": len(np.unique(rows)),
        "losses": losses,
    }
    return trainer.model.eval(), record


def draw_head(base: PreTrainedModel, seed: int) -> None:
    """Draw a new score head from its own stream, with the base's standard deviation of weights."""
    weight = getattr(base, SCORE_HEAD).weight
    spread = base.config.get_text_config().initializer_range
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * spread
    weight.data.copy_(drawn)


def reward_trainer(
    params: Params,
    chosen: TrainingHyperparameters,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    lora: LoraConfig,
    directory: Path,
) -> PairTrainer:
    """The trainer of one member before its first step."""
    return build_trainer(
        UnpaddedRewardTrainer,
        chosen,
        params.scale.reward_training,
        base,
        tokenizer,
        train,
        lora,
        directory,
        lr_scheduler_type="cosine",
        center_rewards_coefficient=None,
    )
