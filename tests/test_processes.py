"""Several processes that share one training: the same rows, the same adapter, one writer."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, OnlineCell, RewardCell
from pessimism.experiment.params import Params, load_params
from pessimism.machine import sharing
from pessimism.models.adapters import WEIGHTS_FILE
from pessimism.models.loading import hash_once, load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.resolving import record_base
from pessimism.models.training import batch_parts
from pessimism.offline.reference import dpo_reference
from support.endings import refused
from support.online_world import random_adapter, tasks
from support.random_models import save_model, small_config
from support.repository import CHECKOUT, Edit
from support.stage_files import write_stage_files

CELL = DpoCell("p50", 0)
CHECKPOINT = Path("models/dpo/checkpoint")  # of test_online's runs
LAUNCHERS = {
    1: [sys.executable],
    2: [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    + ["--num_processes", "2", "--mixed_precision", "no", "--dynamo_backend", "no"],
}


def as_process(monkeypatch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


@pytest.mark.parametrize(("rows", "count"), [(7, 3), (2, 2), (5, 1), (3, 4)])
def test_shares_are_all_rows_once_and_in_order(monkeypatch: pytest.MonkeyPatch, rows: int, count: int) -> None:
    shares = []
    for rank in range(count):
        as_process(monkeypatch, rank, count)
        shares.append(list(sharing.share(rows)))
    assert sum(shares, []) == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("batch", "accumulation", "micro", "rows", "count", "expected"),
    [
        (8, 28, None, 48_504, 1, (8, 28)),  # as derived
        (8, 28, None, 1_001, 1, (8, 28)),
        (8, 28, 1, 48_504, 1, (1, 224)),
        (8, 28, 4, 48_504, 1, (4, 56)),  # scales/paper.yaml
        (8, 28, 2, 48_504, 1, (2, 112)),  # scales/24gb.yaml
        (64, 1, 8, 48_504, 1, (8, 8)),  # likewise
        (64, 1, 16, 48_504, 1, (16, 4)),  # scales/paper.yaml: the last step has parts of 16, 16, 16 and 8
        (64, 1, 24, 48_504, 1, (16, 4)),
        (64, 1, 16, 48_504, 2, (4, 8)),  # which two processes could not share
        (8, 28, None, 48_504, 2, (4, 28)),  # 8 would leave one process without a last batch
        (8, 28, None, 48_504, 8, (1, 28)),
        (64, 1, None, 48_504, 4, (2, 8)),
        (32, 1, 64, 1_600, 1, (32, 1)),
    ],
)
def test_parts_of_a_batch_leave_every_optimiser_step_its_rows(
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    accumulation: int,
    micro: int | None,
    rows: int,
    count: int,
    expected: tuple[int, int],
) -> None:
    as_process(monkeypatch, 0, count)
    assert batch_parts(batch, accumulation, micro, rows) == expected
    assert expected[0] * expected[1] * count == batch * accumulation


def test_a_number_of_processes_that_divides_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_process(monkeypatch, 0, 5)
    with pytest.raises(ParamsError, match=r"found 5 processes; .* batch of 224 .* 48504 rows .*: 1, 2, 4, 8$"):
        batch_parts(8, 28, None, 48_504)


@pytest.fixture
def world(tiny_world: Params, edit: Edit) -> Params:
    """Inputs of every stage that several processes may share, without dropout, whose masks are those of a batch."""
    edit("scales/tiny.yaml", "online.batch_size", 6)
    edit("scales/tiny.yaml", "online.steps", 3)
    edit("params.yaml", "ensemble_members", [0, 1])
    params = load_params()
    for role in ("policy", "reward"):
        record = records.read_json(layout.base_record(role)) | {"parameters": 20_000}
        records.write_json(layout.base_record(role), record)
    write_inputs(params)
    return params


@pytest.fixture
def four_bit_world(tiny_world: Params, edit: Edit) -> Params:
    """The same with a 4-bit base whose layers are computed again, as at the paper's scale."""
    save_model(small_config("qwen3"), Path("model"))
    for role in ("policy", "reward"):
        for key, value in {"source": "path", "name": "model", "quantization": "nf4"}.items():
            edit("scales/tiny.yaml", f"{role}.{key}", value)
    edit("scales/tiny.yaml", "dpo.gradient_checkpointing", True)
    edit("scales/tiny.yaml", "online.batch_size", 6)
    params = load_params()
    hash_once.cache_clear()
    for role in ("policy", "reward"):
        record_base(params, role)
    write_inputs(params)
    return params


