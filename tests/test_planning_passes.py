"""Passes that the planner traces, with small models in place of the paper's: which they are and how they attend."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig

from pessimism.experiment.params import Params, load_params
from pessimism.models.adapters import trainable_parameters
from pessimism.offline import reference
from pessimism.planning import bases, passes, workload
from pessimism.planning.architectures import row_counts
from pessimism.planning.hardware import Assumptions
from pessimism.planning.passes import FEWEST_PROMPT_TOKENS, Pass, Tracer
from pessimism.planning.workload import StageWork, Workload

SMALL = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}


def with_small_models(params: Params, directory: Path) -> Params:
    AutoConfig.for_model("qwen3", **SMALL).save_pretrained(directory)
    small = {
        role: dataclasses.replace(params.scale.model(role), source="path", name=str(directory))
        for role in ("policy", "reward")
    }
    # The policy's batch of 16 is derived from its 14.8 billion parameters.
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, evaluation_batch_size=16, **small))


class Attention(NamedTuple):
    """How a kernel attends; ``shared``: whether heads of queries share one of keys."""

    masked: bool
    causal: bool
    shared: bool


CAUSAL = Attention(masked=False, causal=True, shared=False)
MASKED = Attention(masked=True, causal=False, shared=False)


class AttentionKernels(TorchDispatchMode):
    """Notes every forward attention kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[Attention] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._scaled_dot_product_efficient_attention.default:
            query, key, _, bias, *_ = args
            causal = len(args) > 6 and args[6]
            self.found.add(Attention(bias is not None, causal, query.shape[1] != key.shape[1]))
        if func is torch.ops.aten._scaled_dot_product_flash_attention.default:
            query, key, _, _, causal, *_ = args
            self.found.add(Attention(False, causal, query.shape[1] != key.shape[1]))
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def small(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The paper's scale with small models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        params = with_small_models(load_params(scale="paper"), tmp_path_factory.mktemp("model"))
        return Workload(params, row_counts(params, "scales/paper.yaml"), Assumptions())


class Traced(NamedTuple):
    """All stages, and by the names of their passes how these attend."""

    stages: dict[str, StageWork]
    attention: dict[str, set[Attention]]


@pytest.fixture(scope="module")
def traced(small: Workload) -> Traced:
    attention: dict[str, set[Attention]] = defaultdict(set)
    plain: Callable[..., Pass] = Tracer._trace

    def noted(tracer: Tracer, name: str, *args: Any, **options: Any) -> Pass:
        with AttentionKernels() as kernels:
            found = plain(tracer, name, *args, **options)
        attention[name] |= kernels.found
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracer, "_trace", noted)
        return Traced({work.name: work for work in small.stages()}, dict(attention))


def test_only_generation_and_pairs_in_one_row_are_masked_and_all_else_looks_back_alone(traced: Traced) -> None:
    # Prompts are padded on the left to be continued; all other texts on the right, where no mask is needed. In the row
    # of a pair the rejected text must not see the chosen one; the other training step is the online one, the other
    # log-probabilities are the beta grid's.
    assert traced.attention == {
        "log-probabilities": {CAUSAL, MASKED},
        "training step": {CAUSAL, MASKED},
        "reward scores": {CAUSAL},
        "held-out log-probabilities": {CAUSAL},
        "entropy and divergence": {CAUSAL},
        "reward representations": {CAUSAL},
        "generation, prompts": {MASKED},
        "generation, one token": {MASKED},
    }


GENERATION = ["generation, prompts", "generation, one token"]
PASSES = {
    "prepare_base": [],
    # The reference of every pair, and the texts of the beta grid.
    "measure_reference": ["log-probabilities", "log-probabilities"],
    "train_reward_model": ["training step"],
    "assess_ensemble": ["reward scores"],
    "measure_base": [*GENERATION, "reward scores"],
    # Validation pairs after the last step.
    "train_dpo": ["training step", "log-probabilities"],
    # Four rows a step and all held-out problems, each drawn and scored.
    "adapt_online": [
        *GENERATION,
        *GENERATION,
        "reward scores",
        "reward scores",
        "training step",
        "held-out log-probabilities",
    ],
    # Responses to probe prompts and to held-out problems; divergence over responses, entropy over prompts.
    "probe_policy": [
        *GENERATION,
        *GENERATION,
        "entropy and divergence",
        "entropy and divergence",
        "reward representations",
    ],
}


def test_every_stage_makes_the_passes_that_it_should(traced: Traced) -> None:
    found = {name: [use.traced.name for use in work.uses] for name, work in traced.stages.items()}
    assert found == PASSES
    assert all(use.calls > 0 for work in traced.stages.values() for use in work.uses)


@pytest.mark.parametrize(("stage", "pairs", "heads"), [("train_reward_model", 16, False), ("train_dpo", 4, True)])
def test_a_training_step_computes_the_prompt_of_a_pair_once(
    traced: Traced, stage: str, pairs: int, heads: bool
) -> None:
    step, *_ = traced.stages[stage].uses
    assert (step.traced.rows, step.traced.tokens) == (pairs, pairs * (2 * 640 - FEWEST_PROMPT_TOKENS))
    if heads:
        assert step.traced.scored == 2 * pairs * (640 - FEWEST_PROMPT_TOKENS)
    # 0.63 x 640 tokens a text, 36 % of them in the prompt.
    real = 2 * 0.63 * (1 - 0.36 / 2) * 640 / 1272
    padding = traced.stages[stage].hyperparameters["padded_over_real"]
    assert step.fill.positions == pytest.approx(real * padding, rel=0.05)
    assert step.fill.positions**2 < step.fill.squares < step.fill.positions


def test_texts_that_may_not_share_a_row_are_traced_as_two(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (passes, workload, reference):
        monkeypatch.setattr(module, "shares_prefixes", lambda config: False)
    with AttentionKernels() as kernels:
        step, *_ = small.train_dpo().uses
    assert (step.traced.rows, step.traced.tokens) == (2 * 4, 2 * 4 * 640)
    assert kernels.found == {CAUSAL}


def test_the_beta_grid_scores_prompts_too(traced: Traced) -> None:
    pairs, grid = traced.stages["measure_reference"].uses
    # Rows of pairs score 2 x 632 of their 1,272 tokens at the most.
    assert pairs.fill.positions == pytest.approx(grid.fill.positions, rel=0.05)
    assert pairs.fill.scored == pytest.approx(0.755, abs=0.005)
    assert grid.fill.scored == pytest.approx(0.975, abs=0.005)


@pytest.mark.parametrize(
    ("stage", "role"), [("train_reward_model", "reward"), ("train_dpo", "policy"), ("adapt_online", "policy")]
)
def test_training_holds_a_gradient_and_two_moments_of_every_trained_parameter(
    traced: Traced, small: Workload, stage: str, role: str
) -> None:
    adapter = bases.adapter_of(small.params, role, bases.full_base(small.params, role), small.rows.train_pairs)
    model = bases.adapted(bases.base(small.params, role), adapter, ["trained"], "trained")
    trained = sum(parameter.numel() for parameter in trainable_parameters(model))
    resident = traced.stages[stage].resident
    assert trained > 0
    assert (resident["gradients"], resident["optimiser"]) == (4 * trained, 2 * 4 * trained)
    assert resident["adapters"] >= 4 * trained


def test_without_training_no_gradient_and_no_moment_is_held(traced: Traced) -> None:
    held = {name for name, work in traced.stages.items() if {"gradients", "optimiser"} & work.resident.keys()}
    assert held == {"train_reward_model", "train_dpo", "adapt_online"}
