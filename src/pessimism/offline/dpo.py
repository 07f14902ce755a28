"""Offline preference optimisation: one LoRA adapter per beta and seed, by TRL's DPOTrainer (Eq. 1)."""

from __future__ import annotations

import functools
import math
import types
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

from pessimism.data.prompts import EncodedPair
from pessimism.errors import DataError
from pessimism.experiment import layout, rng
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import ModelParams, Params
from pessimism.machine import sharing
from pessimism.models import hyperparameters as derive
from pessimism.models.adapters import count_trainable, lora_config
from pessimism.models.compute.batching import derived_batch_size, evaluation_tokens
from pessimism.models.compute.logprobs import score_positions, spread
from pessimism.models.training import (
    PairTrainer,
    batch_parts,
    check_rows_trained,
    loss_curve,
    prepare,
    shared_arguments,
)
from pessimism.offline.reference import ID_COLUMNS, pair_logps

IGNORED = -100  # label of a token that TRL does not score
FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
LOGGED = ("entropy", "mean_logits", "is_top1")  # by TRL's loss, which takes only the log-probabilities into account

# Standard deviation, nats, of a pair's log-ratio between two layouts of its batch that rounding alone is granted, by
# what the policy computes in: four times what docs/decisions.md names, for responses of 99 tokens.
ROUNDING = {"float32": 3e-3, "nf4": 0.3, "mixed": 0.3, "bfloat16": 0.9}


@dataclass(frozen=True)
class DpoHyperparameters:
    """Values of one training: the scale file's where it sets them, else derived (App. C)."""

    beta: float
    epochs: int
    batch_size: int
    accumulation: int
    steps: int
    warmup_steps: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    lora_rank: int
    lora_dropout: float
    trainable_parameters: int
    seed: int


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


class ReferencedDpoTrainer(PairTrainer, DPOTrainer):
    """DPOTrainer on ready token ids and ready reference log-probabilities: no tokenisation, no reference forward."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Set after construction: TRL would measure the reference by itself, on a cache key that never hits.
        self.precompute_ref_logps = True
        add_chunked_head(self.model.get_base_model())

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


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


class FirstLossCheck(TrainerCallback):
    """Stops a training whose first loss is not ln 2: policy and reference then differ before any update."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kwargs: Any
    ) -> None:
        if state.global_step == 1 and "loss" in logs and not abs(logs["loss"] - math.log(2)) <= self.tolerance:
            raise DataError(
                f"the first DPO loss is {logs['loss']:.6f}; expected {math.log(2):.6f} (ln 2) within "
                f"{self.tolerance:.2g}: the policy does not compute what the reference table holds: run "
                "`dvc repro --single-item --force measure_reference` and check that the base has no dropout of its own"
            )


def first_loss_tolerance(policy: ModelParams, beta: float, pairs: int) -> float:
    """|first loss - ln 2|, nats, that rounding alone may cause where ``pairs`` pairs make the first step.

    Noise of standard deviation s in the log-ratios raises the mean of -log sigmoid by (beta s)^2 / 8 and shifts it by
    beta s / 2 over the root of the number of pairs; four times that shift is allowed.
    """
    four_bit_alone = policy.dtype == "float32" and policy.quantization == "nf4"
    noise = beta * ROUNDING["nf4" if four_bit_alone else policy.dtype]
    return noise**2 / 8 + 2 * noise / math.sqrt(pairs)