def write_inputs(params: Params) -> None:
    model, tokenizer = load_policy_base(params), load_tokenizer(params, "policy")
    splits = {split: records.read_table(layout.preferences(split)) for split in ("train", "val")}
    records.write_table(layout.REFERENCE_LOGPS, dpo_reference(model, tokenizer, splits, params))
    records.write_json(layout.BETA_GRID, {"p50": 0.7})
    for split in ("train", "heldout", "test"):
        records.write_table(layout.tasks(split), tasks(9))
    records.write_json(layout.REWARD_MEMBERS_RECORD, {"s0": {"0": {}, "1": {}}})
    write_stage_files("train_dpo", "train_reward_model", "adapt_online")


def launch(count: int, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "src"), "OMP_NUM_THREADS": "1"}
    command = [*LAUNCHERS[count], *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def check_same_adapters(first: Path, second: Path) -> None:
    ours, theirs = load_file(first / WEIGHTS_FILE), load_file(second / WEIGHTS_FILE)
    assert ours.keys() == theirs.keys()
    for name, weights in ours.items():
        np.testing.assert_allclose(theirs[name], weights, atol=2e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "directory"),
    [
        (["stages/train_dpo.py", "--label", "p50", "--seed", "0"], layout.dpo_adapter(CELL)),
        (["stages/train_reward_model.py", "--seed", "0", "--member", "1"], layout.reward_member(RewardCell(0, 1))),
    ],
    ids=["train_dpo", "train_reward_model"],
)
def test_two_processes_train_the_adapter_of_one(world: Params, arguments: list[str], directory: Path) -> None:
    launch(1, *arguments)
    directory.rename("alone")
    launch(2, *arguments)
    check_same_adapters(Path("alone"), directory)
    alone, shared = (records.read_json(layout.training_record(path)) for path in (Path("alone"), directory))
    assert shared["hyperparameters"] == alone["hyperparameters"]
    assert shared["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert shared.get("validation") == pytest.approx(alone.get("validation"), abs=1e-4)


@pytest.mark.slow
def test_two_processes_train_a_4_bit_policy_as_one_does(four_bit_world: Params) -> None:
    """To the rounding of bfloat16, which differs with the rows of a pass and which AdamW turns into whole steps."""
    arguments, directory = ["stages/train_dpo.py", "--label", "p50", "--seed", "0"], layout.dpo_adapter(CELL)
    launch(1, *arguments)
    directory.rename("alone")
    launch(2, *arguments)
    alone, shared = (records.read_json(layout.training_record(path)) for path in (Path("alone"), directory))
    assert shared["losses"] == pytest.approx(alone["losses"], abs=1e-3)
    assert max(alone["losses"]) - min(alone["losses"]) > 5e-3


@pytest.fixture
def trained(world: Params) -> Params:
    """The world with a random checkpoint and random reward members."""
    for directory in (layout.dpo_adapter(CELL), CHECKPOINT):
        random_adapter(load_policy_base(world), world, "CAUSAL_LM", directory, "dpo")
    for cell in world.ensemble(0):
        random_adapter(load_reward_base(world), world, "SEQ_CLS", layout.reward_member(cell), f"member-{cell.member}")
    return world


@pytest.mark.slow
def test_two_processes_adapt_the_policy_of_one(trained: Params) -> None:
    cell = OnlineCell("p50", 0, "proxy")
    arguments = ["stages/adapt_online.py", "--label", "p50", "--seed", "0", "--arm", "proxy"]
    launch(1, *arguments)
    alone = records.read_table(layout.trajectory(cell))
    layout.online_adapter(cell).rename("alone")
    layout.trajectory(cell).unlink()
    launch(2, *arguments)
    check_same_adapters(Path("alone"), layout.online_adapter(cell))
    pd.testing.assert_frame_equal(records.read_table(layout.trajectory(cell)), alone, rtol=1e-3, atol=1e-4)
    watched = pd.read_json(layout.live_rows(cell), lines=True)  # written by one of the two, and not twice
    pd.testing.assert_frame_equal(watched[["step", "prompt_set"]], alone[["step", "prompt_set"]])
    start = load_file(layout.dpo_adapter(cell.dpo) / WEIGHTS_FILE)
    assert all((load_file(Path("alone") / WEIGHTS_FILE)[name] != weights).any() for name, weights in start.items())


@pytest.mark.parametrize(
    "arguments",
    [
        ["stages/train_dpo.py", "--label", "p50", "--seed", "0"],
        ["stages/train_reward_model.py", "--seed", "0", "--member", "1"],
        ["stages/adapt_online.py", "--label", "p50", "--seed", "0", "--arm", "proxy"],
    ],
    ids=["train_dpo", "train_reward_model", "adapt_online"],
)
def test_too_many_processes_are_refused_before_anything_is_trained(
    world: Params, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    as_process(monkeypatch, 0, 8)
    with refused("launcher: found 8 processes; expected at most 6"):
        runpy.run_path(arguments[0], run_name="__main__")
