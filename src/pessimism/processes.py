"""Processes that share one training: how many, which one this is, and what they tell one another.

A script that plain Python starts is alone. ``accelerate launch`` (``launcher`` in params.yaml) starts several of it,
one per GPU: each runs the whole script on its share of every batch, and the main one writes what all of them know.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")


def count() -> int:
    """Number of processes, as their launcher tells it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def share(rows: int) -> range:
    """The rows of a batch that this process works on; shares follow one another by rank."""
    return range(rows * rank() // count(), rows * (rank() + 1) // count())


def gather(items: list[Item]) -> list[Item]:
    """The items of all processes, by rank; every process gets all of them."""
    if count() == 1:
        return items
    from accelerate.utils import gather_object

    _connect()
    return gather_object(items)


def total(number: float) -> float:
    """Sum over all processes."""
    return sum(gather([number]))


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes."""
    if count() == 1:
        return
    import torch

    _connect()
    for parameter in parameters:
        torch.distributed.all_reduce(parameter.grad)


def _connect() -> None:
    """Join the group of processes, once."""
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
