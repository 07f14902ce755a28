"""Random streams and bootstrap samples of the reward members."""

from __future__ import annotations

import numpy as np

from pessimism.experiment import rng
from pessimism.experiment.cells import RewardCell
from pessimism.experiment.params import Params

Stream = tuple[int, ...]


def member_stream(params: Params, cell: RewardCell) -> Stream:
    """Names by which the random streams of one member are told apart: the ensembles of all seeds share them or not.

    Where they do, a member is trained to the same bytes for every seed: the paper's one ensemble.
    """
    return (cell.member,) if params.ensembles == "shared" else (cell.seed, cell.member)


def bootstrap_rows(n: int, root_seed: int, stream: Stream) -> np.ndarray:
    """(n,) row numbers drawn with replacement, the same for a member whatever the others are."""
    return rng.generator(root_seed, "bootstrap", *stream).integers(n, size=n)
