"""Where responses lie in a reward member's representation: distance to its data and diversity (Eq. 12)."""

from __future__ import annotations

import numpy as np


def cosine_distances(states_N_H: np.ndarray, centroid_H: np.ndarray) -> np.ndarray:
    """Cosine distance of every state to the centroid, Eq. 12.

    Returns:
        (N,) in [0, 2]; higher = farther from the reward model's training data.

    Raises:
        ValueError: a state or the centroid is the zero vector, which has no direction.
    """
    return 1 - _unit(states_N_H) @ _unit(centroid_H[None])[0]


def mean_pairwise_cosine_distance(states_N_H: np.ndarray) -> float:
    """Mean cosine distance over all unordered pairs; in [0, 2], higher = more diverse.

    Raises:
        ValueError: fewer than two states, or a zero vector among them.
    """
    count = len(states_N_H)
    if count < 2:
        raise ValueError(f"found {count} state(s); expected 2 or more to form a pair (probes.prompts)")
    similarities_N_N = _unit(states_N_H) @ _unit(states_N_H).T
    pairs = np.triu_indices(count, k=1)
    return float(1 - similarities_N_N[pairs].mean())


def _unit(states_N_H: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(states_N_H, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError("found a state of norm 0; expected directions: is the reward model trained?")
    return states_N_H / norms
