"""How a stage or a command ends that was interrupted, found a full disk, or finds its like still running."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pessimism import cli, errors
from pessimism.checks import stage
from pessimism.errors import DataError, NonFiniteError, ResourceError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import parse_dpo_cell
from pessimism.experiment.params import Params
from pessimism.machine import running
from support.endings import refused
from support.online_world import make_run
from support.repository import CHECKOUT

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
STAGE = """
from pessimism.checks import stage
{imports}
@stage.main("some_stage")
def main(params):
    {body}
main()
"""


def start(body: str, imports: str = "") -> subprocess.Popen[str]:
    """A stage in a process of its own, which an interrupt reaches where the tests themselves run in the background."""
    command = [sys.executable, "-c", STAGE.format(body=body, imports=imports)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT / "src")}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


# Interrupts


@pytest.mark.parametrize("where", ["body", "imports"])
def test_an_interrupted_stage_says_one_line(project: Path, where: str) -> None:
    """While it computes, and while it still imports what it computes with."""
    statement = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(600)"
    process = start(**{"body": "pass", where: statement})
    wait_for(Path("begun"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert said == f"{errors.INTERRUPTED}\n"
    assert process.returncode in (130, -signal.SIGINT)
    assert not list(layout.RUN_RECORDS.glob("*"))


def test_an_interrupted_command_says_one_line(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pessimism.checks.preflight.check", interrupted)
    with pytest.raises(SystemExit) as raised:
        cli.main(["check"])
    assert raised.value.code == 130 and capsys.readouterr().err == f"{errors.INTERRUPTED}\n"


# A full disk


@pytest.mark.parametrize(
    "error", [FULL, OSError(errno.EDQUOT, "quota"), RuntimeError("I/O error: No space left on device (os error 28)")]
)
def test_a_full_disk_is_told_in_one_line(project: Path, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    with refused(f"^{errors.FULL_DISK}$"):
        stage.main("some_stage")(fail)()


def test_another_error_keeps_its_traceback(project: Path) -> None:
    process = start("raise OSError(5, 'Input/output error')")
    assert "Traceback" in process.communicate()[1]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.json"])
def test_a_disk_that_fills_up_leaves_the_old_file_and_no_half_of_the_new(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layout.DATA / name
    write = records.write_json if name.endswith("json") else records.write_table
    new: Any = {"a": 2} if name.endswith("json") else pd.DataFrame({"a": [2]})
    write(path, {"a": 1} if name.endswith("json") else pd.DataFrame({"a": [1]}))
    before = {file: file.read_bytes() for file in layout.DATA.iterdir()}

    def full(partial: Path, *_: object, **__: object) -> None:
        Path(partial).write_bytes(b"ha")
        raise FULL

    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda _, partial, **__: full(partial))
    monkeypatch.setattr("pessimism.experiment.digests.write_parquet", full)
    if name.endswith("json"):
        monkeypatch.setattr(os, "replace", lambda *_: full(path.with_name("other.partial")))
    with pytest.raises(OSError, match="No space left"):
        write(path, new)
    Path(layout.DATA / "other.partial").unlink(missing_ok=True)
    assert {file: file.read_bytes() for file in layout.DATA.iterdir()} == before


# A stage that still runs


def test_a_stage_whose_dvc_was_killed_is_noticed_by_the_next_run(project: Path) -> None:
    """The process goes on as an orphan: its lock is its own, and ends with it however it ends."""
    orphan = start("import pathlib, time; pathlib.Path('begun').touch(); time.sleep(600)")
    wait_for(Path("begun"))
    told = rf"some_stage \(process {orphan.pid} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\).*`kill {orphan.pid}`$"
    second = start("raise AssertionError('two of one stage')")
    _, said = second.communicate()
    assert second.returncode == 2 and re.search(told, said.strip()) and "Traceback" not in said
    assert start("pass").communicate()[1] == said, "a refused one does not take the lock away"
    with refused(told):
        cli.main(["check"])
    orphan.kill()
    orphan.wait()
    third = start("pass")
    assert third.communicate() == ("", "") and third.returncode == 0
    cli.main(["check"])


def test_cells_of_one_stage_run_beside_one_another(tmp_path: Path) -> None:
    both = "train_dpo@p20-s0 .*train_dpo@p20-s1"
    with (
        running.alone(tmp_path, "train_dpo@p20-s0"),
        running.alone(tmp_path, "train_dpo@p20-s1"),
        pytest.raises(ResourceError, match=both),
    ):
        running.check_none(tmp_path)
    running.check_none(tmp_path)


def test_processes_that_share_a_training_are_one_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running.alone(layout.STAGE_LOCKS, "some_stage"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        stage.main("some_stage")(lambda params: None)()


# Numbers that are not finite


def test_an_error_names_the_cell_that_it_is_about(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DataError("found no rows")

    monkeypatch.setattr(sys, "argv", ["some.py", "--label", "p20", "--seed", "1"])
    with refused("^error: train_dpo@p20-s1: found no rows$"):
        stage.main("train_dpo", parse_dpo_cell)(fail)()


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        ("policy", "step 0, heldout: found kl_k1 nan.*: the policy has diverged, so lower online.learning_rate"),
        ("reward", "step 0, heldout: found proxy_reward nan.*: a reward model gives such scores"),
        ("later", "step 1, batch: found loss nan; .*: the policy has diverged"),
        ("gradient", "step 0, batch: found gradient norm inf; expected finite numbers: the policy has diverged"),
    ],
)
def test_a_number_that_is_not_finite_ends_an_online_run_with_step_quantity_and_cause(
    trained_world: Params, poison: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    run = make_run(trained_world)
    if poison == "policy":
        fresh = run.model.get_parameter(next(name for name, _ in run.model.named_parameters() if "policy" in name))
        fresh.data.fill_(float("nan"))
        monkeypatch.setattr(run, "_roll_out_all", poisoned_roll_out(run))
    elif poison == "reward":
        score = run.ensemble.score
        monkeypatch.setattr(run.ensemble, "score", lambda *given: score(*given) * float("nan"))
    elif poison == "later":
        monkeypatch.setattr("pessimism.online.loop.accumulate_gradients", poisoned_from_step_1())
    else:
        for parameter in run.model.parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
    weights = [parameter.detach().clone() for parameter in run.model.parameters()]
    with pytest.raises(NonFiniteError, match=message):
        run.train()
    if poison == "gradient":
        pairs = zip(run.model.parameters(), weights, strict=True)
        assert all(torch.equal(now, before) for now, before in pairs), "nothing was updated"


def poisoned_roll_out(run: Any) -> Any:
    """Responses of the reference: a policy of nans draws none."""
    from pessimism.models.adapters import use_adapter
    from pessimism.online.rollout import roll_out
    from pessimism.online.update import REFERENCE

    def of_reference(purpose: str, tasks: dict[int, pd.DataFrame]) -> Any:
        with use_adapter(run.model, REFERENCE):
            return [
                roll_out(run.model, run.tokenizer, run.ensemble, posed, run.params, list(range(len(posed))))
                for posed in tasks.values()
            ]

    return of_reference


def poisoned_from_step_1() -> Any:
    from pessimism.online import loop

    calls, genuine = [0], loop.accumulate_gradients

    def accumulate(passes: Any, *given: Any) -> Any:
        compared, kappa, loss = genuine(passes, *given)
        calls[0] += 1
        if calls[0] > 1:
            for parameter in passes.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(float("nan"))
            loss = float("nan")
        return compared, kappa, loss

    return accumulate
