"""Bootstrap samples of the preference pairs, one per reward member."""

from __future__ import annotations

import numpy as np

from pessimism.experiment import rng


def bootstrap_rows(n: int, root_seed: int, member: int) -> np.ndarray:
    """(n,) row numbers drawn with replacement, the same for a member whatever the others are."""
    return rng.generator(root_seed, "bootstrap", member).integers(n, size=n)
