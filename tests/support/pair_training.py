"""Both trainings on preference pairs, in the tiny world."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftModel
from transformers import PreTrainedModel

from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import Params
from pessimism.models.adapters import count_trainable, lora_config
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.pair_trainer import PairTrainer
from pessimism.offline import training
from pessimism.offline.objective import find_objective
from pessimism.offline.reference import dpo_reference
from pessimism.reward import bradley_terry

CELL = DpoCell("p50", 0)
BETA = 0.7


def with_dpo(params: Params, **changes: object) -> Params:
    scale = dataclasses.replace(params.scale, dpo=dataclasses.replace(params.scale.dpo, **changes))
    return dataclasses.replace(params, scale=scale)


def with_reward_training(params: Params, dropout: float = 0.0, **changes: object) -> Params:
    chosen = dataclasses.replace(params.scale.reward_training, **changes)
    reward = dataclasses.replace(params.scale.reward, lora_dropout=dropout)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, reward_training=chosen, reward=reward))


def write_reference(params: Params) -> None:
    """What measure_reference leaves."""
    splits = {split: records.read_table(layout.preferences(split)) for split in ("train", "val")}
    table = dpo_reference(load_policy_base(params), load_tokenizer(params, "policy"), splits, params)
    records.write_table(layout.REFERENCE_LOGPS, table)


def referenced(params: Params, split: str, table: pd.DataFrame | None = None) -> training.ReferencedPairs:
    table = records.read_table(layout.REFERENCE_LOGPS) if table is None else table
    return training.ReferencedPairs.of(table, split)


def train_policy(
    params: Params, directory: str = "out", base: PreTrainedModel | None = None, **overrides: Any
) -> tuple[PeftModel, dict[str, Any]]:
    """One offline run of CELL at BETA."""
    arguments = {
        "strength": BETA,
        "base": load_policy_base(params) if base is None else base,
        "tokenizer": load_tokenizer(params, "policy"),
        "train": referenced(params, "train"),
        "validation": referenced(params, "val"),
        "directory": Path(directory),
    }
    return training.train_offline(params, CELL, **arguments | overrides)


def policy_trainer(params: Params, strength: float | None = BETA) -> PairTrainer:
    """The trainer of CELL as it is before its first step."""
    base, pairs = load_policy_base(params), referenced(params, "train")
    lora = lora_config(params.scale.policy, 32, len(pairs.pairs), "CAUSAL_LM")
    chosen = training.offline_hyperparameters(params, CELL, strength, 48, 10_000, lora, count_trainable(base, lora))
    objective, tokenizer = find_objective(params), load_tokenizer(params, "policy")
    return training.offline_trainer(params, objective, chosen, base, tokenizer, pairs, lora, Path("out"))


def reward_trainer(params: Params) -> PairTrainer:
    """The trainer of member 0 as it is before its first step."""
    base, tokenizer = load_reward_base(params), load_tokenizer(params, "reward")
    lora = lora_config(params.scale.reward, 32, 48, "SEQ_CLS", ["score"])
    chosen = bradley_terry.reward_hyperparameters(params, (0, 0), 48, 10_000, lora, 2_464)
    bradley_terry.draw_head(base, chosen.seed)
    pairs = records.read_table(layout.preferences("train"))
    dataset = bradley_terry.reward_dataset(tokenizer, pairs, params.scale.lengths)
    return bradley_terry.reward_trainer(params, chosen, base, tokenizer, dataset, lora, Path("out"))
