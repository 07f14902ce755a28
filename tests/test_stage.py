"""How a stage starts and ends: what its function is given, what it is refused for, what it leaves."""

from __future__ import annotations

from pessimism.machine.libraries import AVX2

import ast
import gc
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pessimism.checks import stage, startup
from pessimism.errors import DataError, ResourceError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell, RewardCell, parse_online_cell, parse_reward_cell
from pessimism.experiment.params import load_params
from support.endings import refused
from support.repository import CHECKOUT, python_files


@pytest.fixture
def called() -> list[tuple[Any, ...]]:
    """What the function of a stage was called with."""
    return []


def arguments(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/some.py", *text.split()])


def test_a_stage_that_runs_once_is_given_the_parameters(project: Path, called: list[tuple[Any, ...]]) -> None:
    gc.disable()  # as when the module was imported
    stage.main("report")(lambda *given: called.append(given))()
    assert called == [(load_params(),)]
    assert gc.isenabled()
    assert records.read_json(layout.RUN_RECORDS / "report.json")["cell"] == ""


@pytest.mark.parametrize(
    ("parse", "text", "cell"),
    [
        (parse_reward_cell, "--seed 1 --member 2", RewardCell(1, 2)),
        (parse_online_cell, "--label p20 --seed 1 --arm placebo", OnlineCell("p20", 1, "placebo")),
    ],
)
def test_a_cell_is_read_off_the_command_line_and_named_in_the_record(
    project: Path,
    called: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    parse: stage.Parse,
    text: str,
    cell: RewardCell | OnlineCell,
) -> None:
    arguments(monkeypatch, text)
    stage.main("some_stage", parse)(lambda *given: called.append(given))()
    assert called == [(load_params(), cell)]
    assert records.read_json(layout.RUN_RECORDS / f"some_stage@{cell.key}.json")["stage"] == "some_stage"


def test_help_is_the_docstring_of_the_script(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    arguments(monkeypatch, "--help")

    @stage.main("some_stage", parse_reward_cell)
    def main(*given: Any) -> None: ...

    with pytest.raises(SystemExit):
        main()
    assert (__doc__ or "?") in capsys.readouterr().out


def test_what_the_machine_lacks_is_said_before_anything_is_loaded(
    project: Path, called: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise ResourceError(f"no room for {name}")

    monkeypatch.setattr(startup, "check_stage", refuse)
    with refused("^error: no room for report$"):
        stage.main("report")(lambda *given: called.append(given))()
    assert called == [] and not layout.RUN_RECORDS.exists()


def test_an_error_raised_on_purpose_ends_a_stage_without_a_record(project: Path) -> None:
    def fail(*given: Any) -> None:
        raise DataError("found no rows")

    with refused("^error: found no rows$"):
        stage.main("report")(fail)()
    assert not layout.RUN_RECORDS.exists()


def test_a_stage_alone_sees_one_gpu(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    seen: list[str] = []
    stage.main("report")(lambda params: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))()
    assert seen == ["3"]


COMPUTES = """
import gc, os, sys
os.chdir(sys.argv[1])
sys.path.insert(0, "stages")
from pessimism.checks import stage
import numpy
matrix = numpy.ones((600, 600))
assert (matrix @ matrix)[0, 0] == 600  # where numpy has threads, it has started them by now
numpy_threads = len(os.listdir("/proc/self/task"))
import {script}
import torch
print(torch.get_num_threads(), numpy_threads, "bitsandbytes" in sys.modules, gc.isenabled())
"""


@pytest.mark.parametrize("script", ["measure_reference", "adapt_online"])
def test_a_stage_computes_with_one_thread_whatever_the_environment_says(script: str) -> None:
    """Another number of threads rounds otherwise. Nor is anything collected or loaded that need not be."""
    environment = {**os.environ, **{f"{library}_NUM_THREADS": "2" for library in ("OMP", "MKL", "OPENBLAS")}}
    done = subprocess.run(
        [sys.executable, "-c", COMPUTES.format(script=script), str(CHECKOUT)],
        env=environment | {"PYTHONPATH": str(CHECKOUT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-4:] == ["1", "1", "False", "False"]


INSTRUCTIONS = """
from pessimism.checks import stage
import torch
from numpy._core._multiarray_umath import __cpu_features__ as features
print(torch.backends.cpu.get_cpu_capability(), features["X86_V4"])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other CPUs have other instructions")
@pytest.mark.parametrize(("asked", "used"), [({}, "AVX2"), ({"ATEN_CPU_CAPABILITY": "default"}, "DEFAULT")])
def test_a_stage_computes_with_avx2_on_every_x86_cpu(asked: dict[str, str], used: str) -> None:
    """With AVX-512 a training takes another course. What a user asks for stays."""
    environment = {name: value for name, value in os.environ.items() if name not in AVX2}
    done = subprocess.run(
        [sys.executable, "-c", INSTRUCTIONS],
        env=environment | asked | {"PYTHONPATH": str(CHECKOUT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [used, "False"]


@pytest.mark.parametrize("script", python_files("stages"), ids=lambda path: path.stem)
def test_no_stage_imports_a_library_before_the_package_has_set_the_threads(script: Path) -> None:
    imported = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [getattr(node, "module", None) or node.names[0].name for node in imported]
    first = names.index("pessimism.checks")
    assert {name.partition(".")[0] for name in names[:first]} <= set(sys.stdlib_module_names)
