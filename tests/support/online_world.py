"""Online runs in the tiny world, of random adapters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import torch

from pessimism.data import embedded_world
from pessimism.experiment import layout, rng
from pessimism.experiment.cells import OnlineCell
from pessimism.experiment.params import Params
from pessimism.models.adapters import attach, lora_config, save_adapter
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.online.hyperparameters import OnlineHyperparameters
from pessimism.online.loop import OnlineRun
from pessimism.online.objective import find_objective
from pessimism.online.update import POLICY, REFERENCE
from pessimism.reward.ensemble import RewardEnsemble

HYPERPARAMETERS = OnlineHyperparameters(
    batch_size=6, steps=3, measure_every=1, learning_rate=1e-2, weight_decay=0.01, clip_norm=1.0
)

QUIET = {"policy_dropout": False, "reward_dropout": False}


def random_adapter(base: torch.nn.Module, params: Params, task_type: str, directory: Path, name: str) -> None:
    """Write an adapter whose every weight is random: a fresh one would be the base."""
    from peft import get_peft_model

    rng.seed_torch(0, name)
    heads = ["score"] if task_type == "SEQ_CLS" else None
    config = lora_config(params.scale.policy, base.config.hidden_size, 48, task_type, heads)
    model = get_peft_model(base, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    save_adapter(model, "default", directory)


def tasks(n: int) -> pd.DataFrame:
    rows = embedded_world.task_rows(rng.generator(0, "online-test"), n)
    answers = [row["answer"].split("#### ")[1] for row in rows]
    return pd.DataFrame(
        {
            "task_id": [f"task-{row}" for row in range(n)],
            "question": [row["question"] for row in rows],
            "answer": answers,
        }
    )


def with_protocol(params: Params, **switches: object) -> Params:
    return dataclasses.replace(params, protocol=dataclasses.replace(params.protocol, **switches))


def make_run(
    params: Params, arm: str = "proxy", percentile: int = 50, objective_name: str | None = None, **changes: object
) -> OnlineRun:
    """A run of steps as in HYPERPARAMETERS, but for ``changes``; the parameters' objective unless one is named."""
    checkpoint = Path("models/dpo/checkpoint")
    problems = tasks(24)
    chosen = dataclasses.replace(HYPERPARAMETERS, **changes)
    learning_rate = params.arm(arm).learning_rate_factor * chosen.learning_rate
    return OnlineRun(
        params=params,
        cell=OnlineCell(f"p{percentile}", 0, arm),
        beta=1.0,
        model=attach(load_policy_base(params), {REFERENCE: checkpoint, POLICY: checkpoint}, trainable=POLICY),
        tokenizer=load_tokenizer(params, "policy"),
        ensemble=RewardEnsemble.load(params, 0),
        training_tasks=problems.iloc[:16],
        heldout_tasks=problems.iloc[16:],
        hyperparameters=dataclasses.replace(chosen, learning_rate=learning_rate),
        objective=find_objective(objective_name or params.online.objective),
    )


def write_random_models(params: Params) -> None:
    """A random DPO adapter and random reward members of seed 0."""
    random_adapter(load_policy_base(params), params, "CAUSAL_LM", Path("models/dpo/checkpoint"), "dpo")
    for cell in params.ensemble(0):
        random_adapter(load_reward_base(params), params, "SEQ_CLS", layout.reward_member(cell), f"member-{cell.member}")
