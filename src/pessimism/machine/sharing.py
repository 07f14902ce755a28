"""What processes that share one training divide among them, and what they tell one another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from pessimism.machine.processes import count, rank

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")


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
