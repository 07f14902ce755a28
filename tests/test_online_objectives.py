"""Online objectives: each is held against the trainer of TRL's that has its name, or against numbers worked by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks import grpo, trl_peer, worlds
from benchmarks.online import CHECKPOINT
from pessimism.experiment.params import LengthParams, Params
from pessimism.measures.epsilon import EPS
from pessimism.models.adapters import use_adapter
from pessimism.models.compute.logprobs import TokenLogps, pad_pairs, response_logps
from pessimism.models.loading import load_tokenizer
from pessimism.online.objective import OnlineObjective, find_objective
from pessimism.online.objectives import adaptive, reinforce, rloo
from pessimism.online.objectives import grpo as group_relative
from support.online_world import QUIET, make_run, with_protocol

BETA = 0.7
ENDS = list(range(worlds.TINY.vocabulary // 2, worlds.TINY.vocabulary))  # so that responses differ in length
PROMPTS = [" ".join(f"t{word}" for word in range(3, 3 + length)) for length in (2, 5)]


@pytest.fixture(scope="module")
def world() -> Iterator[Params]:
    with grpo.world(worlds.TINY, LengthParams(prompt=40, response=8, sequence=48)) as params:
        yield with_protocol(params, temperature=1.0)  # TRL's log-probabilities are at the one of the draws


def rewards_of(completion_ids: list[list[int]]) -> list[float]:
    """No two of a group are alike."""
    return [sum(ids) % 7 + len(ids) + row / 8 for row, ids in enumerate(completion_ids)]


def trl_trainer(params: Params, name: str, samples: int) -> Any:
    """TRL's trainer, the policy of which has gone some way from its reference."""

    def reward(*, completion_ids: list[list[int]], **_: Any) -> list[float]:
        return rewards_of(completion_ids)

    tokenizer = load_tokenizer(params, "policy")
    trainer = trl_peer.online_trainer(
        name, params, CHECKPOINT, PROMPTS, samples, 1, BETA, tokenizer, reward, Path("trl")
    )
    trainer.eos_token_ids = trainer.generation_config.eos_token_id = ENDS
    trainer.current_gradient_accumulation_steps = 1
    generator = torch.Generator().manual_seed(1)
    for parameter in policy_parameters(trainer.model):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return trainer


def policy_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for name, parameter in model.named_parameters() if ".default." in name]


def gradient(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, policy_parameters(model))])


def our_loss(objective: OnlineObjective, trainer: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of the responses that TRL drew, by the order of the loop."""
    rows = [
        (ids[kept.bool()].tolist(), drawn[scored.bool()].tolist())
        for ids, kept, drawn, scored in zip(
            *(batch[key] for key in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")), strict=True
        )
    ]
    prompts, responses = zip(*rows, strict=True)
    assert len({len(ids) for ids in responses}) > 1
    pairs, model = pad_pairs(prompts, responses, worlds.EOS, torch.device("cpu")), trainer.model
    policy = response_logps(model, pairs)
    with torch.no_grad(), use_adapter(model, "ref"):
        reference = response_logps(model, pairs)
    log_ratios = (policy.sums - reference.sums).detach()
    assert log_ratios.abs().min() > 0.01
    kappa = objective.coefficient(BETA, log_ratios, 50, 0.0)
    rewards = torch.tensor(rewards_of(list(responses)))
    advantages = objective.advantages(objective.penalized_rewards(rewards, log_ratios, kappa))
    return objective.loss(policy, reference, advantages, kappa)


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_the_gradient_is_that_of_trls_trainer(world: Params, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of responses that TRL draws, rewards and weighs by itself; relative to its norm, 1e-5.

    TRL adds 1e-4 to a deviation, which would be 1e-4 of an advantage of GRPO's, and we our epsilon.
    """
    monkeypatch.setattr(group_relative, "EPS", 1e-4)
    objective = find_objective(name)
    trainer = trl_trainer(world, name, objective.samples_per_prompt)
    trainer.model.train()
    rows = [{"prompt": prompt} for prompt in PROMPTS for _ in range(objective.samples_per_prompt)]
    batch = trainer._generate_and_score_completions(rows)
    theirs = gradient(trainer.model, trainer._compute_loss(trainer.model, batch))
    ours = gradient(trainer.model, our_loss(objective, trainer, batch))
    assert theirs.norm() > 0.1
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def token_logps(rows: list[list[float]]) -> TokenLogps:
    logps = torch.tensor(rows, requires_grad=True)
    return TokenLogps(logps, torch.zeros(logps.shape), logps.detach() != 0)


def test_the_baseline_of_rloo_leaves_the_response_itself_out() -> None:
    rewards = torch.tensor([3.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0])
    assert rloo.advantages(rewards).tolist() == [3.0, -1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.0]


def test_the_penalty_of_rloo_is_part_of_the_reward() -> None:
    rewards = rloo.penalized_rewards(torch.tensor([1.0, 1.0]), torch.tensor([2.0, -1.0]), torch.tensor(0.5))
    assert rewards.tolist() == [0.0, 1.5]


def test_the_advantages_of_grpo_are_standardised_within_a_group() -> None:
    found = group_relative.advantages(torch.tensor([3.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0]))
    assert found.tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5, 0.0, 0.0, 0.0, 0.0])


