"""Shots from the rows to the ids: those of the scale stand before every sampled prompt, and must fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from pessimism.checks.shots import check_prompts_fit
from pessimism.data.prompts import after_shots, plain_ids
from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.models.compute.generation import sample_responses
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.rollout import score
from pessimism.probes.parts.distributions import prompt_entropies
from pessimism.tasks.parts.posing import posed, read_shots
from pessimism.tasks.parts.problems import load_problems
from support import online_world
from support.random_models import save_config, small_config


def with_tasks(params: Params, **changes: object) -> Params:
    tasks = dataclasses.replace(params.scale.tasks, **changes)
    lengths = dataclasses.replace(params.scale.lengths, prompt=300, response=8, sequence=400)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, tasks=tasks, lengths=lengths))


@pytest.fixture
def shown(tiny_world: Params) -> tuple[Params, pd.DataFrame]:
    """A scale with two shots, which are written, and four problems."""
    params = with_tasks(tiny_world, shots=2, train_limit=8, test_limit=4, heldout=2)
    problems = load_problems(params.scale.tasks, 42).rows
    records.write_table(layout.tasks("shots"), pd.DataFrame(problems["shots"]))
    return params, pd.DataFrame(problems["test"])


def test_every_sampled_and_probed_prompt_begins_with_the_shots(shown: tuple[Params, pd.DataFrame]) -> None:
    params, problems = shown
    model, tokenizer, prompts = (
        load_policy_base(params),
        load_tokenizer(params, "policy"),
        posed(problems["question"], params),
    )
    shots = read_shots(params)
    assert len(shots) == 2 and all("####" in shot.solution for shot in shots)
    expected = [plain_ids(tokenizer, after_shots(prompt, shots)) for prompt in prompts]
    drawn = sample_responses(model, tokenizer, prompts, params, range(4))
    assert drawn.prompt_ids == expected
    bare = with_tasks(params, shots=0)
    assert sample_responses(model, tokenizer, prompts, bare, range(4)).prompt_ids == [
        plain_ids(tokenizer, prompt) for prompt in prompts
    ]
    assert (
        prompt_entropies(model, tokenizer, prompts, params)[0] != prompt_entropies(model, tokenizer, prompts, bare)[0]
    ).all()


def test_reward_models_read_the_question_and_no_shots(shown: tuple[Params, pd.DataFrame]) -> None:
    params, problems = shown
    online_world.write_random_models(params)
    run = online_world.make_run(params)
    asked: list[list[str]] = []
    real = run.ensemble.score

    def watched(prompts: list[str], responses: list[str], seed: int | None) -> object:
        asked.append(prompts)
        return real(prompts, responses, seed)

    run.ensemble.score = watched  # type: ignore[method-assign]
    drawn = sample_responses(run.model, run.tokenizer, posed(problems["question"], params), params, range(4))
    score(drawn, run.ensemble, problems, params)
    assert asked == [[question.strip() for question in problems["question"]]]


def test_shots_that_do_not_fit_are_refused_before_a_run(shown: tuple[Params, pd.DataFrame], tmp_path: Path) -> None:
    params, _ = shown
    save_config(small_config("llama"), tmp_path / "model")
    policy = dataclasses.replace(params.scale.policy, source="path", name=str(tmp_path / "model"))
    scale = dataclasses.replace(params.scale, policy=policy)
    problems = load_problems(scale.tasks, 42).rows
    check_prompts_fit(dataclasses.replace(params, scale=scale), problems)
    short = dataclasses.replace(scale, lengths=dataclasses.replace(scale.lengths, prompt=60))
    with pytest.raises(ParamsError, match=r"tokens with its 2 shots .*expected at most lengths.prompt \(60\)"):
        check_prompts_fit(dataclasses.replace(params, scale=short), problems)
