"""B4: scoring by K = 3 reward models, one base against three."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks import arms, naive, worlds
from benchmarks.rows import Row, counter_row, ratio_row
from pessimism.experiment.params import Params
from pessimism.models.loading import load_tokenizer
from pessimism.reward.ensemble import RewardEnsemble

SIZE = worlds.Size(vocabulary=65_536, hidden=192, intermediate=576, layers=4)
SHRINK = 4
BATCHES = (4, 32)


@contextmanager
def world(tiny: bool = False) -> Iterator[Params]:
    """A project with a reward base and its members; weights are far larger than activations, as they are in use."""
    size = worlds.TINY if tiny else SIZE
    with worlds.project(size, size, worlds.cut(SHRINK), evaluation_batch_size=32) as params:
        worlds.save_members(params)
        yield params


def texts(count: int, vocabulary: int) -> tuple[list[str], list[str]]:
    """Prompts and responses of real lengths."""
    table = worlds.preference_table(count, SHRINK, vocabulary)
    return list(table["prompt"]), list(table["chosen"])


def _memory(tiny: bool, load: Callable[[Params], object]) -> Callable[[], object]:
    """The members, loaded and used once; the project's files are gone when this ends, so they are kept open here."""
    opened = world(tiny)
    params = opened.__enter__()
    vocabulary = (worlds.TINY if tiny else SIZE).vocabulary

    def call() -> object:
        ensemble = load(params)
        ensemble.score(*texts(BATCHES[0], vocabulary))  # type: ignore[attr-defined]
        opened.__exit__(None, None, None)
        return ensemble

    return call


def ours_memory(tiny: bool) -> Callable[[], object]:
    return _memory(tiny, lambda params: RewardEnsemble.load_raw(params, params.seeds[0]))


def naive_memory(tiny: bool) -> Callable[[], object]:
    return _memory(tiny, lambda params: naive.Ensemble.load(params, load_tokenizer(params, "reward")))


def measure() -> list[Row]:
    """B4."""
    with world() as params:
        ours = RewardEnsemble.load_raw(params, params.seeds[0])
        theirs = naive.Ensemble.load(params, ours.tokenizer)
        rows, differences = [], []
        for count in BATCHES:
            given = texts(count, SIZE.vocabulary)
            arms_of = {"N": lambda given=given: theirs.score(*given), "ours": lambda given=given: ours.score(*given)}
            seconds = arms.interleaved(arms_of, rounds=5)
            rows.append(ratio_row(f"B4 responses/s / N's, B = {count}", arms.speedups(seconds, "ours", "N"), ">= 1.0"))
            differences.append(float(np.abs(ours.score(*given) - theirs.score(*given)).max()))
    memory = arms.memory_ratios("ensemble.ours_memory", ["ensemble.naive_memory"], kind="resident")
    return [
        ratio_row("B4 resident memory / N's", memory, "<= 0.45"),
        *rows,
        counter_row("B4 largest difference of a score", max(differences), "<= 1e-5"),
    ]
