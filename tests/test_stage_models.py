"""Models that the stages compute with and those that the planner traces: the same modules, forwards and dtypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import Trainer

from conftest import save_random_adapter
from pessimism.models import training
from pessimism.models.adapters import DEFAULT, attach, lora_config
from pessimism.models.generation import sample_responses
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.params import Params
from pessimism.planning import bases
from test_dpo import build, world  # noqa: F401  (world is a fixture)
from test_ensemble import fresh_trainer


def with_mixed_precision(params: Params) -> Params:
    roles = {role: dataclasses.replace(params.scale.model(role), dtype="mixed") for role in ("policy", "reward")}
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, **roles))


def attached(params: Params, role: str) -> PeftModel:
    save_random_adapter(params, Path("adapter"), seed=1, role=role)
    base = {"policy": load_policy_base, "reward": load_reward_base}[role](params)
    return attach(base, {DEFAULT: Path("adapter")}, trainable=None)


def prepared(trainer: Trainer) -> PeftModel:
    training.prepare(trainer, "")
    return trainer.model


def layers(model: PeftModel) -> dict[str, tuple[str, str, torch.dtype | None]]:
    """Class, forward function and dtype of every module of the decoder's layers, by path."""
    modules = model.get_base_model().get_decoder().layers.named_modules()
    return {
        path: (
            type(module).__name__,
            module.forward.__qualname__,
            next((parameter.dtype for parameter in module.parameters(recurse=False)), None),
        )
        for path, module in modules
    }


@pytest.mark.parametrize(
    ("role", "make"),
    [
        ("policy", lambda params: prepared(build(params))),
        ("policy", lambda params: attached(params, "policy")),
        ("reward", lambda params: prepared(fresh_trainer(params))),
        ("reward", lambda params: attached(params, "reward")),
    ],
    ids=["DPO", "online", "reward training", "ensemble"],
)
def test_the_planner_traces_what_stages_compute(
    world: Params,  # noqa: F811
    role: str,
    make: Callable[[Params], PeftModel],
) -> None:
    params = with_mixed_precision(world)
    task, saved = {"policy": ("CAUSAL_LM", None), "reward": ("SEQ_CLS", ["score"])}[role]
    lora = lora_config(params.scale.model(role), 32, 48, task, saved)
    planned = layers(bases.adapted(bases.base(params, role), lora, [DEFAULT], DEFAULT))
    assert layers(make(params)) == planned
    kinds = set(planned.values())
    assert ("Linear", "_fused_forward", None) in kinds
    assert ("RMSNorm", "RMSNorm.forward", torch.bfloat16) in kinds


def test_responses_are_drawn_with_adapters_that_are_rounded_once(
    world: Params,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = with_mixed_precision(world)
    model, seen = attached(params, "policy"), set()
    generate = model.generate

    def watched(**options: object) -> object:
        seen.update(parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name)
        return generate(**options)

    monkeypatch.setattr(model, "generate", watched)
    sample_responses(model, load_tokenizer(params, "policy"), ["1 + 1 ="], params, [0])
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name} == {torch.float32}
