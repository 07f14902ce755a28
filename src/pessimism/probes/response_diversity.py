"""How far apart a policy's responses lie in a reward member's representation (section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pessimism.probes.parts.declaration import STATES, Probe, ProbeColumn, as_published, found
from pessimism.probes.parts.states import MemberStates, directions


def mean_pairwise_cosine_distance(states_N_H: np.ndarray) -> float:
    """Mean cosine distance over all unordered pairs; in [0, 2], higher = more diverse.

    Raises:
        ValueError: fewer than two states, or a zero vector among them.
    """
    count = len(states_N_H)
    if count < 2:
        raise ValueError(f"found {count} state(s); expected 2 or more to form a pair (probes.prompts)")
    similarities_N_N = directions(states_N_H) @ directions(states_N_H).T
    pairs = np.triu_indices(count, k=1)
    return float(1 - similarities_N_N[pairs].mean())


def mean_diversity_within(groups: Sequence[np.ndarray]) -> float:
    """Mean over groups, each the (R, H) states of the responses to one prompt, of their mean pairwise distance."""
    return float(np.mean([mean_pairwise_cosine_distance(states_R_H) for states_R_H in groups]))


def diversities(states: MemberStates) -> dict[str, float]:
    """Mean pairwise cosine distance: of each prompt's first response, and of the responses to one prompt."""
    return {
        "diversity_across": mean_pairwise_cosine_distance(states.first_N_H),
        "diversity_within": mean_diversity_within(states.by_prompt),
    }


RESPONSE_DIVERSITY = Probe(
    reads=(STATES,),
    compute=diversities,
    columns=(
        ProbeColumn(
            "response_diversity",
            formula="mean pairwise cosine distance of responses, as the protocol names",
            unit="cosine distance",
            within="0 to 2",
            higher="more diverse",
            heading="diversity, paper's probe",
            choose=as_published(lambda protocol: f"diversity_{protocol.diversity_prompts}"),
            published=True,
        ),
        ProbeColumn(
            "within_prompt_diversity",
            formula=(
                "mean pairwise cosine distance of several responses to one problem, penultimate layer, mean over "
                "members"
            ),
            unit="cosine distance",
            within="0 to 2",
            higher="more diverse",
            heading="diversity within a prompt, all members",
            choose=found("diversity_within"),
        ),
    ),
)
