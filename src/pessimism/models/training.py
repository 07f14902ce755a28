"""What both trainers share: arguments that leave nothing to a default, batches, a progress bar, the losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as compute
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState

from pessimism.errors import DataError, NonFiniteError, ParamsError
from pessimism.machine import processes
from pessimism.models.adapters import fuse_adapters, trainable_parameters
from pessimism.models.compute.length_groups import SortedBatches, group_by_length
from pessimism.models.compute.prefix_sharing import shares_prefixes

PLAIN = {f"DistributedType.{name}" for name in ("NO", "MULTI_GPU", "MULTI_CPU")}


def shared_arguments(directory: Path, seed: int) -> dict[str, Any]:
    """Arguments of TRL's configurations that are the same for DPO and reward training.

    Nothing is saved, evaluated or sent by the trainer itself: stages do that.

    Args:
        directory: the trainer insists on making it; it stays empty until the stage saves.
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


class PairTrainer(Trainer):
    """What both of TRL's trainers get: prompts computed once, little padding, weighed parts, and a count of pairs."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        group_by_length(self.model.get_base_model())
        self.pairs_trained = 0
        self.pairs_of_step: int | None = None

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SortedBatches:
        args = self.args
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        lengths = pair_lengths(train_dataset or self.train_dataset, shares_prefixes(self.model))
        return SortedBatches(lengths, batch, args.seed)

    def get_batch_samples(self, *arguments: Any, **options: Any) -> tuple[list[dict[str, Any]], Any]:
        """The parts of the next step, whose pairs are counted."""
        parts, items = super().get_batch_samples(*arguments, **options)
        self.pairs_of_step = sum(map(_pairs, parts))
        return parts, items

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        self.pairs_trained += _pairs(inputs)
        return super().training_step(model, inputs, *rest)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *rest: Any, **options: Any) -> torch.Tensor:
        """Mean over the pairs of a part, weighed so that the trainer's mean over parts is that over a step's pairs."""
        share = 1.0
        if self.pairs_of_step is not None:
            share = _pairs(inputs) * self.current_gradient_accumulation_steps / self.pairs_of_step
        return share * super().compute_loss(model, inputs, *rest, **options)


def _pairs(inputs: dict[str, Any]) -> int:
    """Number of pairs in a batch, which holds two texts of each."""
    return len(inputs["input_ids"]) // 2


def pair_lengths(pairs: Dataset, one_row: bool) -> np.ndarray:
    """(N,) tokens of each pair's row or, where pairs are not one row, of its longer text; prompt included.

    Args:
        one_row: whether a pair is one row (models.compute.prefix_sharing).
    """
    table = pairs.with_format("arrow")[:]
    lengths = {name: compute.list_value_length(table[name]).to_numpy() for name in table.column_names if "_ids" in name}
    chosen, rejected = lengths["chosen_ids"], lengths["rejected_ids"]
    if one_row:
        texts = zip(table["chosen_ids"], table["rejected_ids"], strict=True)
        responses = chosen + rejected - [common_tokens(*(ids.values.to_numpy() for ids in pair)) for pair in texts]
    else:
        responses = np.maximum(chosen, rejected)
    return lengths.get("prompt_ids", 0) + responses


def common_tokens(first: np.ndarray, second: np.ndarray) -> int:
    """Tokens with which both begin."""
    shorter = min(len(first), len(second))
    return int(np.append(first[:shorter] != second[:shorter], True).argmax())


class ProgressBar(TrainerCallback):
    """One bar over the optimiser steps with the current loss, where transformers' own prints every log as a dict."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar = tqdm(
            disable=not processes.is_main(), total=state.max_steps, desc=self.description, unit="step", mininterval=1
        )

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kwargs: Any
    ) -> None:
        if self.bar is not None and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def prepare(trainer: Trainer, description: str) -> None:
    """Give a built trainer the bar of this project, float32 trainable weights, and adapters that compute in their
    input's dtype.

    Raises:
        ParamsError: the launcher, or the user's own settings of accelerate, ask for another precision or for shards.
    """
    check_launched_plainly(trainer)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(ProgressBar(description))
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
        NonFiniteError: a loss is nan or infinite.
    """
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    if len(losses) != steps:
        raise DataError(
            f"trained for {len(losses)} optimiser steps; expected {steps}: transformers multiplies the batch by the "
            f"number of GPUs, of which it sees {trainer.args.n_gpu}: set CUDA_VISIBLE_DEVICES to one"
        )
    for step, loss in enumerate(losses, 1):
        if not math.isfinite(loss):
            raise NonFiniteError(f"the loss of step {step} is {loss}; expected a finite number: lower learning_rate")
    return losses
