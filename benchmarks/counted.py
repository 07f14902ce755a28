"""B0: counters of the micro pipeline with three betas, stage by stage, and of padding at real lengths."""

from __future__ import annotations

import dataclasses
import runpy
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import yaml

from benchmarks import worlds
from benchmarks.counters import Work, counting
from benchmarks.preferences import Pairs, world
from benchmarks.rows import Row, counter_row
from pessimism.experiment import inputs, layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.reward.ensemble import RewardEnsemble

DESIGN = {
    "scale": "micro",
    "protocol": "controlled",  # its log-probabilities are of all sampled tokens, ends included
    "beta_percentiles": [20, 50, 80],
    "seeds": [0],
    "ensemble_members": [0, 1],
    "arms": ["proxy"],
}
MICRO: dict[str, dict[str, Any]] = {
    "embedded": {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "steps": 10, "batch_size": 16},
    "policy": {"lora_dropout": 0.0},
    "reward": {"lora_dropout": 0.0},
    "preferences": {"limit": 96},
    "tasks": {"train_limit": 32, "test_limit": 16, "heldout": 8},
    "lengths": {"response": 24},
    "dpo": {"batch_size": 16},
    "reward_training": {"batch_size": 16, "epochs": 1},
    "online": {"batch_size": 4, "steps": 2, "heldout_every": 2},
    "best_of_n": {"draws": 4, "prompts": 4},
}


