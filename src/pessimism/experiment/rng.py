"""Independent random streams from one root seed and the names of what they drive.

Two streams with different names are independent; the same root seed and names always give the same stream,
whatever else the process has drawn.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from pessimism.experiment.cells import stream_name

if TYPE_CHECKING:
    import torch

    from pessimism.experiment.params import Protocol


def _sequence(root_seed: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([root_seed, *(zlib.crc32(repr(name).encode()) for name in names)])


def generator(root_seed: int, *names: str | int) -> np.random.Generator:
    """NumPy generator of the stream called ``names``."""
    return np.random.default_rng(_sequence(root_seed, names))


def seed(root_seed: int, *names: str | int) -> int:
    """Seed in [0, 2**31) of the stream called ``names``, for libraries that take an integer."""
    return int(_sequence(root_seed, names).generate_state(1)[0] >> 1)


def row_seeds(root_seed: int, *names: str | int, rows: int) -> list[int]:
    """One seed for each of ``rows`` rows; those of the first rows do not depend on how many there are."""
    return [seed(root_seed, *names, row) for row in range(rows)]


def seed_torch(root_seed: int, *names: str | int) -> torch.Generator:
    """Seed torch's global generator, which Hugging Face sampling and initialisation draw from."""
    import torch

    return torch.manual_seed(seed(root_seed, *names))


def run_stream(protocol: Protocol, label: str, seed: int) -> tuple[int | str, ...]:
    """Names by which the streams of one training run are told apart: betas of a seed share them where paired.

    The arms of a checkpoint always share them.
    """
    return (seed,) if protocol.paired_seeds else (stream_name(label), seed)
