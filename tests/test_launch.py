"""Online batches that cannot be shared out as the objective asks are refused before anything is trained."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from conftest import Edit
from pessimism.checks import launch
from pessimism.checks.launcher import check_launcher
from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.online.objective import find_objective


def test_a_batch_holds_whole_prompts(project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Responses that are left over would be dropped from every step without a word."""
    records.write_json(layout.base_record("policy"), {"parameters": 1000})
    monkeypatch.setattr(launch, "find_objective", lambda name: replace(find_objective(name), samples_per_prompt=4))
    edit("scales/tiny.yaml", "online.batch_size", 8)
    launch.check_processes(load_params())
    edit("scales/tiny.yaml", "online.batch_size", 6)
    with pytest.raises(ParamsError, match=r"online\.batch_size: found 6 responses; expected a multiple of 4"):
        launch.check_processes(load_params())


def test_a_batch_has_as_many_problems_as_prompts(project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its prompts are all different: NumPy would refuse to draw them after every checkpoint had been trained."""
    records.write_json(layout.base_record("policy"), {"parameters": 1000})
    records.write_table(layout.tasks("test"), pd.DataFrame({"task_id": ["a", "b", "c"]}))
    edit("scales/tiny.yaml", "online.batch_size", 3)
    launch.check_processes(load_params())
    edit("scales/tiny.yaml", "online.batch_size", 4)
    message = r"online\.batch_size: found batches of 4 prompts; expected at most 3, the problems in data/tasks/test"
    with pytest.raises(ParamsError, match=message):
        launch.check_processes(load_params())
    monkeypatch.setattr(launch, "find_objective", lambda name: replace(find_objective(name), samples_per_prompt=2))
    launch.check_processes(load_params())


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        ("python -I -S", "ended with status 1 .*No module named 'pessimism'"),
        ("cat", "which started no script"),
        ("sleep 5 && python", "has not ended after"),
    ],
)
def test_a_launcher_that_starts_no_stage_is_refused(
    launcher: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_launcher("python")
    check_launcher("env ANY=1 python -u")
    if launcher.startswith("sleep"):
        monkeypatch.setattr("pessimism.checks.launcher.SECONDS", 0.2)
    with pytest.raises(ParamsError, match=re.escape(f"params.yaml: launcher: found {launcher!r}") + ".*" + message):
        check_launcher(launcher)
