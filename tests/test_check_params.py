"""What is said and refused before anything is spent: the plan of the first stage, batches that cannot be shared."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from conftest import Edit
from pessimism.checks import launch, preflight
from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.online.objective import find_objective


@pytest.fixture
def first_stage(checkout: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """stages/check_params.py where everything that it checks is in order."""
    monkeypatch.setenv("PYTHONPATH", str(checkout / "src"))
    monkeypatch.setattr(preflight, "check", lambda params: None)
    spec = importlib.util.spec_from_file_location("check_params", checkout / "stages" / "check_params.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("scale", "name", "expected"),
    [
        ("paper", None, r"(no CUDA device here; )?planned on one .*: \d+ hours \(reward models \d.*\n.*\n"),
        ("paper", "someone/pairs", ""),  # a plan that fails ends nothing
        ("tiny", None, ""),
    ],
)
def test_the_first_stage_prints_the_hours_of_a_scale_for_gpus(
    first_stage: ModuleType,
    edit: Edit,
    capfd: pytest.CaptureFixture[str],
    scale: str,
    name: str | None,
    expected: str,
) -> None:
    edit("params.yaml", "scale", scale)
    if name is not None:
        edit(f"scales/{scale}.yaml", "preferences.name", name)
    first_stage.main()
    printed = capfd.readouterr()
    assert re.fullmatch(expected, printed.out)
    assert printed.err.startswith("error: scales/paper.yaml") if name else printed.err == ""
    assert layout.PARAMS_CHECKED.is_file()


def test_a_batch_holds_whole_prompts(project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Responses that are left over would be dropped from every step without a word."""
    records.write_json(layout.base_record("policy"), {"parameters": 1000})
    monkeypatch.setattr(launch, "find_objective", lambda name: replace(find_objective(name), samples_per_prompt=4))
    edit("scales/tiny.yaml", "online.batch_size", 8)
    launch.check_processes(load_params())
    edit("scales/tiny.yaml", "online.batch_size", 6)
    with pytest.raises(ParamsError, match=r"online\.batch_size: found 6 responses; expected a multiple of 4"):
        launch.check_processes(load_params())
