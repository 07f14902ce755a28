"""A training that is ended anywhere and run again gives the bytes of one that was not."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell, RewardCell
from pessimism.experiment.params import Params
from pessimism.models import training, unfinished
from pessimism.models.adapters import trainable_parameters
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.unfinished import Keeper, KeptResults
from pessimism.offline import reference
from pessimism.online.loop import OnlineRun
from pessimism.reward import bradley_terry
from support.online_world import make_run
from support.pair_training import train_policy, with_dpo, with_reward_training
from support.project_copy import Project, new_project
from support.repository import CHECKOUT, Edit


class Killed(BaseException):
    """What no code catches, as nothing catches SIGKILL."""


@pytest.fixture(autouse=True)
def keep_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unfinished.EVERY_SECONDS, "0")


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in trainable_parameters(model)]


def kill_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """End every training of a trainer when the state after ``step`` has been kept."""

    class Kill(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                raise Killed

    prepare = training.prepare
    monkeypatch.setattr(
        training, "prepare", lambda trainer, text: (prepare(trainer, text), trainer.add_callback(Kill()))
    )


OFFLINE = ("dpo", "epsilon_dpo", "kto", "orpo", "simpo")


@pytest.mark.parametrize("objective", OFFLINE)
def test_an_offline_training_goes_on(objective: str, referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    params = with_dpo(referenced_world, epochs=2)
    offline = dataclasses.replace(params.offline, objective=objective)
    policy = dataclasses.replace(params.scale.policy, lora_dropout=0.1)
    params = dataclasses.replace(params, offline=offline, scale=dataclasses.replace(params.scale, policy=policy))
    whole, told = train_policy(params, "whole")
    steps = len(told["losses"])
    assert steps > 4
    with monkeypatch.context() as killing, pytest.raises(Killed):
        kill_after(killing, steps // 2 + 1)
        train_policy(params, "cut")
    assert Keeper(Path("cut")).latest() is not None
    again, told_again = train_policy(params, "cut")
    assert told_again == told
    assert all(map(torch.equal, weights(again), weights(whole)))


def test_a_reward_training_goes_on(tiny_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    params = with_reward_training(tiny_world, dropout=0.1, epochs=2)

    def train(directory: str) -> tuple[Any, dict[str, Any]]:
        pairs = records.read_table(layout.preferences("train"))
        base, tokenizer = load_reward_base(params), load_tokenizer(params, "reward")
        return bradley_terry.train_member(params, RewardCell(0, 1), base, tokenizer, pairs, Path(directory))

    whole, told = train("whole")
    with monkeypatch.context() as killing, pytest.raises(Killed):
        kill_after(killing, 3)
        train("cut")
    again, told_again = train("cut")
    assert told_again == told
    assert all(map(torch.equal, weights(again), weights(whole)))


def online_bytes(run: OnlineRun) -> tuple[str, str, str]:
    """What the stage writes of a run."""
    samples = pd.concat(run.samples).to_csv(index=False)
    return pd.DataFrame(run.rows).to_csv(index=False), samples, repr(run.rollouts)


RUNS = [("proxy", "reinforce"), ("uncoupled", "adaptive"), ("kl_budget", "rloo")]


@pytest.mark.parametrize("killed_before", [1, 3, 4])
@pytest.mark.parametrize(("arm", "objective"), RUNS)
def test_an_online_run_goes_on(
    arm: str, objective: str, killed_before: int, trained_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"steps": 5, "batch_size": 8, "objective_name": objective}
    whole = make_run(trained_world, arm, **changes)
    whole.train()
    cut = make_run(trained_world, arm, **changes)
    cut.kept = Keeper(Path("kept"))
    with monkeypatch.context() as killing, pytest.raises(Killed):
        killing.setattr(OnlineRun, "_update", dying(OnlineRun._update, killed_before))
        cut.train()
    again = make_run(trained_world, arm, **changes)
    again.kept = Keeper(Path("kept"))
    steps: list[int] = []
    with monkeypatch.context() as watching:
        watching.setattr(OnlineRun, "_update", noting(OnlineRun._update, steps))
        again.train()
    assert steps == list(range(killed_before, 5))
    assert online_bytes(again) == online_bytes(whole)
    assert all(map(torch.equal, weights(again.model), weights(whole.model)))


def dying(update: Callable[..., Any], step: int) -> Callable[..., Any]:
    """``update``, which is killed in the middle of ``step``."""

    def dies(run: OnlineRun, now: int, *rest: Any) -> Any:
        if now == step:
            raise Killed
        return update(run, now, *rest)

    return dies


def noting(update: Callable[..., Any], steps: list[int]) -> Callable[..., Any]:
    """``update``, which writes down its steps."""

    def notes(run: OnlineRun, now: int, *rest: Any) -> Any:
        steps.append(now)
        return update(run, now, *rest)

    return notes


def folder_with(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "state").write_text(text) and None


def test_the_last_whole_state_stays_where_the_next_one_fails(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.keep(9, folder_with("nine"))
    keeper.keep(10, folder_with("ten"))
    assert [path.name for path in tmp_path.iterdir()] == ["step-10"]

    def full_disk(folder: Path) -> None:
        (folder / "state").write_text("ele")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        keeper.keep(11, full_disk)
    latest = Keeper(tmp_path).latest()
    assert latest is not None and (latest / "state").read_text() == "ten"


def test_what_a_kill_left_half_written_is_cleared(project: Path) -> None:
    made_of(project)
    directory = unfinished.open_directory("adapt_online", CELL)
    Keeper(directory).keep(3, folder_with("three"))
    for name in ("partial", "checkpoint-4", "step-2"):
        (directory / name).mkdir()
    assert unfinished.open_directory("adapt_online", CELL) == directory
    assert sorted(path.name for path in directory.iterdir()) == ["fingerprint.txt", "step-3"]


def test_a_state_is_kept_again_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unfinished.EVERY_SECONDS, "100")
    keeper = Keeper(tmp_path)
    assert not keeper.is_due()
    keeper.kept_at -= 100
    assert keeper.is_due()
    keeper.keep(1, folder_with("one"))
    assert not keeper.is_due()


CELL = OnlineCell("p50", 0, "proxy")


def made_of(project: Path) -> None:
    """The code and the inputs that dvc.yaml lists of CELL."""
    for folder in ("src", "stages"):
        shutil.copytree(CHECKOUT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__", "design"))
    for path in ("data/inputs/adapt_online.json", "data/tasks/train.parquet", "models/base/policy.json"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("{}")
    for folder in ("models/reward/s0", "models/dpo/p50-s0"):
        (project / folder).mkdir(parents=True)
        (project / folder / "adapter.safetensors").write_text("weights")
    records.write_json(layout.BETA_GRID, {"p50": 1.0})
    records.write_json(layout.REWARD_MEMBERS_RECORD, {"s0": {"mean": 0.5}})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("data/inputs/adapt_online.json", '{"code": 1}'),
        ("data/tasks/train.parquet", "other"),
        ("models/dpo/p50-s0/adapter.safetensors", "other"),
        ("models/reward/s0/adapter.safetensors", "other"),
        ("metrics/beta_grid.json", '{"p50": 2.0}'),
        ("metrics/reward_members.json", '{"s0": {"mean": 0.6}}'),
    ],
)
def test_work_on_other_inputs_is_not_taken_up(path: str, text: str, project: Path) -> None:
    made_of(project)
    directory = unfinished.open_directory("adapt_online", CELL)
    Keeper(directory).keep(3, folder_with("three"))
    assert Keeper(unfinished.open_directory("adapt_online", CELL)).latest() is not None
    (project / path).write_text(text)
    assert Keeper(unfinished.open_directory("adapt_online", CELL)).latest() is None


def test_an_arms_own_parameters_and_no_others_are_its_inputs(project: Path, edit: Edit) -> None:
    made_of(project)
    before = unfinished.fingerprint("adapt_online", CELL)
    edit("protocols/paper.yaml", "arms.uncoupled.learning_rate_factor", 2.0)
    assert unfinished.fingerprint("adapt_online", CELL) == before
    edit("protocols/paper.yaml", "arms.proxy.learning_rate_factor", 2.0)
    assert unfinished.fingerprint("adapt_online", CELL) != before


def test_finished_work_is_forgotten(project: Path) -> None:
    made_of(project)
    directory = unfinished.open_directory("adapt_online", CELL)
    Keeper(directory).keep(3, folder_with("three"))
    unfinished.remove(directory)
    assert not directory.exists()


def test_measuring_goes_on_with_the_same_values(tiny_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is computed once, before the kill or after it."""
    splits = {split: records.read_table(layout.preferences(split)) for split in ("train", "val")}
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")

    def measure(kept: KeptResults | None) -> list[str]:
        tables = (
            reference.dpo_reference(model, tokenizer, splits, tiny_world, kept),
            reference.grid_reference(model, tokenizer, splits["train"], tiny_world, kept),
        )
        return [table.to_json(double_precision=15) for table in tables]

    computed = 0
    batch_sums = reference._batch_sums

    def counted(*batch: Any, **options: Any) -> Any:
        nonlocal computed
        if computed == killed_at:
            raise Killed
        computed += 1
        return batch_sums(*batch, **options)

    monkeypatch.setattr(reference, "_batch_sums", counted)
    killed_at = -1
    whole = measure(None)
    batches, computed, killed_at = computed, 0, computed - 2
    with pytest.raises(Killed):
        measure(KeptResults(Keeper(Path("kept"))))
    killed_at = -1
    assert measure(KeptResults(Keeper(Path("kept")))) == whole
    assert computed == batches > 4