def test_grpo_weighs_responses_alike_and_penalises_every_token() -> None:
    policy, reference = token_logps([[-1.0, -2.0], [-3.0, 0.0]]), token_logps([[-1.0, -2.0], [-4.0, 0.0]])
    loss = group_relative.loss(policy, reference, torch.tensor([1.0, 2.0]), torch.tensor(10.0))
    # 1.5 for the one response, 6 + 10 (e^-1 - 1 + 1) for the other
    assert loss.item() == pytest.approx((1.5 + 6 + 10 * 0.36787944) / 2)
    (weights,) = torch.autograd.grad(loss, policy.logps_B_T)
    assert weights[0].tolist() == [-0.25, -0.25]
    assert weights[1, 0].item() == pytest.approx(-1 + 5 * (1 - 0.36787944), rel=1e-5)


def test_the_coefficient_is_the_numerator_where_eq_10_has_no_part(trained_world: Params) -> None:
    for name in ("grpo", "rloo"):
        assert find_objective(name).coefficient(0.3, torch.tensor([4.0, 5.0]), 50, 9.0).item() == pytest.approx(0.3)


def test_the_adaptive_beta_falls_where_disagreement_grows_and_never_rises() -> None:
    assert adaptive.OBJECTIVE.numerator(0.6, 1.0) == 0.6
    assert adaptive.OBJECTIVE.numerator(0.6, 2.0) == pytest.approx(0.3)
    assert adaptive.OBJECTIVE.numerator(0.6, 0.5) == 0.6
    assert reinforce.OBJECTIVE.numerator(0.6, 2.0) == 0.6


def test_an_adaptive_run_follows_its_own_first_batch(trained_world: Params) -> None:
    """Kappa of every step is that of Eq. 10 by as much smaller as disagreement has grown since step 0."""
    run = make_run(with_protocol(trained_world, **QUIET), objective_name="adaptive", steps=6)
    numerators: list[float] = []

    def kept(numerator: float, log_ratios: torch.Tensor, *others: float) -> torch.Tensor:
        numerators.append(numerator)
        return adaptive.OBJECTIVE.coefficient(numerator, log_ratios, *others)

    run.objective = dataclasses.replace(run.objective, coefficient=kept)
    run.train()
    rows = pd.DataFrame(run.rows)
    stds = rows.loc[rows["prompt_set"] == "batch", "ensemble_std"].to_numpy()
    assert stds.max() > stds[0]
    assert numerators == pytest.approx([1 / max(1.0, (std + EPS) / (stds[0] + EPS)) for std in stds])


@pytest.mark.parametrize("name", ["grpo", "rloo", "adaptive"])
@pytest.mark.parametrize("arm", ["proxy", "placebo"])
def test_a_run_is_measured_and_trained_by_every_objective(trained_world: Params, name: str, arm: str) -> None:
    """And the same in parts that cut a prompt's responses apart."""
    found = []
    for part in (None, 3):
        online = dataclasses.replace(trained_world.scale.online, micro_batch_size=part)
        scale = dataclasses.replace(trained_world.scale, online=online)
        params = with_protocol(dataclasses.replace(trained_world, scale=scale), **QUIET)
        run = make_run(params, arm, objective_name=name, batch_size=8)
        run.train()
        found.append(pd.DataFrame(run.rows))
    batches = found[0][found[0]["prompt_set"] == "batch"]
    assert (batches["prompts"] == 8).all() and batches["penalty_ratio"].notna().all()
    assert (batches["kl_k3"].iloc[1:] > 0).all() == (arm == "proxy")
    pd.testing.assert_frame_equal(*found, rtol=1e-3, atol=1e-5)