@contextmanager
def micro_project() -> Iterator[Params]:
    """The checkout's parameters at micro size in a temporary working directory."""
    with worlds.temporary_directory() as directory:
        for name in ("scales", "protocols", "src", "stages"):
            shutil.copytree(worlds.CHECKOUT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(worlds.CHECKOUT / layout.PIPELINE, directory)
        design = yaml.safe_load((worlds.CHECKOUT / "params.yaml").read_text())
        Path("params.yaml").write_text(yaml.safe_dump(design | DESIGN))
        scale = yaml.safe_load(Path("scales/tiny.yaml").read_text())
        for section, values in MICRO.items():
            scale[section] |= values
        Path("scales/micro.yaml").write_text(yaml.safe_dump(scale))
        for stage in ("train_reward_model", "train_dpo", "adapt_online"):
            records.write_json(layout.shared_inputs(stage), inputs.shared_inputs(stage))
        yield load_params()


def run_stage(name: str, *arguments: str) -> Work:
    """Run one stage script to its end in this process; returns what it computed."""
    script = str(worlds.CHECKOUT / "stages" / f"{name}.py")
    with mock.patch.object(sys, "argv", [script, *arguments]), counting() as work:
        runpy.run_path(script, run_name="__main__")
    return work


def run_stages(params: Params) -> dict[str, list[Work]]:
    """Run every stage that holds a model, in order: stage -> the work of each of its cells."""
    work: dict[str, list[Work]] = {}

    def run(name: str, *arguments: object) -> None:
        work.setdefault(name, []).append(run_stage(name, *map(str, arguments)))

    for name in ("prepare_data", "prepare_base", "sample_pairs", "measure_reference", "derive_beta_grid"):
        run(name)
    for reward in params.reward_cells():
        run("train_reward_model", "--seed", reward.seed, "--member", reward.member)
    run("assess_ensemble")
    run("measure_base")
    for cell in params.dpo_cells():
        run("train_dpo", "--label", cell.label, "--seed", cell.seed)
    for online in params.online_cells():
        run("adapt_online", "--label", online.label, "--seed", online.seed, "--arm", online.arm)
    for cell in params.dpo_cells():
        run("probe_policy", "--label", cell.label, "--seed", cell.seed)
    return work


def measure_stages() -> list[Row]:
    """Reference forwards, loads and head rows of the micro pipeline."""
    with micro_project() as params:
        work = run_stages(params)
        drawn = sum(int(pd.read_csv(layout.trajectory(cell))["tokens"].sum()) for cell in params.online_cells())
        return stage_rows(
            params, work, records.read_table(layout.REFERENCE_LOGPS), records.read_table(layout.GRID_LOGPS), drawn
        )


def stage_rows(
    params: Params, work: dict[str, list[Work]], reference: pd.DataFrame, grid: pd.DataFrame, drawn: int
) -> list[Row]:
    """The counters of every stage against what the tables say is to be computed.

    The beta grid's log-probabilities are of other texts, prompts included, and so no reference of DPO.

    Args:
        drawn: tokens of all responses that the online runs sampled; policy and reference score each once.
    """
    (measured,) = work["measure_reference"]
    answers = _completion_tokens(reference)
    # The beta grid's are taken in two precisions.
    scored = sum(answers.values()) + 2 * int((grid["chosen_tokens"] + grid["rejected_tokens"] - 2).sum())
    trained = work["train_dpo"]
    trained_rows = sum(step.head_rows for step in trained)
    online = work["adapt_online"]
    online_rows = sum(step.head_rows - step.generated_rows for step in online)
    # What prepare_base does is training from scratch, and a check of the head against the model's own forward.
    running = [step for name, steps in work.items() for step in steps if name != "prepare_base"]
    loads = [count for steps in work.values() for step in steps for count in step.loads.values()]
    per_cell = params.scale.dpo.epochs * answers["train"] + answers["val"]
    return [
        counter_row("B0 reference forwards / pairs", (measured.reference - 2 * len(grid)) / len(reference), "= 1"),
        counter_row("B0 reference forwards in training, 3 betas", sum(step.reference for step in trained), "= 0"),
        counter_row("B0 loads of one base in one process, at most", max(loads), "<= 1"),
        counter_row("B0 head rows / completion tokens, reference", measured.head_rows / scored, "= 1"),
        counter_row("B0 head rows / completion tokens, DPO", trained_rows / len(trained) / per_cell, "= 1"),
        counter_row("B0 head rows / completion tokens, online", online_rows / (2 * drawn), "= 1"),
        counter_row("B0 positions with whole logits, all stages", sum(w.whole_rows for w in running), "= 0"),
    ]


def _completion_tokens(reference: pd.DataFrame) -> dict[str, int]:
    """Tokens of both responses of every pair, by split."""
    tokens = reference["chosen_ids"].map(len) + reference["rejected_ids"].map(len)
    return {str(split): int(count) for split, count in tokens.groupby(reference["split"]).sum().items()}


def measure_padding() -> list[Row]:
    """Padded over real tokens at the full real lengths: DPO and reward training, and passes over single sequences."""
    with world(worlds.TINY, shrink=1) as params:
        params = with_batches(params)
        pairs = Pairs.make(params, 256, shrink=1)
        with counting() as measured:
            reference = pairs.reference()
        with counting() as trained:
            pairs.train(reference, 0.1)
        with counting() as rewarded:
            pairs.train_member()
        worlds.save_members(params)
        ensemble = RewardEnsemble.load_raw(params, params.seeds[0])
        with counting() as scored:
            ensemble.score(list(pairs.table["prompt"]), list(pairs.table["chosen"]))
    return [
        counter_row("B0 padded / real tokens, DPO", trained.padding, "<= 1.20"),
        counter_row("B0 padded / real tokens, reward training", rewarded.padding, "<= 1.08"),
        counter_row("B0 padded / real tokens, reference", measured.padding, "<= 1.08"),
        counter_row("B0 padded / real tokens, scoring", scored.padding, "<= 1.08"),
    ]


def with_batches(params: Params) -> Params:
    """What scales/paper.yaml sets or derives: steps of 224 pairs, 4 a pass; of 64 for the reward models, 16 a pass."""
    dpo = dataclasses.replace(params.scale.dpo, batch_size=8, accumulation=28, micro_batch_size=4)
    reward = dataclasses.replace(params.scale.reward_training, batch_size=64, micro_batch_size=16)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, dpo=dpo, reward_training=reward))
