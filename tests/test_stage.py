"""How a stage starts and ends: what its function is given, what it is refused for, what it leaves."""

from __future__ import annotations

import os
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


@pytest.fixture
def called() -> list[tuple[Any, ...]]:
    """What the function of a stage was called with."""
    return []


def arguments(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/some.py", *text.split()])


def test_a_stage_that_runs_once_is_given_the_parameters(project: Path, called: list[tuple[Any, ...]]) -> None:
    stage.main("report")(lambda *given: called.append(given))()
    assert called == [(load_params(),)]
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