def dpo_hyperparameters(
    params: Params, cell: DpoCell, beta: float, n_train: int, parameters: int, lora: LoraConfig, trainable: int
) -> DpoHyperparameters:
    """Values of one cell; betas of one seed share every stream where the protocol pairs them.

    Args:
        parameters: number of the base's parameters.
        trainable: number of the adapter's parameters.
    """
    scale, dpo = params.scale, params.scale.dpo
    batch = derived_batch_size(scale, parameters, inference=False) if dpo.batch_size is None else dpo.batch_size
    accumulation = derive.accumulation(n_train, batch) if dpo.accumulation is None else dpo.accumulation
    steps = derive.optimizer_steps(n_train, batch, accumulation, dpo.epochs)
    stream = rng.run_stream(params.protocol, cell.label, cell.seed)
    return DpoHyperparameters(
        beta=beta,
        epochs=dpo.epochs,
        batch_size=batch,
        accumulation=accumulation,
        steps=steps,
        warmup_steps=derive.warmup_steps(steps),
        learning_rate=derive.learning_rate(trainable) if dpo.learning_rate is None else dpo.learning_rate,
        weight_decay=derive.weight_decay(n_train),
        clip_norm=derive.clip_norm(trainable),
        lora_rank=lora.r,
        lora_dropout=lora.lora_dropout,
        trainable_parameters=trainable,
        seed=rng.seed(params.root_seed, "dpo", *stream),
    )


def train_dpo(
    params: Params,
    cell: DpoCell,
    beta: float,
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
        DataError: the first loss is not ln 2, rows were lost on the way to the loss, or the trainer took another number
            of steps than was derived.
        NonFiniteError: a later loss is not finite.
    """
    parameters = base.num_parameters()
    lora = lora_config(params.scale.policy, base.config.get_text_config().hidden_size, len(train.pairs), "CAUSAL_LM")
    chosen = dpo_hyperparameters(params, cell, beta, len(train.pairs), parameters, lora, count_trainable(base, lora))
    trainer = build_trainer(params, chosen, base, tokenizer, train, lora, directory)
    prepare(trainer, f"train_dpo {cell.key}")
    trainer.train()
    check_rows_trained(sharing.total(trainer.pairs_trained), len(train.pairs), chosen.epochs)
    model, budget = trainer.model.eval(), evaluation_tokens(params, "policy")
    record = {
        "hyperparameters": asdict(chosen),
        "pairs": len(train.pairs),
        "losses": loss_curve(trainer, chosen.steps),
        "validation": evaluate(model, beta, validation, tokenizer.pad_token_id, budget),
    }
    return model, record


def build_trainer(
    params: Params,
    chosen: DpoHyperparameters,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: ReferencedPairs,
    lora: LoraConfig,
    directory: Path,
) -> ReferencedDpoTrainer:
    """TRL's trainer with every argument that matters set here."""
    first_step = min(len(train.pairs), chosen.batch_size * chosen.accumulation)
    part, parts = batch_parts(
        chosen.batch_size, chosen.accumulation, params.scale.dpo.micro_batch_size, len(train.pairs)
    )
    arguments = DPOConfig(
        **shared_arguments(directory, chosen.seed),
        beta=chosen.beta,
        loss_type=["sigmoid"],
        precompute_ref_log_probs=False,
        num_train_epochs=chosen.epochs,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=parts,
        learning_rate=chosen.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=chosen.warmup_steps,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.clip_norm,
        activation_checkpointing=params.scale.dpo.gradient_checkpointing,
    )
    return ReferencedDpoTrainer(
        model=base,
        args=arguments,
        train_dataset=train.dataset(),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[FirstLossCheck(first_loss_tolerance(params.scale.policy, chosen.beta, first_step))],
    )


def evaluate(
    model: PreTrainedModel, beta: float, validation: ReferencedPairs, pad_id: int, budget: int
) -> dict[str, float]:
    """Loss (nats), reward accuracy (share of pairs, 0..1) and mean reward margin (nats), dropout off.

    Every process measures its share of the pairs and gets the numbers of all.
    """
    mine = sharing.share(len(validation.pairs))
    rows = slice(mine.start, mine.stop)
    chosen, rejected = pair_logps(model, validation.pairs[rows], pad_id, budget, "validation log-probs")
    ratios = (chosen - validation.chosen_logps[rows]) - (rejected - validation.rejected_logps[rows])
    margins = beta * np.array(sharing.gather(ratios.tolist()))
    return {
        "pairs": len(validation.pairs),
        "loss": float(np.logaddexp(0, -margins).mean()),
        "reward_accuracy": float((margins > 0).mean()),
        "reward_margin": float(margins.mean()),
    }
