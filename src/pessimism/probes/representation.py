"""Where responses lie in a reward member's representation: distance to its data and diversity (Eq. 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ReferenceStates:
    """A reward member's states on its own training data.

    Attributes:
        centroid_H: their mean.
        precision_H_H: inverse of their covariance, shrunk so that it exists with fewer rows than dimensions.
    """

    centroid_H: np.ndarray
    precision_H_H: np.ndarray

    @classmethod
    def of(cls, states_N_H: np.ndarray) -> ReferenceStates:
        return cls(states_N_H.mean(axis=0), np.linalg.inv(shrunk_covariance(states_N_H)))


def shrunk_covariance(states_N_H: np.ndarray) -> np.ndarray:
    """(H, H) covariance shrunk toward a multiple of the identity, by Ledoit and Wolf (2004), eq. 14.

    Raises:
        ValueError: fewer than two states, or all the same.
    """
    count, width = states_N_H.shape
    if count < 2 or not np.ptp(states_N_H, axis=0).any():
        raise ValueError(
            f"found {count} reference state(s) without spread; expected different ones (probes.references)"
        )
    centred_N_H = states_N_H - states_N_H.mean(axis=0)
    sample_H_H = centred_N_H.T @ centred_N_H / count
    target_H_H = np.trace(sample_H_H) / width * np.eye(width)
    distance = np.square(sample_H_H - target_H_H).sum()
    fourth = np.square(np.square(centred_N_H).sum(axis=1)).sum() / count
    error = (fourth - np.square(sample_H_H).sum()) / count
    weight = min(error, distance) / distance if distance > 0 else 1.0
    return weight * target_H_H + (1 - weight) * sample_H_H


def mahalanobis_distances(states_N_H: np.ndarray, reference: ReferenceStates) -> np.ndarray:
    """(N,) distance of every state to the reference data in units of its spread; at least 0, higher = farther."""
    centred_N_H = states_N_H - reference.centroid_H
    return np.sqrt(np.einsum("nh,hg,ng->n", centred_N_H, reference.precision_H_H, centred_N_H))


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


def mean_diversity_within(groups: Sequence[np.ndarray]) -> float:
    """Mean over groups, each the (R, H) states of the responses to one prompt, of their mean pairwise distance."""
    return float(np.mean([mean_pairwise_cosine_distance(states_R_H) for states_R_H in groups]))


def _unit(states_N_H: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(states_N_H, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError("found a state of norm 0; expected directions: is the reward model trained?")
    return states_N_H / norms
