"""Processes that share one training: how many there are, and which one this is.

A script that plain Python starts is alone. ``accelerate launch`` (``launcher`` in params.yaml) starts several of it,
one per GPU: each runs the whole script on its share of every batch (``pessimism.machine.sharing``), and the main one
writes what all of them know.
"""

from __future__ import annotations

import os


def count() -> int:
    """Number of processes, as their launcher tells it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process among those of its machine, from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_count() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def use_one_gpu() -> None:
    """Show a process that is alone the first GPU only: transformers would multiply the batch by the number it sees.

    Works until CUDA is first used, whatever has been imported.
    """
    if count() == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
