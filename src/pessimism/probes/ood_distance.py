"""Distance of a policy's responses from the data that the reward members were trained on (Eq. 12)."""

from __future__ import annotations

import numpy as np

from pessimism.probes.parts.declaration import STATES, Probe, ProbeColumn, as_published, found
from pessimism.probes.parts.states import MemberStates, ReferenceStates, directions


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
    return 1 - directions(states_N_H) @ directions(centroid_H[None])[0]


def distances(states: MemberStates) -> dict[str, float]:
    """Means over prompts, of each prompt's first response; the cosine distance with its spread (ddof 1)."""
    cosine_N = cosine_distances(states.first_N_H, states.reference.centroid_H)
    return {
        "ood_cosine_distance": float(cosine_N.mean()),
        "ood_cosine_distance_sd": float(cosine_N.std(ddof=1)),
        "ood_mahalanobis_distance": float(mahalanobis_distances(states.first_N_H, states.reference).mean()),
    }


OOD_DISTANCE = Probe(
    reads=(STATES,),
    compute=distances,
    columns=(
        ProbeColumn(
            "ood_cosine_distance",
            formula="Eq. 12 in the layer and member(s) that the protocol names",
            unit="cosine distance",
            within="0 to 2",
            higher="farther from the reward model's data",
            heading="cosine distance, paper's probe",
            choose=as_published(lambda _: "ood_cosine_distance"),
            published=True,
        ),
        ProbeColumn(
            "ood_mahalanobis_distance",
            formula=(
                "distance to the centroid of Eq. 12 in units of the data's shrunk covariance (Ledoit and Wolf 2004), "
                "penultimate layer, mean over members"
            ),
            unit="standard deviations",
            within="≥ 0",
            higher="farther from the reward model's data",
            heading="Mahalanobis distance, all members",
        ),
        ProbeColumn(
            "ood_cosine_distance_all",
            formula="Eq. 12, penultimate layer, mean over members",
            unit="cosine distance",
            within="0 to 2",
            higher="farther from the reward model's data",
            heading="cosine distance, all members",
            choose=found("ood_cosine_distance"),
        ),
    ),
)
