"""stages/check_params.py: what it prints of the plan before anything is spent."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from conftest import Edit
from pessimism.checks import preflight
from pessimism.experiment import layout


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
        # A plan that fails ends nothing.
        (
            "paper",
            "someone/pairs",
            r"no plan of the hours, and the run goes on without one: error: scales/paper\.yaml.*\n",
        ),
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
    assert re.fullmatch(expected, printed.out) and printed.err == ""
    assert layout.PARAMS_CHECKED.is_file()
