"""How an adapter is trained on pairs: its hyperparameters, a trainer that leaves nothing to a default, its losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from pessimism.errors import DataError, NonFiniteError, ParamsError
from pessimism.experiment.params import TrainingParams
from pessimism.experiment.progress import Progress
from pessimism.machine import processes, sharing
from pessimism.models import hyperparameters as derive
from pessimism.models.adapters import fuse_adapters, trainable_parameters
from pessimism.models.architecture import stored_transposed
from pessimism.models.pair_trainer import PairTrainer
from pessimism.models.unfinished import Keeper

PLAIN = {f"DistributedType.{name}" for name in ("NO", "MULTI_GPU", "MULTI_CPU")}


@dataclass(frozen=True)
class TrainingHyperparameters:
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

    @property
    def batches_per_step(self) -> int:
        return 1


def training_hyperparameters(
    training: TrainingParams, rows: int, batch: int, accumulation: int, lora: LoraConfig, trainable: int, seed: int
) -> TrainingHyperparameters:
    """What every training derives alike.

    Args:
        rows: training pairs of an epoch.
        batch: pairs of a batch.
        accumulation: batches of an optimiser step.
        trainable: number of trained parameters.
    """
    steps = derive.optimizer_steps(rows, batch, accumulation, training.epochs)
    return TrainingHyperparameters(
        epochs=training.epochs,
        batch_size=batch,
        steps=steps,
        warmup_steps=derive.warmup_steps(steps),
        learning_rate=derive.learning_rate(trainable) if training.learning_rate is None else training.learning_rate,
        weight_decay=derive.weight_decay(rows),
        clip_norm=derive.clip_norm(trainable),
        lora_rank=lora.r,
        lora_dropout=lora.lora_dropout,
        trainable_parameters=trainable,
        seed=seed,
    )


def build_trainer(
    kind: type[PairTrainer],
    chosen: TrainingHyperparameters,
    training: TrainingParams,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    lora: LoraConfig,
    directory: Path,
    callbacks: Sequence[TrainerCallback] = (),
    **own: Any,
) -> PairTrainer:
    """A trainer with every argument that matters set here.

    Args:
        own: arguments that other trainings set otherwise or do not have: the schedule, the loss.
    """
    lora.fan_in_fan_out = stored_transposed(base, lora.target_modules)
    part, parts = batch_parts(chosen.batch_size, chosen.batches_per_step, training.micro_batch_size, len(train))
    arguments = kind.config_class(
        **shared_arguments(directory, chosen.seed),
        num_train_epochs=chosen.epochs,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=parts,
        learning_rate=chosen.learning_rate,
        warmup_steps=chosen.warmup_steps,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.clip_norm,
        activation_checkpointing=training.gradient_checkpointing,
        **own,
    )
    return kind(
        model=base,
        args=arguments,
        train_dataset=train,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=list(callbacks),
    )


def run_trainer(trainer: PairTrainer, chosen: TrainingHyperparameters, rows: int, description: str) -> list[float]:
    """Train to the end, from where an earlier run was ended, if one has left its state in the trainer's directory.

    Transformers' own checkpoints, which restore weights, optimiser, schedule, order of rows and random streams.

    Args:
        rows: training pairs of an epoch.
        description: what is told of.

    Returns:
        Loss of every optimiser step, nats.

    Raises:
        DataError: rows were lost on the way to the loss, or the trainer took another number of steps than was derived.
        NonFiniteError: a loss is not finite.
        ParamsError: the launcher asks for another precision or for shards.
    """
    prepare(trainer, description)
    keeper = Keeper(Path(trainer.args.output_dir))
    trainer.add_callback(KeptState(trainer, keeper))
    state = keeper.latest()
    if state is not None:
        trainer.restore_counts(state)
    trainer.train(resume_from_checkpoint=None if state is None else str(state))
    check_rows_trained(sharing.total(trainer.pairs_trained), rows, chosen.epochs)
    return loss_curve(trainer, chosen.steps)


def shared_arguments(directory: Path, seed: int) -> dict[str, Any]:
    """Arguments of TRL's configurations that are the same for every training.

    Nothing is evaluated or sent by the trainer itself, and saved only as :class:`KeptState` asks for it: stages do
    the rest.

    Args:
        directory: of unfinished work.
        seed: of adapter initialisation, row order and dropout.
    """
    return {
        "output_dir": str(directory),
        "seed": seed,
        "data_seed": seed,
        # Transformers would take any accelerator it finds, pessimism.models.loading.device only CUDA.
        "use_cpu": not torch.cuda.is_available(),
        # TRL's default is bfloat16 autocast: the policy would compute in another precision than its reference did.
        "bf16": False,
        "fp16": False,
        # TRL's default silences the derived LoRA dropout.
        "disable_dropout": False,
        # Sequences are cut before; TRL would drop or cut rows in silence.
        "max_length": None,
        "optim": "adamw_torch_fused",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "dataloader_drop_last": False,
        "remove_unused_columns": False,
    }


def batch_parts(batch_size: int, accumulation: int, micro_batch_size: int | None, rows: int) -> tuple[int, int]:
    """How the rows of an optimiser step are computed: rows per forward pass, and passes of each process per step.

    They are the largest that divide the optimiser batch for all processes together, so that every step has its rows.
    Several processes need parts that divide the rows of an epoch too, as accelerate would fill an uneven last batch
    with rows seen before; the short last part of one process is weighed by its rows (:class:`PairTrainer`).

    Args:
        rows: of one epoch.

    Raises:
        ParamsError: the number of processes does not divide both.
    """
    whole, count = batch_size * accumulation, processes.count()
    largest = batch_size if micro_batch_size is None else min(micro_batch_size, batch_size)
    together = math.gcd(whole, rows) if count > 1 else whole
    fitting = [part for part in range(1, largest + 1) if together % (part * count) == 0]
    if not fitting:
        known = [number for number in range(1, whole + 1) if whole % number == 0 and rows % number == 0]
        raise ParamsError(
            f"params.yaml: launcher: found {count} processes; expected a number that divides the optimiser batch of "
            f"{whole} and the {rows} rows of an epoch: {', '.join(map(str, known))}"
        )
    return fitting[-1], whole // (fitting[-1] * count)


def check_rows_trained(found: float, rows: int, epochs: int) -> None:
    """Compare the pairs that reached the loss, of all processes, with those that should have.

    Raises:
        DataError: some were lost or repeated on the way.
    """
    if found != epochs * rows:
        raise DataError(
            f"trained on {found:.0f} pairs; expected {rows} in each of {epochs} epoch(s): check that the data collator "
            "keeps every row, and launch a number of processes that divides the optimiser batch and the rows"
        )


class KeptState(TrainerCallback):
    """Keeps the state of a training every now and then, with what the trainer counts besides."""

    def __init__(self, trainer: PairTrainer, keeper: Keeper) -> None:
        self.trainer, self.keeper = trainer, keeper

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.keeper.is_due() and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        written = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        self.trainer.save_counts(written)
        sharing.gather([None])  # every process has written its part
        if processes.is_main():
            self.keeper.take(state.global_step, written)


class TrainingProgress(TrainerCallback):
    """Tells of the optimiser steps with their loss, where transformers' own prints every log as a dict."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.progress: Progress | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.progress = Progress(self.description, state.max_steps)
        self.progress.begin()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kwargs: Any
    ) -> None:
        if self.progress is not None and "loss" in logs:
            self.progress.step(state.global_step, loss=f"{logs['loss']:.4f}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.progress is not None:
            self.progress.end()


class FiniteLoss(TrainerCallback):
    """Ends a training at the first loss that is not finite: all later ones would be so too."""

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kwargs: Any
    ) -> None:
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the loss of step {state.global_step} is {loss}; expected a finite number: lower learning_rate"
            )


