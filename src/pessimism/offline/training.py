"""The offline phase: one LoRA adapter per strength of the objective and seed, trained by TRL on preference pairs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import EncodedPair
from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import layout, rng
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import Params
from pessimism.machine import sharing
from pessimism.models import hyperparameters as derive
from pessimism.models.adapters import count_trainable, lora_config
from pessimism.models.compute.batching import evaluation_tokens, training_batch_size
from pessimism.models.pair_trainer import PairTrainer
from pessimism.models.training import TrainingHyperparameters, build_trainer, run_trainer, training_hyperparameters
from pessimism.offline.first_loss import first_loss_checks
from pessimism.offline.objective import OfflineObjective, PairScores, find_objective
from pessimism.offline.reference import ID_COLUMNS, pair_logps
from pessimism.offline.trainer import ReferencedDpoTrainer


@dataclass(frozen=True)
class OfflineHyperparameters(TrainingHyperparameters):
    """Values of one offline run.

    Attributes:
        beta: strength of the objective; None where it has none.
        accumulation: batches of an optimiser step.
    """

    beta: float | None
    accumulation: int

    @property
    def batches_per_step(self) -> int:
        return self.accumulation


@dataclass(frozen=True)
class ReferencedPairs:
    """Token ids of N pairs and their log-probabilities under the base, (N,) nats each."""

    pairs: list[EncodedPair]
    chosen_logps: np.ndarray
    rejected_logps: np.ndarray

    @classmethod
    def of(cls, reference: pd.DataFrame, split: str) -> ReferencedPairs:
        """The pairs of ``split`` in the order of the reference table.

        Raises:
            DataError: the table holds none.
        """
        rows = reference[reference["split"] == split]
        if rows.empty:
            raise DataError(f"found no {split} pairs in {layout.REFERENCE_LOGPS}; expected some: run `dvc repro`")
        ids = zip(*(map(list, rows[column]) for column in ID_COLUMNS), strict=True)
        return cls(
            pairs=[EncodedPair(*row) for row in ids],
            chosen_logps=rows["chosen_logps"].to_numpy(np.float32),
            rejected_logps=rows["rejected_logps"].to_numpy(np.float32),
        )

    def dataset(self) -> Dataset:
        """Columns that TRL's collator and loss read."""
        return Dataset.from_dict(
            {
                "prompt_ids": [pair.prompt_ids for pair in self.pairs],
                "chosen_ids": [pair.chosen_ids for pair in self.pairs],
                "rejected_ids": [pair.rejected_ids for pair in self.pairs],
                "ref_chosen_logps": self.chosen_logps,
                "ref_rejected_logps": self.rejected_logps,
            }
        )

    def without_reference(self) -> ReferencedPairs:
        """The same pairs against a reference of log-probability 0, whose log-ratios are log-probabilities."""
        zeros = np.zeros_like(self.chosen_logps)
        return replace(self, chosen_logps=zeros, rejected_logps=zeros)

    def scores(self, chosen_logps: np.ndarray, rejected_logps: np.ndarray) -> PairScores:
        """How much likelier than under the reference the pairs are.

        Args:
            chosen_logps, rejected_logps: (N,) under the policy, nats.
        """
        return PairScores(
            chosen=chosen_logps - self.chosen_logps,
            rejected=rejected_logps - self.rejected_logps,
            chosen_tokens=np.array([len(pair.chosen_ids) for pair in self.pairs]),
            rejected_tokens=np.array([len(pair.rejected_ids) for pair in self.pairs]),
        )

    def unmoved(self) -> PairScores:
        """Scores of a policy that is the reference: 0."""
        plain = self.without_reference()
        return plain.scores(plain.chosen_logps, plain.rejected_logps)


def offline_hyperparameters(
    params: Params,
    cell: DpoCell,
    strength: float | None,
    n_train: int,
    parameters: int,
    lora: LoraConfig,
    trainable: int,
) -> OfflineHyperparameters:
    """Values of one cell; the strengths of one seed share every stream where the protocol pairs them.

    Args:
        parameters: number of the base's parameters.
        trainable: number of the adapter's parameters.
    """
    scale, dpo = params.scale, params.scale.dpo
    batch = training_batch_size(scale, dpo, parameters)
    accumulation = derive.accumulation(n_train, batch) if dpo.accumulation is None else dpo.accumulation
    stream = rng.run_stream(params.protocol, cell.label, cell.seed)
    seed = rng.seed(params.root_seed, "dpo", *stream)
    shared = training_hyperparameters(dpo, n_train, batch, accumulation, lora, trainable, seed)
    return OfflineHyperparameters(**asdict(shared), beta=strength, accumulation=accumulation)


