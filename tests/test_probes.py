"""Distances and entropies on cases with known answers."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import save_random_adapter
from pessimism.data.prompts import plain_ids
from pessimism.models.adapters import attach
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.params import Params
from pessimism.probes import policy as probes
from pessimism.probes.entropy import prompt_entropy
from pessimism.probes.representation import cosine_distances, mean_pairwise_cosine_distance


def test_cosine_distance_of_parallel_orthogonal_and_opposite_states():
    states = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert cosine_distances(states, np.array([5.0, 0.0])).tolist() == pytest.approx([0.0, 1.0, 2.0])


def test_diversity_counts_each_unordered_pair_once_and_no_state_with_itself():
    states = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert mean_pairwise_cosine_distance(states) == pytest.approx((1 + 2 + 1) / 3)
    assert mean_pairwise_cosine_distance(np.ones((4, 3))) == pytest.approx(0.0)


def test_a_zero_state_and_a_single_state_are_refused():
    with pytest.raises(ValueError, match="norm 0"):
        cosine_distances(np.zeros((1, 2)), np.ones(2))
    with pytest.raises(ValueError, match="found 1 state"):
        mean_pairwise_cosine_distance(np.ones((1, 2)))


PROMPTS = ["Tom has 3 apples.", "Ann has 2 pens. Tom has 4 pens. How many pens?", "Tom has 5."]


def test_prompt_entropy_is_the_mean_over_each_prompts_own_tokens(tiny_world: Params) -> None:
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")
    found = prompt_entropy(model, tokenizer, PROMPTS, prompt_length=40, batch_size=2)
    for prompt, entropy in zip(PROMPTS, found.tolist(), strict=True):
        with torch.no_grad():
            logps_T_V = model(torch.tensor([plain_ids(tokenizer, prompt)])).logits[0].double().log_softmax(dim=-1)
        assert entropy == pytest.approx(-(logps_T_V.exp() * logps_T_V).sum(dim=-1).mean().item(), abs=1e-5)
        assert 0 <= entropy <= math.log(logps_T_V.shape[1])


def test_prompt_entropy_of_a_long_prompt_is_that_of_its_end(tiny_world: Params) -> None:
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")
    ids = plain_ids(tokenizer, PROMPTS[1])
    kept = tokenizer.decode(ids[-6:])
    assert plain_ids(tokenizer, kept) == ids[-6:]
    cut, whole = (prompt_entropy(model, tokenizer, [text], 6, 1) for text in (PROMPTS[1], kept))
    assert cut.item() == pytest.approx(whole.item(), abs=1e-6)


class StillEnsemble:
    """A reward member whose states depend on the texts alone."""

    def representations(self, member: int, prompts: list[str], responses: list[str]) -> np.ndarray:
        return np.array([[1.0, len(response), row] for row, response in enumerate(responses)])


def probe(params: Params, dpo: Path, online: Path) -> dict[str, float]:
    model = attach(load_policy_base(params), {probes.DPO: dpo, probes.ONLINE: online}, trainable=None)
    asked = probes.ProbeSet(prompts=PROMPTS, centroid_H=np.ones(3), references=1)
    return probes.probe_checkpoint(model, load_tokenizer(params, "policy"), StillEnsemble(), asked, params, seed=0)


def test_entropy_collapse_is_what_the_online_run_lost(tiny_world: Params, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    save_random_adapter(tiny_world, one, seed=1)
    save_random_adapter(tiny_world, other, seed=2)
    same, there, back = probe(tiny_world, one, one), probe(tiny_world, one, other), probe(tiny_world, other, one)
    assert same["entropy_collapse"] == 0 and same["ood_cosine_distance"] == same["ood_cosine_distance_online"]
    assert there["entropy_dpo"] == back["entropy_online"] != there["entropy_online"]
    assert there["entropy_collapse"] == there["entropy_dpo"] - there["entropy_online"] == -back["entropy_collapse"]


def test_every_cell_is_probed_on_the_same_rows(tiny_world: Params) -> None:
    tasks = pd.DataFrame({"question": [f"question {row}" for row in range(20)]})
    pairs = pd.DataFrame({"prompt": [f"prompt {row}" for row in range(20)], "chosen": "x"})
    scale = dataclasses.replace(
        tiny_world.scale, probes=dataclasses.replace(tiny_world.scale.probes, prompts=None, references=3)
    )
    params = dataclasses.replace(tiny_world, scale=scale)
    first, second = (probes.probe_set(params, tasks, pairs, StillEnsemble()) for _ in range(2))
    assert first.prompts == second.prompts and len(set(first.prompts)) == len(first.prompts) == 5
    assert first.references == 3
