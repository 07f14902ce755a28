"""Two or more ways of the same work, side by side: interleaved times, and peak memory each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

# Sizes at which the C library takes every tensor from the system and gives it back when it is freed.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

Seconds = dict[str, list[float]]
"""Seconds of every arm, one per pass."""


def interleaved(
    arms: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Seconds:
    """Time every arm twice in each round, in the order A B B A: what slows the machine down meets both.

    Each half of a round is a pass, in which every arm ran once.
    """
    seconds: Seconds = {name: [] for name in arms}
    for _ in range(rounds):
        for names in (list(arms), list(arms)[::-1]):
            for name in names:
                start = clock()
                arms[name]()
                seconds[name].append(clock() - start)
    return seconds


def ratios(seconds: Seconds, ours: str, peer: str) -> list[float]:
    """Seconds of ``ours`` over those of ``peer``, one per pass."""
    return [mine / theirs for mine, theirs in zip(seconds[ours], seconds[peer], strict=True)]


def speedups(seconds: Seconds, ours: str, peer: str) -> list[float]:
    """How many times as much work per second ``ours`` does, one per pass."""
    return [1 / ratio for ratio in ratios(seconds, ours, peer)]


def growth(laps: Mapping[int, float]) -> float:
    """Slope of a straight line through (size, seconds) by least squares: seconds per unit of size."""
    sizes, total = list(laps), list(laps.values())
    mean_size, mean_total = sum(sizes) / len(sizes), sum(total) / len(total)
    covariance = sum((size - mean_size) * (seconds - mean_total) for size, seconds in laps.items())
    return covariance / sum((size - mean_size) ** 2 for size in sizes)


def used_bytes(workload: str) -> dict[str, int]:
    """Memory of one workload in a process of its own; see ``benchmarks.memory``.

    Args:
        workload: dotted name of a function in this package, such as ``logprobs.naive_memory``.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", workload],
        env=os.environ | ALLOCATOR,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{workload} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def memory_ratios(ours: str, peers: Sequence[str], kind: str = "peak") -> list[float]:
    """Memory of ``ours`` over that of each peer.

    Args:
        kind: ``peak`` while the workload runs, or ``resident`` after it.
    """
    mine = used_bytes(ours)[kind]
    return [mine / used_bytes(peer)[kind] for peer in peers]