def train_offline(
    params: Params,
    cell: DpoCell,
    strength: float | None,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: ReferencedPairs,
    validation: ReferencedPairs,
    directory: Path,
) -> tuple[PeftModel, dict[str, Any]]:
    """Train one adapter on ``base`` and measure it on the validation pairs.

    Returns:
        The base with the trained adapter, and the record of the training: hyperparameters, loss of every step, and
        loss, reward accuracy and reward margin (nats) on validation pairs.

    Raises:
        DataError: the first loss is not the objective's, rows were lost on the way to the loss, or the trainer took
            another number of steps than was derived.
        NonFiniteError: a later loss, or the validation loss, is not finite.
        ParamsError: there is no such objective, or the strength is not one that it takes.
    """
    objective = find_objective(params)
    objective.check_strength(strength)
    if not objective.needs_reference:
        train, validation = train.without_reference(), validation.without_reference()
    rows, parameters = len(train.pairs), base.num_parameters()
    lora = lora_config(params.scale.policy, base.config.get_text_config().hidden_size, rows, "CAUSAL_LM")
    chosen = offline_hyperparameters(params, cell, strength, rows, parameters, lora, count_trainable(base, lora))
    trainer = offline_trainer(params, objective, chosen, base, tokenizer, train, lora, directory)
    losses = run_trainer(trainer, chosen, rows, f"train_dpo {cell.key}")
    model, budget = trainer.model.eval(), evaluation_tokens(params, "policy")
    measured = evaluate(model, objective, strength, validation, tokenizer.pad_token_id, budget)
    check_validation(cell, measured)
    record = {
        "hyperparameters": asdict(chosen),
        "pairs": rows,
        "losses": losses,
        "validation": measured,
    }
    if objective.final_strength is not None:
        record["final_beta"] = objective.final_strength(trainer)
    return model, record


def check_validation(cell: DpoCell, validation: dict[str, float]) -> None:
    """Look at the numbers of :func:`evaluate`.

    Raises:
        NonFiniteError: one is infinite or no number.
    """
    bad = {name: value for name, value in validation.items() if not math.isfinite(value)}
    if bad:
        raise NonFiniteError(
            f"train_dpo {cell.key}: found {bad} on the validation pairs; expected finite numbers: lower "
            "dpo.learning_rate, or choose a weaker strength"
        )


def offline_trainer(
    params: Params,
    objective: OfflineObjective,
    chosen: OfflineHyperparameters,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: ReferencedPairs,
    lora: LoraConfig,
    directory: Path,
) -> PairTrainer:
    """The trainer of one cell before its first step."""
    first_step = min(len(train.pairs), chosen.batch_size * chosen.accumulation)
    checks = first_loss_checks(objective, chosen.beta, params.scale.policy, train.unmoved(), first_step)
    return build_trainer(
        objective.trainer or ReferencedDpoTrainer,
        chosen,
        params.scale.dpo,
        base,
        tokenizer,
        train.dataset(),
        lora,
        directory,
        callbacks=checks,
        lr_scheduler_type="linear",
        **objective.arguments(chosen.beta),
    )


def evaluate(
    model: PreTrainedModel,
    objective: OfflineObjective,
    strength: float | None,
    validation: ReferencedPairs,
    pad_id: int,
    budget: int,
) -> dict[str, float]:
    """Loss, reward accuracy (share of pairs, 0..1) and mean reward margin (nats), dropout off.

    The reward margin of a pair is the objective's own. Every process measures its share of the pairs and gets the
    numbers of all.
    """
    mine = sharing.share(len(validation.pairs))
    rows = slice(mine.start, mine.stop)
    measured = pair_logps(model, validation.pairs[rows], pad_id, budget, "validation log-probs")
    scores = validation.scores(*(np.array(sharing.gather(logps.tolist()), np.float32) for logps in measured))
    if objective.reference_point is not None:
        scores = replace(scores, reference_point=objective.reference_point(model, validation.pairs, pad_id, budget))
    margins = objective.margins(scores) if strength is None else strength * objective.margins(scores)
    return {
        "pairs": len(validation.pairs),
        "loss": float(objective.losses(strength, scores).mean()),
        "reward_accuracy": float((margins > 0).mean()),
        "reward_margin": float(margins.mean()),
    }
