"""Where a reward member's representation puts responses, and its own training data."""

from __future__ import annotations

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


@dataclass(frozen=True)
class MemberStates:
    """The responses of a policy in one layer of one reward member.

    Attributes:
        states_NR_H: of N prompts with R responses each, rows in that order.
        reference: the member's states on its own training data, in the same layer.
        responses_per_prompt: R.
    """

    states_NR_H: np.ndarray
    reference: ReferenceStates
    responses_per_prompt: int

    @property
    def first_N_H(self) -> np.ndarray:
        """Of each prompt's first response."""
        return self.states_NR_H[:: self.responses_per_prompt]

    @property
    def by_prompt(self) -> list[np.ndarray]:
        """N arrays (R, H), the responses to one prompt each."""
        return np.split(self.states_NR_H, len(self.first_N_H))


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


def directions(states_N_H: np.ndarray) -> np.ndarray:
    """(N, H) states scaled to norm 1.

    Raises:
        ValueError: one is the zero vector, which has no direction.
    """
    norms = np.linalg.norm(states_N_H, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError("found a state of norm 0; expected directions: is the reward model trained?")
    return states_N_H / norms
