"""Layers that the stages compute with and those that the planner traces: the same modules, forwards and dtypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import Trainer

from pessimism.experiment.params import Params
from pessimism.models import training
from pessimism.models.adapters import DEFAULT, attach, lora_config
from pessimism.models.compute.generation import sample_responses
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.online.update import POLICY, REFERENCE
from pessimism.planning import bases
from pessimism.reward.ensemble import member_name
from support.pair_training import policy_trainer, reward_trainer
from support.random_models import save_random_adapter

MEMBERS = [member_name(0), member_name(1)]


def as_planned(params: Params, quantization: str) -> Params:
    """Mixed precision, as the paper's scale."""
    roles = {
        role: dataclasses.replace(params.scale.model(role), dtype="mixed", quantization=quantization)
        for role in ("policy", "reward")
    }
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, **roles))


def prepared(trainer: Trainer) -> PeftModel:
    training.prepare(trainer, "")
    return trainer.model


def attached(params: Params, role: str, names: Sequence[str], trainable: str | None) -> PeftModel:
    save_random_adapter(params, Path("adapter"), seed=1, role=role)
    base = {"policy": load_policy_base, "reward": load_reward_base}[role](params)
    return attach(base, dict.fromkeys(names, Path("adapter")), trainable)


def layers(model: PeftModel) -> dict[str, tuple[str, str, list[torch.dtype]]]:
    """Class, forward function and dtypes of every module of the decoder's layers, by path."""
    return {
        path: (
            type(module).__name__,
            module.forward.__qualname__,
            [parameter.dtype for parameter in module.parameters(recurse=False)],
        )
        for path, module in model.get_base_model().get_decoder().layers.named_modules()
    }


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    ("role", "make", "names", "trainable"),
    [
        ("policy", lambda params, *_: prepared(policy_trainer(params)), [DEFAULT], DEFAULT),
        ("policy", attached, [POLICY, REFERENCE], POLICY),
        ("reward", lambda params, *_: prepared(reward_trainer(params)), [DEFAULT], DEFAULT),
        ("reward", attached, MEMBERS, None),
    ],
    ids=["DPO", "online", "reward training", "ensemble"],
)
def test_the_planner_traces_the_layers_that_stages_compute(
    referenced_world: Params,
    quantization: str,
    role: str,
    make: Callable[..., PeftModel],
    names: list[str],
    trainable: str | None,
) -> None:
    params = as_planned(referenced_world, quantization)
    task, saved = {"policy": ("CAUSAL_LM", None), "reward": ("SEQ_CLS", ["score"])}[role]
    lora = lora_config(params.scale.model(role), 32, 48, task, saved)
    planned = layers(bases.adapted(bases.base(params, role), lora, names, trainable))
    assert layers(make(params, role, names, trainable)) == planned
    forwards = {forward for _, forward, _ in planned.values()}
    assert {"_fused_forward", "RMSNorm.forward"} <= forwards
    assert ("Linear4bit.forward" in forwards) == (quantization == "nf4")


def test_responses_are_drawn_with_adapters_that_are_rounded_once(
    referenced_world: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = as_planned(referenced_world, "none")
    model, seen = attached(params, "policy", [POLICY, REFERENCE], POLICY), set()
    generate = model.generate

    def dtypes() -> set[torch.dtype]:
        return {parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name}

    def watched(**options: object) -> object:
        seen.update(dtypes())
        return generate(**options)

    monkeypatch.setattr(model, "generate", watched)
    sample_responses(model, load_tokenizer(params, "policy"), ["1 + 1 ="], params, [0])
    assert seen == {torch.bfloat16}
    assert dtypes() == {torch.float32}
