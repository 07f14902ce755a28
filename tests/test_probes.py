"""Distances and entropies on cases with known answers."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pessimism.data.prompts import plain_ids
from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.models.adapters import attach, use_adapter
from pessimism.models.compute.generation import FULL, Rollouts, sample_responses
from pessimism.models.compute.logprobs import pad_pairs, response_logps
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.probes.ood_distance import cosine_distances, distances
from pessimism.probes.parts.checkpoint import probe_checkpoint
from pessimism.probes.parts.declaration import DPO, ONLINE, ROOM, all_columns, all_probes
from pessimism.probes.parts.distributions import prompt_entropies, response_entropies, response_entropy_and_kl
from pessimism.probes.parts.readings import ProbeSet, Readings, probe_set
from pessimism.probes.parts.states import MemberStates, ReferenceStates, shrunk_covariance
from pessimism.probes.response_diversity import diversities, mean_pairwise_cosine_distance
from support.random_models import save_random_adapter
from support.repository import AddFile


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


def cut_to(params: Params, length: int, batch_size: int, **switches: object) -> Params:
    scale = dataclasses.replace(
        params.scale,
        lengths=dataclasses.replace(params.scale.lengths, prompt=length),
        evaluation_batch_size=batch_size,
    )
    return dataclasses.replace(params, scale=scale, protocol=dataclasses.replace(params.protocol, **switches))


def test_prompt_entropy_is_the_mean_over_each_prompts_own_tokens(tiny_world: Params) -> None:
    """Eq. 11 conditions x_t on x_<t: the last state predicts the response, and counts in the second number alone."""
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")
    model.get_input_embeddings().weight.data *= 20  # so that distributions differ
    found = prompt_entropies(model, tokenizer, PROMPTS, cut_to(tiny_world, 40, 2))
    for prompt, own, with_next in zip(PROMPTS, *(entropies.tolist() for entropies in found), strict=True):
        with torch.no_grad():
            logps_T_V = model(torch.tensor([plain_ids(tokenizer, prompt)])).logits[0].double().log_softmax(dim=-1)
        entropy_T = -(logps_T_V.exp() * logps_T_V).sum(dim=-1)
        assert own == pytest.approx(entropy_T[:-1].mean().item(), abs=1e-5)
        assert with_next == pytest.approx(entropy_T.mean().item(), abs=1e-5)
        assert 0 <= own <= math.log(logps_T_V.shape[1]) and own != pytest.approx(with_next, abs=1e-3)


def test_prompt_entropy_does_not_depend_on_what_the_last_token_of_a_prompt_predicts(tiny_world: Params) -> None:
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")
    one, other = ([f"Tom has 3{end}"] for end in (" apples", " pens"))
    assert [len(plain_ids(tokenizer, *prompt)) for prompt in (one, other)] == [4, 4]
    found = [prompt_entropies(model, tokenizer, prompt, cut_to(tiny_world, 40, 1)) for prompt in (one, other)]
    assert found[0][0].item() == found[1][0].item() and found[0][1].item() != found[1][1].item()


def test_a_prompt_of_one_token_is_refused(tiny_world: Params) -> None:
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")
    with pytest.raises(DataError, match=r"found a prompt of one token; .* raise lengths\.prompt"):
        prompt_entropies(model, tokenizer, PROMPTS, cut_to(tiny_world, 1, 1))


@pytest.mark.parametrize(("cut", "kept"), [("left", slice(-6, None)), ("right", slice(6))])
def test_prompt_entropy_of_a_long_prompt_is_that_of_the_part_it_keeps(
    tiny_world: Params, cut: str, kept: slice
) -> None:
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")
    ids = plain_ids(tokenizer, PROMPTS[1])[kept]
    text = tokenizer.decode(ids)
    assert plain_ids(tokenizer, text) == ids
    params = cut_to(tiny_world, 6, 1, prompt_cut=cut)
    long, short = (prompt_entropies(model, tokenizer, [prompt], params) for prompt in (PROMPTS[1], text))
    assert torch.allclose(torch.stack(long), torch.stack(short), rtol=0, atol=1e-6)


def test_divergence_from_the_base_is_none_without_an_adapter_and_positive_with_one(
    tiny_world: Params, tmp_path: Path
) -> None:
    save_random_adapter(tiny_world, tmp_path / "one", seed=1)
    tokenizer = load_tokenizer(tiny_world, "policy")
    model = attach(load_policy_base(tiny_world), {"one": tmp_path / "one"}, trainable=None)
    params, seeds = cut_to(tiny_world, 40, 2), range(len(PROMPTS))
    entropy_N, kl_N = response_entropy_and_kl(model, tokenizer, PROMPTS, params, seeds)
    assert kl_N.mean() > 0.01 and (entropy_N > 0).all() and (entropy_N < math.log(len(tokenizer))).all()
    with use_adapter(model, None):
        assert (response_entropy_and_kl(model, tokenizer, PROMPTS, params, seeds)[1] == 0.0).all()


def test_the_base_has_the_entropy_that_a_checkpoint_equal_to_it_has(tiny_world: Params, tmp_path: Path) -> None:
    save_random_adapter(tiny_world, tmp_path / "one", seed=1)
    tokenizer = load_tokenizer(tiny_world, "policy")
    params, seeds = cut_to(tiny_world, 40, 2), range(len(PROMPTS))
    model = attach(load_policy_base(tiny_world), {"one": tmp_path / "one"}, trainable=None)
    policy_N, _ = response_entropy_and_kl(model, tokenizer, PROMPTS, params, seeds)
    with use_adapter(model, None):
        expected_N, _ = response_entropy_and_kl(model, tokenizer, PROMPTS, params, seeds)
    found_N = response_entropies(load_policy_base(tiny_world), tokenizer, PROMPTS, params, seeds)
    assert torch.allclose(found_N, expected_N, rtol=0, atol=1e-5)
    assert not torch.allclose(found_N, policy_N, rtol=0, atol=1e-3)


def test_divergence_is_the_mean_log_ratio_of_many_samples(tiny_world: Params, tmp_path: Path) -> None:
    """The whole-vocabulary sum and the sampled log-ratios estimate one number; so do the two entropies."""
    save_random_adapter(tiny_world, tmp_path / "one", seed=3)
    tokenizer = load_tokenizer(tiny_world, "policy")
    model = attach(load_policy_base(tiny_world), {"one": tmp_path / "one"}, trainable=None)
    params = cut_to(tiny_world, 40, 64)
    prompts = [PROMPTS[0]] * 128
    seeds = range(len(prompts))
    entropy_N, kl_N = response_entropy_and_kl(model, tokenizer, prompts, params, seeds)
    drawn = sample_responses(model, tokenizer, prompts, params, seeds, sampling=FULL)
    batch = pad_pairs(drawn.prompt_ids, drawn.response_ids, tokenizer.pad_token_id, model.device)
    with torch.no_grad():
        policy = response_logps(model, batch)
        with use_adapter(model, None):
            base = response_logps(model, batch)
    ratios = policy.sums - base.sums
    assert kl_N.mean().item() == pytest.approx(ratios.mean().item(), abs=4 * ratios.std().item() / 128**0.5)
    assert entropy_N.mean().item() == pytest.approx(policy.mean_entropy.mean().item(), abs=1e-5)


WIDTH = 3


class StillEnsemble:
    """Reward members whose states depend on the texts alone."""

    members = (0, 1)

    def representations(self, member: int, prompts: list[str], responses: list[str]) -> dict[str, np.ndarray]:
        states = np.array([[1.0, len(response) + member, row % 5] for row, response in enumerate(responses)])
        return {"penultimate": states, "last": 2 * states + 1}


def probe(params: Params, dpo: Path, online: Path, seed: int = 0) -> dict[str, Any]:
    model = attach(load_policy_base(params), {DPO: dpo, ONLINE: online}, trainable=None)
    reference = ReferenceStates(centroid_H=np.ones(WIDTH), precision_H_H=np.eye(WIDTH))
    asked = ProbeSet(
        prompts=PROMPTS,
        reward_prompts=PROMPTS,
        heldout_prompts=PROMPTS,
        references={member: {"penultimate": reference, "last": reference} for member in StillEnsemble.members},
        reference_count=1,
    )
    return probe_checkpoint(model, load_tokenizer(params, "policy"), StillEnsemble(), asked, params, seed)


def test_both_policies_are_probed_with_the_same_draws(tiny_world: Params, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    save_random_adapter(tiny_world, one, seed=1)
    save_random_adapter(tiny_world, other, seed=2)
    same, there, back = probe(tiny_world, one, one), probe(tiny_world, one, other), probe(tiny_world, other, one)
    assert same["dpo"] == same["online"]
    assert there["dpo"] == back["online"] != there["online"] == back["dpo"]
    assert sorted(there["dpo"]["members"]) == ["0", "1"]
    assert there["responses_per_prompt"] == tiny_world.scale.probes.responses


def test_a_seed_draws_its_own_responses(tiny_world: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_random_adapter(tiny_world, tmp_path, seed=1)
    drawn: list[list[int]] = []

    def watched(*arguments: Any, **options: Any) -> Rollouts:
        drawn.append(list(arguments[-1]))
        return sample_responses(*arguments, **options)

    for module in ("readings", "distributions"):
        monkeypatch.setattr(f"pessimism.probes.parts.{module}.sample_responses", watched)
    by_seed = []
    for seed in (0, 3, 3):
        probe(tiny_world, tmp_path, tmp_path, seed)
        by_seed.append(drawn.copy())
        drawn.clear()
    assert by_seed[1] == by_seed[2] and len(by_seed[0]) == 4  # responses and divergence, before and after
    assert all(one != other for one, other in zip(by_seed[0], by_seed[1], strict=True))


def test_distance_and_diversity_across_are_of_first_responses_and_diversity_within_of_all() -> None:
    states_NR_H = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])  # two prompts with two responses
    reference = ReferenceStates(centroid_H=np.array([1.0, 0.0]), precision_H_H=np.diag([1.0, 4.0]))
    states = MemberStates(states_NR_H, reference, responses_per_prompt=2)
    found = distances(states) | diversities(states)
    assert found["ood_cosine_distance"] == pytest.approx((0 + 1) / 2)
    assert found["ood_mahalanobis_distance"] == pytest.approx((0 + (1 + 4) ** 0.5) / 2)
    assert found["diversity_across"] == pytest.approx(1.0)
    assert found["diversity_within"] == pytest.approx((2 + 0) / 2)


TOYS = {
    "response_words": """