def prepare(trainer: Trainer, description: str) -> None:
    """Give a built trainer the progress of this project, float32 trainable weights, and adapters that compute in their
    input's dtype.

    Raises:
        ParamsError: the launcher, or the user's own settings of accelerate, ask for another precision or for shards.
    """
    check_launched_plainly(trainer)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(FiniteLoss())
    trainer.add_callback(TrainingProgress(description))
    # Deviation: on a quantised base TRL rounds the adapter to bfloat16, where a step of AdamW at these learning rates
    # is often lost in rounding.
    for parameter in trainable_parameters(trainer.model):
        parameter.data = parameter.data.float()
    fuse_adapters(trainer.model)


def check_launched_plainly(trainer: Trainer) -> None:
    """Refuse autocast and shards, which accelerate takes from its launcher or a user's settings whatever is said here.

    Raises:
        ParamsError: it took them.
    """
    state = trainer.accelerator.state
    if trainer.args.mixed_precision != "no" or str(state.distributed_type) not in PLAIN:
        raise ParamsError(
            f"params.yaml: launcher: found mixed precision {trainer.args.mixed_precision!r}, {state.distributed_type}; "
            "expected plain data-parallel training in the scale's own precision: launch with `--multi_gpu "
            "--mixed_precision no --dynamo_backend no`, which go before the settings of `accelerate config`"
        )


def loss_curve(trainer: Trainer, steps: int) -> list[float]:
    """Training loss of every optimiser step, nats.

    Args:
        steps: derived number of optimiser steps, from which the warm-up is derived too.

    Raises:
        DataError: the trainer took another number of steps.
    """
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    if len(losses) != steps:
        raise DataError(
            f"trained for {len(losses)} optimiser steps; expected {steps}: transformers multiplies the batch by the "
            f"number of GPUs, of which it sees {trainer.args.n_gpu}: set CUDA_VISIBLE_DEVICES to one"
        )
    return losses
