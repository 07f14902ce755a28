"""Hyperparameters derived from sizes (paper Eq. 4 and App. C), as pure functions.

A scale file's null means: use these. Where the text leaves a form open, the published notebook's is taken.
"""

from __future__ import annotations

import math

PEAK_LEARNING_RATE = 2e-4
LOWEST_LEARNING_RATE = 5e-7


def lora_rank(hidden_size: int) -> int:
    """LoRA rank: the power of two nearest to sqrt(hidden size) on the log scale, in [4, 64] (Eq. 4).

    The root is rounded first; without that a width of 2048 lies midway between 32 and 64.
    """
    root = max(round(math.sqrt(hidden_size)), 4)
    return int(_clip(2 ** round(math.log2(root)), 4, 64))


def lora_alpha(rank: int) -> int:
    """LoRA alpha: twice the rank, so that the adapter's scale is 2 at every rank."""
    return 2 * rank


def lora_dropout(n_train: int) -> float:
    """LoRA dropout: 32 / sqrt(training rows), in [0.01, 0.1]; smaller for larger data."""
    return _clip(32 / math.sqrt(n_train), 0.01, 0.10)


def batch_size(gpu_memory_gb: float, billions_of_parameters: float, inference: bool, sequence_length: int) -> int:
    """Sequences per device and forward pass: a power of two in [1, 64].

    Args:
        gpu_memory_gb: bytes / 1e9, a value of the design.
        billions_of_parameters: size of the model; below 1 counts as 1.
        inference: doubles the batch.
        sequence_length: tokens; below 256 counts as 256.
    """
    per_billion = gpu_memory_gb / max(billions_of_parameters, 1) * (2 if inference else 1)
    room = max(per_billion / max(sequence_length / 1024, 0.25), 1)
    return int(_clip(2 ** math.floor(math.log2(room)), 1, 64))


def accumulation(n_train: int, batch: int) -> int:
    """Batches per optimiser step: floor(sqrt(training rows)) sequences, in whole batches."""
    return math.ceil(math.isqrt(n_train) / batch)


def learning_rate(
    trainable: int,
    base: float = PEAK_LEARNING_RATE,
    low: float = LOWEST_LEARNING_RATE,
    high: float = PEAK_LEARNING_RATE,
) -> float:
    """Learning rate: ``base`` at 10 million trainable parameters, falling with their root, in [low, high]."""
    return _clip(base / math.sqrt(trainable / 1e7), low, high)


def clip_norm(trainable: int) -> float:
    """Largest gradient norm: log10(trainable parameters) / 7, in [0.5, 2]."""
    return _clip(math.log10(trainable) / 7, 0.5, 2.0)


def warmup_steps(total_steps: int) -> int:
    """Steps over which the learning rate rises: floor(sqrt(all optimiser steps))."""
    return math.isqrt(total_steps)


def weight_decay(n_train: int) -> float:
    """Decoupled weight decay: 1 / sqrt(training rows)."""
    return 1 / math.sqrt(n_train)


def optimizer_steps(n_train: int, batch: int, accumulation: int, epochs: int) -> int:
    """Optimiser steps of a whole training; the last batch and the last step of an epoch may be smaller."""
    return epochs * math.ceil(math.ceil(n_train / batch) / accumulation)


def online_steps(n_test: int, batch: int) -> int:
    """Online steps per beta: half the task's test problems, in batches."""
    return math.ceil(0.5 * n_test / batch)


def beta_grid_pairs(n_train: int) -> int:
    """Training pairs on which the beta grid is measured: floor(sqrt(n) ln n)."""
    return math.floor(math.sqrt(n_train) * math.log(n_train))


def probe_size(n: int) -> int:
    """Rows of a probe drawn from ``n``: ceil(sqrt(n))."""
    return math.ceil(math.sqrt(n))


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
