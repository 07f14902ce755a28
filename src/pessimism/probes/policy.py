"""All probes of one checkpoint, before and after its online run (paper section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pessimism import rng
from pessimism.data.prompts import math_prompt
from pessimism.models.adapters import use_adapter
from pessimism.models.generation import sample_responses
from pessimism.models.hyperparameters import probe_size
from pessimism.params import Params
from pessimism.probes.entropy import prompt_entropy
from pessimism.probes.representation import cosine_distances, mean_pairwise_cosine_distance
from pessimism.reward.ensemble import RewardEnsemble

DPO = "dpo"
ONLINE = "online"


@dataclass(frozen=True)
class ProbeSet:
    """What every cell is probed on.

    Attributes:
        prompts: problems posed as the online phase poses them.
        centroid_H: mean state of the reward member over training pairs' prompts and chosen responses.
        references: number of those pairs.
    """

    prompts: list[str]
    centroid_H: np.ndarray
    references: int


def probe_set(params: Params, tasks: pd.DataFrame, pairs: pd.DataFrame, ensemble: RewardEnsemble) -> ProbeSet:
    """Draw the probe prompts and the reference pairs: the same for every beta, seed and arm."""
    scale = params.scale
    drawn = _draw(params, "probe-prompts", tasks, scale.probes.prompts)
    references = _draw(params, "probe-references", pairs, scale.probes.references)
    states_N_H = ensemble.representations(
        params.ensemble_members[0], list(references["prompt"]), list(references["chosen"])
    )
    return ProbeSet(
        prompts=[math_prompt(question, scale.tasks.prompt_template) for question in drawn["question"]],
        centroid_H=states_N_H.mean(axis=0),
        references=len(references),
    )


def probe_checkpoint(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    probes: ProbeSet,
    params: Params,
    seed: int,
) -> dict[str, float]:
    """Entropy (nats per token), entropy collapse (positive = lost online), distance and diversity (cosine).

    Args:
        model: a base with the adapters DPO and ONLINE.
        seed: training seed; betas of one seed draw responses from the same random stream.

    Returns:
        The published quantities under their plain names, for the DPO checkpoint; the same after the online run
        under names that end in ``_online``.
    """
    entropy, states_N_H = {}, {}
    for name in (DPO, ONLINE):
        rng.seed_torch(params.root_seed, "probe-responses", seed)
        with use_adapter(model, name):
            entropy[name] = _mean_prompt_entropy(model, tokenizer, probes.prompts, params)
            responses = _responses(model, tokenizer, probes.prompts, params)
        states_N_H[name] = ensemble.representations(params.ensemble_members[0], probes.prompts, responses)
    distances = {name: cosine_distances(states, probes.centroid_H) for name, states in states_N_H.items()}
    return {
        "entropy_dpo": entropy[DPO],
        "entropy_online": entropy[ONLINE],
        "entropy_collapse": entropy[DPO] - entropy[ONLINE],
        "ood_cosine_distance": float(distances[DPO].mean()),
        "ood_cosine_distance_sd": float(distances[DPO].std(ddof=1)),
        "ood_cosine_distance_online": float(distances[ONLINE].mean()),
        "response_diversity": mean_pairwise_cosine_distance(states_N_H[DPO]),
        "response_diversity_online": mean_pairwise_cosine_distance(states_N_H[ONLINE]),
        "prompts": len(probes.prompts),
        "references": probes.references,
    }


def _draw(params: Params, stream: str, table: pd.DataFrame, size: int | None) -> pd.DataFrame:
    count = min(len(table), probe_size(len(table)) if size is None else size)
    rows = rng.generator(params.root_seed, stream).choice(len(table), size=count, replace=False)
    return table.iloc[np.sort(rows)]


def _mean_prompt_entropy(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], params: Params
) -> float:
    scale = params.scale
    return float(prompt_entropy(model, tokenizer, prompts, scale.lengths.prompt, scale.evaluation_batch_size).mean())


def _responses(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], params: Params
) -> list[str]:
    scale = params.scale
    return sample_responses(
        model, tokenizer, prompts, params.protocol, scale.lengths, scale.evaluation_batch_size
    ).texts
