"""Sizes of batches, and which rows are computed together: numbers alone, no tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, Scale, TrainingParams
from pessimism.models import hyperparameters as derive

SAVING = 1 / 14
"""Share of a batch's real tokens that a further forward pass must save in padding.

From a 16th to a 12th the planner counts the same hours (scale: paper); a 24th and an 8th take more.
"""


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


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers in groups of neighbours by length, longest first: cut where a cut saves enough padding.

    Args:
        lengths: real tokens of each row.
    """
    order = length_order(lengths)
    ordered = np.array([lengths[row] for row in order])
    enough = SAVING * ordered.sum()

    def cut(start: int, stop: int) -> list[list[int]]:
        saved = (ordered[start] - ordered[start:stop]) * np.arange(stop - start, 0, -1)
        best = int(saved.argmax())
        if saved[best] <= enough:
            return [order[start:stop]]
        return cut(start, start + best) + cut(start + best, stop)

    return cut(0, len(order))


def longest_first(lengths: np.ndarray, order: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """The row numbers ``order`` in batches, each with its longest rows first."""
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        yield rows[np.argsort(-lengths[rows], kind="stable")]


def unmasked_queries(longer: Sequence[int], lengths: Sequence[int], rows: Sequence[int]) -> int:
    """Number of leading queries that need no mask where each row holds a pair: those in the longer text of all.

    At least two are left to the mask, since a mask of one query would look like one that holds for all.

    Args:
        longer: tokens of the longer text of every pair.
        lengths: tokens of every row.
        rows: of one batch, the longest row first.
    """
    return max(0, min(*(longer[row] for row in rows), lengths[rows[0]] - 2))
