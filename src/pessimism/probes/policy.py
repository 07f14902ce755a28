"""All probes of one checkpoint, before and after its online run (paper section 5).

Everything is measured in every way that a protocol may ask for. Which of them the paper's measures read is decided
where they are gathered, so that a change of that choice probes nothing again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pessimism.data.prompts import math_prompt
from pessimism.experiment import rng
from pessimism.experiment.params import Params
from pessimism.models.adapters import use_adapter
from pessimism.models.compute.generation import sample_responses
from pessimism.models.hyperparameters import probe_size
from pessimism.probes.entropy import prompt_entropy, response_entropy_and_kl
from pessimism.probes.representation import (
    ReferenceStates,
    cosine_distances,
    mahalanobis_distances,
    mean_diversity_within,
    mean_pairwise_cosine_distance,
)
from pessimism.reward.ensemble import RewardEnsemble

DPO = "dpo"
ONLINE = "online"


@dataclass(frozen=True)
class ProbeSet:
    """What every cell is probed on.

    Attributes:
        prompts: problems posed as the online phase poses them.
        heldout_prompts: the held-out problems, for entropy and KL over responses.
        references: by member and layer, its states over training pairs' prompts and chosen responses.
        reference_count: number of those pairs.
    """

    prompts: list[str]
    heldout_prompts: list[str]
    references: dict[int, dict[str, ReferenceStates]]
    reference_count: int


def probe_set(
    params: Params, tasks: pd.DataFrame, heldout: pd.DataFrame, pairs: pd.DataFrame, ensemble: RewardEnsemble
) -> ProbeSet:
    """Draw the probe prompts and the reference pairs: the same for every beta, seed and arm."""
    probes, template = params.scale.probes, params.scale.tasks.prompt_template
    drawn = _draw(params, "probe-prompts", tasks, probes.prompts)
    rows = _draw(params, "probe-references", pairs, probes.references)
    prompts, chosen = list(rows["prompt"]), list(rows["chosen"])
    references = {
        member: {
            layer: ReferenceStates.of(states_N_H)
            for layer, states_N_H in ensemble.representations(member, prompts, chosen).items()
        }
        for member in ensemble.members
    }
    return ProbeSet(
        prompts=[math_prompt(question, template) for question in drawn["question"]],
        heldout_prompts=[math_prompt(question, template) for question in heldout["question"]],
        references=references,
        reference_count=len(rows),
    )


def probe_checkpoint(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    probes: ProbeSet,
    params: Params,
    seed: int,
) -> dict[str, Any]:
    """Probe both policies.

    Args:
        model: a base with the adapters DPO and ONLINE.
        seed: training seed; betas of one seed draw responses from the same random stream.

    Returns:
        The sizes, and under ``dpo`` and ``online`` what :func:`_probe_policy` found.
    """
    record: dict[str, Any] = {
        "prompts": len(probes.prompts),
        "responses_per_prompt": params.scale.probes.responses,
        "heldout_prompts": len(probes.heldout_prompts),
        "references": probes.reference_count,
    }
    for name in (DPO, ONLINE):
        with use_adapter(model, name):
            record[name] = _probe_policy(model, tokenizer, ensemble, probes, params, seed)
    return record


def _probe_policy(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    probes: ProbeSet,
    params: Params,
    seed: int,
) -> dict[str, Any]:
    """Probes of the policy that is active on ``model``.

    Returns:
        ``prompt_entropy`` (Eq. 11) and ``response_entropy``, nats per token; ``kl_to_base``, nats per response;
        ``members``: by reward member and layer ``ood_cosine_distance`` (Eq. 12) and its standard deviation over
        prompts, ``ood_mahalanobis_distance``, and ``diversity_across`` and ``diversity_within`` prompts.
    """
    repeats = params.scale.probes.responses
    prompts = [prompt for prompt in probes.prompts for _ in range(repeats)]
    seeds = rng.row_seeds(params.root_seed, "probe-responses", seed, rows=len(prompts))
    responses = sample_responses(model, tokenizer, prompts, params, seeds).texts
    seeds = rng.row_seeds(params.root_seed, "probe-divergence", seed, rows=len(probes.heldout_prompts))
    entropy, kl = response_entropy_and_kl(model, tokenizer, probes.heldout_prompts, params, seeds)
    members = {
        str(member): {
            layer: _representation_probes(states_NR_H, probes.references[member][layer], repeats)
            for layer, states_NR_H in ensemble.representations(member, prompts, responses).items()
        }
        for member in ensemble.members
    }
    return {
        "prompt_entropy": float(prompt_entropy(model, tokenizer, probes.prompts, params).mean()),
        "response_entropy": entropy,
        "kl_to_base": kl,
        "members": members,
    }


def _representation_probes(states_NR_H: np.ndarray, reference: ReferenceStates, repeats: int) -> dict[str, float]:
    """Distances and diversities of N prompts with R responses each, rows in that order.

    Distance and diversity across prompts are of each prompt's first response.
    """
    first_N_H = states_NR_H[::repeats]
    cosine_N = cosine_distances(first_N_H, reference.centroid_H)
    return {
        "ood_cosine_distance": float(cosine_N.mean()),
        "ood_cosine_distance_sd": float(cosine_N.std(ddof=1)),
        "ood_mahalanobis_distance": float(mahalanobis_distances(first_N_H, reference).mean()),
        "diversity_across": mean_pairwise_cosine_distance(first_N_H),
        "diversity_within": mean_diversity_within(np.split(states_NR_H, len(first_N_H))),
    }


def _draw(params: Params, stream: str, table: pd.DataFrame, size: int | None) -> pd.DataFrame:
    count = min(len(table), probe_size(len(table)) if size is None else size)
    rows = rng.generator(params.root_seed, stream).choice(len(table), size=count, replace=False)
    return table.iloc[np.sort(rows)]
