"""Sizes of batches, batches of sequences of similar length, and right padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, Scale, TrainingParams
from pessimism.models import hyperparameters as derive


def evaluation_batch_size(params: Params, role: str) -> int:
    """Sequences per forward pass of ``role`` where nothing is trained: the scale's, else derived."""
    scale = params.scale
    if scale.evaluation_batch_size is not None:
        return scale.evaluation_batch_size
    return derived_batch_size(scale, records.read_json(layout.base_record(role))["parameters"], inference=True)


def training_batch_size(scale: Scale, training: TrainingParams, parameters: int) -> int:
    """Pairs of a batch of ``training``: the scale's, else derived.

    Args:
        parameters: number of the base's parameters.
    """
    if training.batch_size is not None:
        return training.batch_size
    return derived_batch_size(scale, parameters, inference=False)


def derived_batch_size(scale: Scale, parameters: int, inference: bool) -> int:
    """Sequences per forward pass by the paper's formula (App. C).

    Args:
        parameters: number of the base's parameters.
    """
    return derive.batch_size(scale.gpu_memory_gb, parameters / 1e9, inference, scale.lengths.sequence)


def evaluation_tokens(params: Params, role: str) -> int:
    """Padded tokens per forward pass of ``role`` where nothing is trained."""
    return evaluation_batch_size(params, role) * params.scale.lengths.sequence


def generation_batch_size(params: Params) -> int:
    """Responses that are drawn together: the scale's, else as many as the policy reads per forward pass."""
    size = params.scale.generation_batch_size
    return evaluation_batch_size(params, "policy") if size is None else size


def length_order(lengths: Sequence[int]) -> list[int]:
    """Row numbers, longest first."""
    return sorted(range(len(lengths)), key=lambda row: -lengths[row])


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers in batches of neighbours by length, longest first: little padding, and memory peaks at once.

    Args:
        budget: padded tokens of a batch, rows times longest; a batch has one row at least.
    """
    batches: list[list[int]] = []
    for row in length_order(lengths):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def pad_right(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask (1 = real token), both (B, T) with T the longest row."""
    width = max(map(len, rows))
    ids = [[*row, *[pad_id] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
