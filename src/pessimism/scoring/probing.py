"""From the probes of a checkpoint to columns: as the protocol reads the paper, and controlled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pessimism.experiment.params import Protocol

AS_PUBLISHED = [
    "entropy_dpo",
    "entropy_online",
    "entropy_collapse",
    "ood_cosine_distance",
    "ood_cosine_distance_online",
    "response_diversity",
    "response_diversity_online",
]
CONTROLLED = [
    "response_entropy_dpo",
    "response_entropy_online",
    "response_entropy_collapse",
    "ood_mahalanobis_distance",
    "ood_mahalanobis_distance_online",
    "ood_cosine_distance_all",
    "ood_cosine_distance_all_online",
    "within_prompt_diversity",
    "within_prompt_diversity_online",
    "kl_to_base",
    "kl_to_base_online",
]
COLUMNS = [*AS_PUBLISHED, *CONTROLLED]
PENULTIMATE = "penultimate"


def probe_columns(record: Mapping[str, Any], protocol: Protocol) -> dict[str, float]:
    """Columns COLUMNS of one checkpoint: plain names before its online run, ``_online`` after it.

    Args:
        record: data/probes/<cell>.json.
        protocol: what the paper's measures are taken from; the controlled ones are always the same: response
            tokens, penultimate layer, all reward members, several responses to one prompt.
    """
    values: dict[str, float] = {}
    for policy, suffix in (("dpo", ""), ("online", "_online")):
        probed = record[policy]
        members = probed["members"]
        values |= {
            f"entropy_{policy}": probed[f"{protocol.entropy_tokens}_entropy"],
            f"response_entropy_{policy}": probed["response_entropy"],
            f"kl_to_base{suffix}": probed["kl_to_base"],
            f"ood_mahalanobis_distance{suffix}": _over_members(members, "ood_mahalanobis_distance"),
            f"ood_cosine_distance_all{suffix}": _over_members(members, "ood_cosine_distance"),
            f"within_prompt_diversity{suffix}": _over_members(members, "diversity_within"),
        }
        published = _published_members(members, protocol)
        values[f"ood_cosine_distance{suffix}"] = published["ood_cosine_distance"]
        values[f"response_diversity{suffix}"] = published[f"diversity_{protocol.diversity_prompts}"]
    for prefix in ("", "response_"):
        values[f"{prefix}entropy_collapse"] = values[f"{prefix}entropy_dpo"] - values[f"{prefix}entropy_online"]
    return {name: float(values[name]) for name in COLUMNS}


def _over_members(members: Mapping[str, Any], name: str) -> float:
    """Mean over members, in the penultimate layer."""
    return float(np.mean([layers[PENULTIMATE][name] for layers in members.values()]))


def _published_members(members: Mapping[str, Any], protocol: Protocol) -> dict[str, float]:
    """Distances and diversities of the layer and the members that the protocol names."""
    layers = [members[member][protocol.probe_layer] for member in sorted(members, key=int)]
    chosen = layers[:1] if protocol.probe_members == "first" else layers
    return {name: float(np.mean([probes[name] for probes in chosen])) for name in chosen[0]}