def test_a_stage_without_cells_takes_up_no_work_of_other_code(project: Path) -> None:
    made_of(project)
    for path in ("data/preferences/train.parquet", "models/base/reward.json"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("{}")
    with pytest.raises(Killed), unfinished.kept_work("measure_reference") as kept:
        kept.keep(3, folder_with("three"))
        raise Killed
    assert Keeper(unfinished.open_directory("measure_reference")).latest() is not None
    (project / "src/pessimism/offline/reference.py").write_text("# another\n")
    with unfinished.kept_work("measure_reference") as kept:
        assert kept.latest() is None
    assert not kept.directory.exists()


@pytest.mark.slow
def test_a_stage_that_is_killed_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    """The script of each long stage, ended by SIGKILL after every state that it keeps, until it ends by itself."""
    project = new_project(tmp_path / "project")
    project.dvc("repro", "adapt_online@20-0-proxy")
    stages: dict[str, tuple[list[str], list[str]]] = {
        "measure_reference": ([], ["data/reference"]),
        "assess_ensemble": ([], ["metrics/ensemble.json", "metrics/reward_members.json"]),
        "train_reward_model": (["--seed", "0", "--member", "1"], ["models/reward/s0/member-1"]),
        "train_dpo": (["--label", "p20", "--seed", "0"], ["models/dpo/p20-s0"]),
        "adapt_online": (
            ["--label", "p20", "--seed", "0", "--arm", "proxy"],
            ["data/online/p20-s0-proxy", "models/online/p20-s0-proxy"],
        ),
    }
    for stage, (cell, outputs) in stages.items():
        command = [sys.executable, f"stages/{stage}.py", *cell]
        before = content(project.root, outputs)
        for path in outputs:
            remove(project.root / path)
        kills = 0
        while killed_when_kept(project, command):
            kills += 1
        assert kills >= 2, stage
        assert content(project.root, outputs) == before, stage
        assert not list((project.root / layout.UNFINISHED).iterdir()), stage


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def content(root: Path, outputs: list[str]) -> dict[str, bytes]:
    found = (path for output in outputs for path in (root / output, *(root / output).rglob("*")))
    files = (path for path in found if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def killed_when_kept(project: Project, command: list[str]) -> bool:
    """Run ``command`` until it has kept a state that was not there, and kill it; False where it ended well before."""
    kept = project.root / layout.UNFINISHED
    before = {path.name for path in kept.glob("*/step-*")}
    environment = {**os.environ, unfinished.EVERY_SECONDS: "0", "PYTHONPATH": str(project.root / "src")}
    process = subprocess.Popen(command, cwd=project.root, env=environment)
    while process.poll() is None:
        if {path.name for path in kept.glob("*/step-*")} - before:
            process.kill()
        time.sleep(0.002)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def test_trainings_that_processes_share_are_not_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their samplers know no epoch of a state that is taken up, and their clocks differ."""
    made_of(project)
    directory = unfinished.open_directory("adapt_online", CELL)
    Keeper(directory).keep(3, folder_with("three"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not Keeper(directory).is_due()
    assert Keeper(unfinished.open_directory("adapt_online", CELL)).latest() is None


def test_work_whose_removal_was_ended_is_nobodys(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_of(project)
    directory = unfinished.open_directory("adapt_online", CELL)
    Keeper(directory).keep(3, folder_with("three"))

    def killed(path: Path) -> None:
        raise Killed

    with monkeypatch.context() as killing, pytest.raises(Killed):
        killing.setattr(shutil, "rmtree", killed)
        unfinished.remove(directory)
    assert Keeper(unfinished.open_directory("adapt_online", CELL)).latest() is None


@pytest.mark.parametrize("asked", ["often", "-1", "nan"])
def test_no_time_between_states_is_refused(asked: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unfinished.EVERY_SECONDS, asked)
    with pytest.raises(ParamsError, match=f"PESSIMISM_KEEP_SECONDS: found '{asked}'; expected seconds, 0 or more"):
        unfinished.open_directory("adapt_online", CELL)


def test_other_code_or_another_device_takes_up_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the record of shared inputs is older than the code."""
    made_of(project)
    before = unfinished.fingerprint("adapt_online", CELL)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "another")
    assert unfinished.fingerprint("adapt_online", CELL) != before
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert unfinished.fingerprint("adapt_online", CELL) == before
    (project / "src/pessimism/online/loop.py").write_text("# another\n")
    assert unfinished.fingerprint("adapt_online", CELL) != before