from pessimism.probes.parts.declaration import ProbeColumn, Probe

def words(responses):
    return {"response_words": sum(len(text.split()) for text in responses) / len(responses)}

WORDS = Probe(
    reads=("responses",),
    compute=words,
    columns=(ProbeColumn("response_words", "mean words of a response", "words", "≥ 0", "longer", "words"),),
)
""",
    "state_norm": """
import numpy as np
from pessimism.probes.parts.declaration import STATES, ProbeColumn, Probe

def norms(states):
    return {"state_norm": float(np.linalg.norm(states.states_NR_H, axis=1).mean())}

NORM = Probe(
    reads=(STATES,),
    compute=norms,
    columns=(ProbeColumn("state_norm", "mean norm of the states", "", "≥ 0", "longer", "norm", loss=True),),
)
""",
}


def test_a_file_is_a_probe_and_its_columns_are_known(tiny_world: Params, tmp_path: Path, add_file: AddFile) -> None:
    before = {name for column in all_columns() for name in column.names}
    for name, text in TOYS.items():
        add_file(ROOM, name, text)
    assert set(TOYS) < set(all_probes())
    save_random_adapter(tiny_world, tmp_path / "one", seed=1)
    record = probe(tiny_world, tmp_path / "one", tmp_path / "one")
    found = [column.values(record, tiny_world.protocol) for column in all_columns()]
    values = {name: value for columns in found for name, value in columns.items()}
    state_norm = ["state_norm_dpo", "state_norm_online", "state_norm_collapse"]
    assert set(values) - before == {"response_words", "response_words_online", *state_norm}
    assert values["response_words"] == record["dpo"]["response_words"] > 0
    layers = [member["penultimate"] for member in record["dpo"]["members"].values()]
    assert values["state_norm_dpo"] == pytest.approx(np.mean([layer["state_norm"] for layer in layers])) != 0
    assert values["state_norm_collapse"] == 0.0


def test_two_probes_of_one_name_are_refused(tiny_world: Params, tmp_path: Path, add_file: AddFile) -> None:
    add_file(ROOM, "again", TOYS["response_words"].replace('"response_words"', '"kl_to_base"'))
    with pytest.raises(DataError, match=r"found the columns \['kl_to_base', 'kl_to_base_online'\] twice"):
        all_columns()
    save_random_adapter(tiny_world, tmp_path / "one", seed=1)
    with pytest.raises(DataError, match=r"found the values \['kl_to_base'\], which another probe gives"):
        probe(tiny_world, tmp_path / "one", tmp_path / "one")


def test_a_value_that_was_not_probed_names_the_stage(tiny_world: Params) -> None:
    column = next(column for column in all_columns() if column.name == "kl_to_base")
    with pytest.raises(DataError, match="found no 'kl_to_base' for column kl_to_base.*dvc repro probe_policy"):
        column.values({"dpo": {"members": {"0": {"penultimate": {}}}}, "online": {}}, tiny_world.protocol)


@pytest.mark.parametrize("name", all_probes())
def test_a_probe_reads_what_there_is_to_read(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(Readings)}
    assert [
        reading for reading in all_probes()[name].reads if not hasattr(Readings, reading) | (reading in fields)
    ] == []


def test_every_cell_is_probed_on_the_same_rows(tiny_world: Params) -> None:
    tasks = pd.DataFrame({"question": [f"question {row}" for row in range(20)]})
    pairs = pd.DataFrame({"prompt": [f"prompt {row}" for row in range(20)], "chosen": ["x" * row for row in range(20)]})
    scale = dataclasses.replace(
        tiny_world.scale, probes=dataclasses.replace(tiny_world.scale.probes, prompts=None, references=9)
    )
    params = dataclasses.replace(tiny_world, scale=scale)
    first, second = (probe_set(params, tasks, tasks[:2], pairs, StillEnsemble()) for _ in range(2))
    assert first.prompts == second.prompts and len(set(first.prompts)) == len(first.prompts) == 5
    assert first.reference_count == 9 and len(first.heldout_prompts) == 2
    assert sorted(first.references) == [0, 1]
    every = dataclasses.replace(scale, probes=dataclasses.replace(scale.probes, prompts=20))
    drawn = probe_set(dataclasses.replace(params, scale=every), tasks, tasks[:2], pairs, StillEnsemble()).prompts
    assert len(set(drawn)) == 20


def test_shrinkage_keeps_the_trace_and_makes_few_rows_invertible() -> None:
    states = np.random.default_rng(0).normal(size=(6, 20)) * np.linspace(1, 3, 20)
    sample = np.cov(states.T, bias=True)
    shrunk = shrunk_covariance(states)
    assert np.trace(shrunk) == pytest.approx(np.trace(sample))
    assert np.linalg.matrix_rank(sample) == 5 and np.linalg.eigvalsh(shrunk).min() > 0
    many = np.random.default_rng(1).normal(size=(20_000, 4)) * [1, 2, 3, 4]
    assert shrunk_covariance(many) == pytest.approx(np.cov(many.T, bias=True), abs=0.02)


def test_reference_states_without_spread_are_refused() -> None:
    with pytest.raises(ValueError, match="without spread"):
        shrunk_covariance(np.ones((5, 3)))
